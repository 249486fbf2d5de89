package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// attackVar has the attack, as JSON, in the environment of an attacker's process.
const attackVar = "SOAK_ATTACK"

// known is what an attacker knows.
type known struct {
	URL        string // of the server
	PID        int    // to count its helpers
	Good, Evil string // hosts of the registries
	Token      string // the path of the honest clients' image
	Layers     []ocispec.Descriptor
	Secret     map[digest.Digest]int64 // layers of a tenant's own image, and their sizes
	CacheSize  int64
}

// order is an attack to run.
type order struct {
	Name string
	known
}

// result is what an attacker found.
type result struct {
	Requests int64 // that were answered
	Foreign  int64 // bytes of other tenants
	Helpers  int   // that ran at once
}

var answered atomic.Int64

// TestMain runs an attacker in place of the tests when it is told to. Attackers
// have a process of the lowest priority, because what they do to the machine
// themselves is not what the soak measures.
func TestMain(m *testing.M) {
	text := os.Getenv(attackVar)
	if text == "" {
		os.Exit(m.Run())
	}
	var o order
	must(json.Unmarshal([]byte(text), &o))
	must(syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19))
	s := &soak{known: o.known}
	var err error
	s.evil, err = startRegistry(o.Evil, 0)
	must(err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for _, a := range attacks() {
		if a.name == o.Name {
			a.run(ctx, s)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	must(json.NewEncoder(os.Stdout).Encode(result{answered.Load(), s.foreign.Load(), s.helpers}))
}

// attacker is the process of one.
type attacker struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

func (s *soak) startAttacker(t *testing.T, name string) *attacker {
	t.Helper()
	a := &attacker{cmd: exec.Command(os.Args[0])}
	a.cmd.Env = append(os.Environ(), attackVar+"="+string(encode(order{name, s.known})))
	a.cmd.Stdout, a.cmd.Stderr = &a.out, os.Stderr
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return a
}

// stop ends the attack and returns what it found.
func (a *attacker) stop(t *testing.T) (found result) {
	t.Helper()
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = a.cmd.Process.Kill() })
	defer late.Stop()
	if err := a.cmd.Wait(); err != nil {
		t.Fatalf("the attacker: %v", err)
	}
	if err := json.Unmarshal(a.out.Bytes(), &found); err != nil {
		t.Fatalf("the attacker says %q: %v", a.out.String(), err)
	}
	return found
}
