package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
	"github.com/waveproxy/waveproxy/internal/flight"
)

const (
	// helperTimeout bounds one run of a helper, which may ask a cloud, or a person, and
	// helperPatience the wait for it to begin.
	helperTimeout  = 30 * time.Second
	helperPatience = 20 * time.Second
	// An answer is good for as long as a changed credential may go unnoticed, a
	// failure for as long as a burst of pulls takes.
	helperTTL   = time.Minute
	helperPause = 5 * time.Second

	keptAnswers = 256
	// Helpers that run at a time. A client chooses the registry, and so how many
	// different answers it needs.
	maxHelpers         = 16
	maxHelpersOfClient = 4
	helpersWaiting     = 32
	allHelpersWaiting  = 128
)

// running lets clients take turns with the helpers of all configurations.
var running = fairqueue.New(fairqueue.Options{
	Slots: maxHelpers, PerClient: maxHelpersOfClient, Waiting: helpersWaiting, AllWaiting: allHelpersWaiting,
})

// helpers asks the credential helpers of one configuration, and keeps their answers
// for a moment. It is safe for concurrent use.
type helpers struct {
	now     func() time.Time
	answers *lru.Cache[string, helperAnswer] // by helper and address
	flights flight.Calls
}

type helperAnswer struct {
	credential Credential
	err        error
	until      time.Time
}

func newHelpers() *helpers {
	answers, err := lru.New[string, helperAnswer](keptAnswers)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &helpers{now: time.Now, answers: answers}
}

// get returns what the helper has for the address, from memory or from one run for
// all concurrent callers. No credential is the zero Credential.
func (h *helpers) get(ctx context.Context, helper, address string) (Credential, error) {
	key := helper + " " + address
	if a, ok := h.answers.Get(key); ok && h.now().Before(a.until) {
		return a.credential, a.err
	}
	return flight.Do(ctx, &h.flights, key, helperPatience+helperTimeout, func(ctx context.Context) (Credential, error) {
		if a, ok := h.answers.Get(key); ok && h.now().Before(a.until) {
			return a.credential, a.err // another run has just ended
		}
		done, err := mayRun(ctx)
		if err != nil {
			return Credential{}, err
		}
		defer done()
		a := helperAnswer{until: h.now().Add(helperTTL)}
		if a.credential, a.err = runHelper(ctx, helper, address); a.err != nil {
			a.until = h.now().Add(helperPause)
		}
		h.answers.Add(key, a)
		return a.credential, a.err
	})
}

// mayRun waits until a client that wants the answer may have a process. An error is *budget.Exceeded.
func mayRun(ctx context.Context) (done func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, helperPatience)
	defer cancel()
	leave, err := running.EnterFor(waiting, "", func(joined func(string)) func() { return budget.Watch(ctx, joined) }, "")
	switch {
	case errors.Is(err, fairqueue.ErrFull):
		return nil, &budget.Exceeded{Kind: budget.Processes, Scope: budget.OfClient, Limit: maxHelpersOfClient, RetryAfter: helperPause}
	case err != nil:
		return nil, &budget.Exceeded{Kind: budget.Processes, Scope: budget.OfAll, Limit: maxHelpers, RetryAfter: helperPause}
	}
	release, err := budget.From(ctx).Hold(budget.Processes, 1)
	if err != nil {
		leave()
		return nil, err
	}
	return func() { release(); leave() }, nil
}

// helperName is the program of a helper, as Docker names it.
func helperName(helper string) string { return "docker-credential-" + helper }

// notFound is how helpers say that they have no credential.
const notFound = "credentials not found in native keychain"

// runHelper asks a helper by its protocol: the address on its input, JSON on its
// output. At the deadline the helper is killed with all that it has started.
func runHelper(ctx context.Context, helper, address string) (Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, helperName(helper), "get")
	cmd.Stdin, cmd.Stderr = strings.NewReader(address), os.Stderr
	endWithChildren(cmd)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return Credential{}, ctx.Err()
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has answered; what it left behind, an agent, keeps its output open
	}
	if err != nil {
		said := string(bytes.TrimSpace(out))
		if _, exited := errors.AsType[*exec.ExitError](err); !exited || said == "" {
			return Credential{}, err
		}
		if said == notFound {
			return Credential{}, nil
		}
		return Credential{}, errors.New(said)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return Credential{}, fmt.Errorf("its answer is not valid: %w", err)
	}
	if answer.Username == "<token>" {
		return Credential{IdentityToken: answer.Secret}, nil
	}
	return Credential{Username: answer.Username, Password: answer.Secret}, nil
}
