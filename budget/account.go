package budget

import (
	"math"
	"sync"
	"time"
)

// window is how long it takes until what was spent is forgiven.
const window = time.Minute

// busyRetry is when held resources may be free again.
const busyRetry = 5 * time.Second

// Ledger keeps the accounts of all clients. It is safe for concurrent use and
// keeps only clients that hold something or have spent something lately.
type Ledger struct {
	limits Limits
	now    func() time.Time

	mu       sync.Mutex
	accounts map[string]*account // of clients
	groups   map[string]*account
	all      account
	swept    time.Time
}

// account is what a client, a group of them, or all hold and have spent.
type account struct {
	held  [heldKinds]int64
	spent [kinds]float64
	at    time.Time // up to when spent was forgiven
}

// NewLedger returns a Ledger with these limits.
func NewLedger(limits Limits) *Ledger {
	return &Ledger{limits: limits, now: time.Now, accounts: map[string]*account{}, groups: map[string]*account{}}
}

// Held returns what all requests together hold of a kind, for metrics.
func (l *Ledger) Held(k Kind) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.held[k]
}

// Limits returns the limits, for metrics and messages.
func (l *Ledger) Limits() Limits { return l.limits }

// account returns the account of the name, from the clients or the groups.
func (l *Ledger) account(of map[string]*account, name string) *account {
	a, ok := of[name]
	if !ok {
		a = &account{at: l.now()}
		of[name] = a
	}
	return a
}

// ofGroup is the scope of a group's account. Clients are told of it as of their own.
const ofGroup = OfAll + 1

// limit is what an account of the scope may have.
func (l Limit) limit(scope Scope) int64 {
	switch scope {
	case OfRequest:
		return l.Request
	case OfClient:
		return l.Client
	case ofGroup:
		return l.All / 2
	}
	return l.All
}

// few is a small part of a client's share. A client whose other requests hold less
// than that is new: a pull is several requests at a time, and they are small. It is at
// least 1, so that a client that holds anything is not new where shares are small.
func (l Limit) few() int64 { return max(1, l.Client/32) }

// hold charges the client, its group and all. held is what the request holds already. The
// last quarter of all is for clients whose other requests hold nothing or few.
func (l *Ledger) hold(client, group string, k Kind, n, held int64) error {
	limit := l.limits[k]
	if limit.Request > 0 && held+n > limit.Request {
		return &Exceeded{Kind: k, Scope: OfRequest, Limit: limit.Request}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
	a, g := l.account(l.accounts, client), &account{}
	if limit.Client > 0 && a.held[k]+n > limit.Client {
		return &Exceeded{Kind: k, Scope: OfClient, Limit: limit.Client, RetryAfter: busyRetry}
	}
	if group != "" {
		g = l.account(l.groups, group)
	}
	if most := limit.limit(ofGroup); group != "" && most > 0 && g.held[k]+n > most {
		return &Exceeded{Kind: k, Scope: OfClient, Limit: most, RetryAfter: busyRetry}
	}
	if limit.All > 0 {
		free := limit.All - l.all.held[k]
		others := a.held[k]-held >= limit.few()
		if others {
			free -= limit.All / 4
		}
		if n > free {
			return &Exceeded{Kind: k, Scope: OfAll, Limit: limit.All, RetryAfter: busyRetry, share: others}
		}
	}
	a.held[k] += n
	g.held[k] += n
	l.all.held[k] += n
	return nil
}

func (l *Ledger) release(client, group string, k Kind, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.account(l.accounts, client).held[k] -= n
	if group != "" {
		l.account(l.groups, group).held[k] -= n
	}
	l.all.held[k] -= n
}

// spend charges the client, its group and all with what does not come back. spent is what
// the request has spent already.
func (l *Ledger) spend(client, group string, k Kind, n, spent int64) error {
	limit := l.limits[k]
	if limit.Request > 0 && spent+n > limit.Request {
		return &Exceeded{Kind: k, Scope: OfRequest, Limit: limit.Request}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
	a, g := l.account(l.accounts, client), &account{}
	if group != "" {
		g = l.account(l.groups, group)
	}
	for _, of := range []struct {
		*account
		scope, told Scope
	}{{a, OfClient, OfClient}, {g, ofGroup, OfClient}, {&l.all, OfAll, OfAll}} {
		if of.scope == ofGroup && group == "" {
			continue
		}
		of.forgive(l.now(), &l.limits, of.scope)
		most := limit.limit(of.scope)
		if over := of.spent[k] + float64(n) - float64(most); most > 0 && over > 0 {
			wait := time.Duration(math.Ceil(over / float64(most) * float64(window)))
			return &Exceeded{Kind: k, Scope: of.told, Limit: most, RetryAfter: min(wait, window)}
		}
	}
	a.spent[k] += float64(n)
	g.spent[k] += float64(n)
	l.all.spent[k] += float64(n)
	return nil
}

// forgive takes off what the time since the last look forgives.
func (a *account) forgive(now time.Time, limits *Limits, scope Scope) {
	passed := now.Sub(a.at)
	if passed <= 0 {
		return
	}
	a.at = now
	for k := range kinds {
		a.spent[k] = max(0, a.spent[k]-float64(limits[k].limit(scope))*passed.Seconds()/window.Seconds())
	}
}

// sweep forgets clients that hold nothing and whose spending is forgiven. It
// looks at most once in a window, so it costs little beside the requests.
func (l *Ledger) sweep() {
	now := l.now()
	if now.Sub(l.swept) < window {
		return
	}
	l.swept = now
	for scope, accounts := range map[Scope]map[string]*account{OfClient: l.accounts, ofGroup: l.groups} {
		for name, a := range accounts {
			a.forgive(now, &l.limits, scope)
			if a.held == [heldKinds]int64{} && a.idle(&l.limits, scope) {
				delete(accounts, name)
			}
		}
	}
}

// idle reports whether everything that counts is forgiven.
func (a *account) idle(limits *Limits, scope Scope) bool {
	for k := range kinds {
		if limits[k].limit(scope) > 0 && a.spent[k] > 0 {
			return false
		}
	}
	return true
}
