package budget

import (
	"fmt"
	"time"
)

// Kind is a resource that requests cost.
type Kind int

// The kinds. Memory, Bodies, Fetches, Streams and Processes are held, the others spent.
const (
	Memory      Kind = iota // bytes of bodies and documents, until the request has ended
	Bodies                  // the part of Memory that bodies have while they arrive
	Fetches                 // downloads that run
	Streams                 // answers with a blob, until the client has taken them
	Processes               // programs that run, such as credential helpers
	Unpacked                // bytes out of decompressors
	Documents               // manifests, configs and container configs read from elsewhere
	Descriptors             // descriptors in those documents
	Files                   // files written durably
	// Queues bound these, and refuse as the Ledger does.
	Unpacking // archives that are unpacked
	Questions // requests to one registry
	kinds
)

const heldKinds = Processes + 1

var names = [kinds]struct{ key, unit string }{
	Memory:      {"limits.memory", "bytes of memory"},
	Bodies:      {"limits.memory", "bytes of request bodies"},
	Fetches:     {"limits.fetches", "downloads at a time"},
	Streams:     {"limits.streams", "blobs sent at a time"},
	Processes:   {"limits.processes", "credential helpers at a time"},
	Unpacked:    {"limits.unpacked", "unpacked bytes"},
	Documents:   {"limits.documents", "manifests and configs"},
	Descriptors: {"limits.descriptors", "descriptors"},
	Files:       {"limits.files", "stored files"},
	Unpacking:   {"GOMAXPROCS", "archives unpacked at a time"},
	Questions:   {"limits.upstream", "unanswered requests to one registry"},
}

// Key is the configuration key of the kind's limit.
func (k Kind) Key() string { return names[k].key }

// Limit bounds one kind: what a request, a client and all clients together may
// hold, or spend in a minute. Zero is no limit.
type Limit struct{ Request, Client, All int64 }

// Limits bound each kind.
type Limits [kinds]Limit

// Scope says which of a kind's limits was reached.
type Scope int

// The scopes.
const (
	OfRequest Scope = iota // asking again cannot help
	OfClient               // the client has other work under way
	OfAll                  // the server is busy
)

// Exceeded is the refusal of a charge. Its text is for the client.
type Exceeded struct {
	Kind  Kind
	Scope Scope
	Limit int64
	// RetryAfter is when the same charge may pass; 0 in the scope of a request.
	RetryAfter time.Duration

	share bool // a client without other requests might not have been refused
}

// Private reports whether only the client in whose name the work was done is
// refused. Callers that shared the work with it then do it themselves.
func (e *Exceeded) Private() bool { return e.Scope != OfAll || e.share }

func (e *Exceeded) Error() string {
	name := names[e.Kind]
	switch e.Scope {
	case OfRequest:
		return fmt.Sprintf("the request needs more than %d %s (%s): ask for less at once", e.Limit, name.unit, name.key)
	case OfClient:
		return fmt.Sprintf("requests of this client need more than %d %s together (%s): wait for the others to end", e.Limit, name.unit, name.key)
	default:
		return fmt.Sprintf("all requests together need more than %d %s (%s): the server is busy, try again", e.Limit, name.unit, name.key)
	}
}
