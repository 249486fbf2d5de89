// Package ratelimit counts what each client does, and says how long a client that
// does too much has to wait.
//
// It must never block, start a goroutine, or grow with the number of clients.
package ratelimit

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Rate is a number of events in a period. The zero Rate is no limit.
type Rate struct {
	Events int
	Per    time.Duration
}

var periods = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// UnmarshalText reads "600/m": events in a second, minute, hour or day (s, m,
// h, d); "0" is no limit.
func (r *Rate) UnmarshalText(text []byte) error {
	if string(text) == "0" {
		*r = Rate{}
		return nil
	}
	number, unit, _ := strings.Cut(string(text), "/")
	events, err := strconv.Atoi(number)
	per, known := periods[unit]
	if err != nil || !known || events < 1 {
		return fmt.Errorf("%q: want a rate such as 600/m, or 0 for no limit", text)
	}
	*r = Rate{events, per}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Rate) String() string {
	for unit, per := range periods {
		if r.Per == per {
			return strconv.Itoa(r.Events) + "/" + unit
		}
	}
	return "0"
}

const (
	// maxClients bounds the memory, at some 200 bytes each: events are kept as hashes. The client not seen
	// for longest is forgotten, which favours it.
	maxClients = 1 << 16

	// oneEvent is the time in which the same thing, done again by the same
	// client, is still the same event.
	oneEvent = time.Minute
)

// Limiter lets each client do Rate.Events at once and goes on granting them
// evenly. A nil Limiter has no limit. It is safe for concurrent use.
type Limiter struct {
	rate    Rate
	buckets *lru.Cache[string, *rate.Limiter]
	done    *lru.Cache[eventKey, time.Time]
	now     func() time.Time
}

// eventKey stands for a client and an event, whose name a client may have made long.
type eventKey [16]byte

func keyOf(client, event string) eventKey {
	sum := sha256.Sum256([]byte(client + "\x00" + event))
	return eventKey(sum[:len(eventKey{})])
}

// New returns nil, which limits nothing, for the zero Rate.
func New(r Rate) *Limiter { return newLimiter(r, time.Now) }

func newLimiter(r Rate, now func() time.Time) *Limiter {
	if r == (Rate{}) {
		return nil
	}
	l := &Limiter{rate: r, now: now}
	l.buckets, _ = lru.New[string, *rate.Limiter](maxClients) // fails for sizes below 1 only
	l.done, _ = lru.New[eventKey, time.Time](maxClients)
	return l
}

// Take counts an event of the client and returns 0, or counts nothing and
// returns how long to wait before the next one.
func (l *Limiter) Take(client string) time.Duration {
	if l == nil {
		return 0
	}
	now := l.now()
	reservation := l.bucket(client).ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

// GiveBack takes back an event that Take counted. It never leaves the client more
// than Rate.Events.
func (l *Limiter) GiveBack(client string) {
	if l != nil {
		l.bucket(client).AllowN(l.now(), -1) // a negative number adds, up to the burst
	}
}

// TakeOnce is Take for an event that comes as several requests: those within a
// minute of the first one count once.
func (l *Limiter) TakeOnce(client, event string) time.Duration {
	if l == nil {
		return 0
	}
	key := keyOf(client, event)
	if first, ok := l.done.Get(key); ok && l.now().Sub(first) < oneEvent {
		return 0
	}
	wait := l.Take(client)
	if wait == 0 {
		l.done.Add(key, l.now())
	}
	return wait
}

// Wait returns what Take would, and counts nothing.
func (l *Limiter) Wait(client string) time.Duration {
	if l == nil {
		return 0
	}
	now := l.now()
	missing := 1 - l.bucket(client).TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing * float64(l.rate.Per) / float64(l.rate.Events))
}

// Rate is the limit, for messages.
func (l *Limiter) Rate() Rate { return l.rate }

func (l *Limiter) bucket(client string) *rate.Limiter {
	if b, ok := l.buckets.Get(client); ok {
		return b
	}
	fresh := rate.NewLimiter(rate.Limit(float64(l.rate.Events)/l.rate.Per.Seconds()), l.rate.Events)
	if b, raced, _ := l.buckets.PeekOrAdd(client, fresh); raced {
		return b
	}
	return fresh
}

// AddressKey returns the name of the client behind an address. An IPv6 address stands
// for the /64 around it, because a client that has one of them has them all.
func AddressKey(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		prefix, _ := a.Prefix(64) // fails for lengths over 128 only
		return prefix.String()
	}
	return a.String()
}

// NetworkKey returns the name of the /48 around an IPv6 address, because a site that
// has one of them has 65,536 clients. For any other address it is "".
func NetworkKey(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); !a.Is6() {
		return ""
	}
	prefix, _ := a.Prefix(48) // fails for lengths over 128 only
	return prefix.String()
}
