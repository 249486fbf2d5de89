package upstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Faulty is a registry with planned faults. Manifests are served without faults;
// the plan decides about each GET of a blob. All repositories have the same
// blobs. Its methods may be called concurrently.
type Faulty struct {
	*Server
	server *httptest.Server
	done   chan struct{} // closed when the test ends: nothing stalls longer

	mu      sync.Mutex
	objects map[string]image // keyed by "name:tag" and "name@digest"
	blobs   map[digest.Digest]content
	plan    Plan
	count   map[string]int // number of GETs by repository and blob
	gets    []Get
	user    User
	storage *Storage
}

// Get is a request for a blob.
type Get struct {
	Repository string
	Digest     digest.Digest
	Nth        int    // the number of earlier requests for this blob of this repository
	Range      string // the header
	Offset     int64  // where the answer begins if Range is honoured
}

// Plan returns the fault of the answer to a request. It may be called from any
// goroutine.
type Plan func(Get) Fault

// Script gives the first requests for each blob the faults in turn, and later
// requests none.
func Script(faults ...Fault) Plan {
	return func(g Get) Fault {
		if g.Nth < len(faults) {
			return faults[g.Nth]
		}
		return Fault{}
	}
}

// Always gives each request for any blob the same fault.
func Always(f Fault) Plan { return func(Get) Fault { return f } }

// Only limits a plan to one blob.
func (p Plan) Only(d digest.Digest) Plan {
	return func(g Get) Fault {
		if g.Digest == d {
			return p(g)
		}
		return Fault{}
	}
}

// NewFaulty starts an empty registry without a plan on a free port of 127.0.0.1.
func NewFaulty(t testing.TB) *Faulty {
	t.Helper()
	f := newFaulty()
	f.serve(t, f.server.Start)
	return f
}

func newFaulty() *Faulty {
	s, server := reserve()
	server.Config.ErrorLog = discardLog
	return &Faulty{
		Server: s, server: server, done: make(chan struct{}),
		objects: map[string]image{}, blobs: map[digest.Digest]content{}, count: map[string]int{},
	}
}

func (f *Faulty) serve(t testing.TB, start func()) {
	f.Server.start(t, f.server, start, f)
	t.Cleanup(func() { close(f.done) }) // before the server waits for its answers
}

// SetPlan replaces the plan and counts the requests for each blob from zero.
func (f *Faulty) SetPlan(p Plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = p
	f.count = map[string]int{}
	f.gets = nil
}

// Gets returns the requests for blobs since the plan was set.
func (f *Faulty) Gets() []Get {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Get(nil), f.gets...)
}

// SetLogin has the registry refuse requests without the user's login by HTTP
// Basic.
func (f *Faulty) SetLogin(u User) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.user = u
}

// RedirectTo has the registry redirect every request for a blob to the storage.
func (f *Faulty) RedirectTo(s *Storage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.storage = s
}

// CloseIdle closes the idle HTTP/1.1 connections.
func (f *Faulty) CloseIdle() {
	f.server.Config.SetKeepAlivesEnabled(false)
	f.server.Config.SetKeepAlivesEnabled(true)
}

// blob returns the content of a blob.
func (f *Faulty) blob(d digest.Digest) (content, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.blobs[d]
	return c, ok
}

func (f *Faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	user, storage := f.user, f.storage
	f.mu.Unlock()
	if name, password, _ := r.BasicAuth(); user.Name != "" && (name != user.Name || password != user.Password) {
		w.Header().Set("Www-Authenticate", `Basic realm="test"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == "" {
		w.WriteHeader(http.StatusOK)
	} else if name, ref, ok := strings.Cut(path, "/manifests/"); ok {
		f.serveManifest(w, name, ref)
	} else if name, d, ok := strings.Cut(path, "/blobs/"); ok && storage != nil {
		http.Redirect(w, r, storage.URL+"/"+d+"?signature="+name, http.StatusTemporaryRedirect)
	} else if ok {
		f.serveBlob(w, r, name, digest.Digest(d))
	} else {
		refuse(w, http.StatusNotFound, "UNSUPPORTED")
	}
}

func (f *Faulty) serveManifest(w http.ResponseWriter, name, ref string) {
	separator := ":"
	if strings.Contains(ref, ":") {
		separator = "@"
	}
	f.mu.Lock()
	object, ok := f.objects[name+separator+ref]
	f.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", string(object.mediaType))
	w.Header().Set("Docker-Content-Digest", object.digest().String())
	_, _ = w.Write(object.manifest)
}

func (f *Faulty) serveBlob(w http.ResponseWriter, r *http.Request, name string, d digest.Digest) {
	c, ok := f.blob(d)
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	a := &answer{w: w, r: r, done: f.done, content: c, end: c.Size()}
	header := r.Header.Get("Range")
	if header != "" && !a.parse(header) {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
		return
	}
	if r.Method != http.MethodGet {
		a.give(0)
		return
	}
	f.mu.Lock()
	g := Get{Repository: name, Digest: d, Nth: f.count[name+"@"+d.String()], Range: header, Offset: a.start}
	f.count[name+"@"+d.String()]++
	f.gets = append(f.gets, g)
	plan := f.plan
	f.mu.Unlock()
	var fault Fault
	if plan != nil {
		fault = plan(g)
	}
	a.serve(fault)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors": [{"code": %q, "message": "told to say so"}]}`, code)
}

// Storage serves the blobs of a Faulty that redirects, like the buckets and CDNs
// of real registries. It requires no login.
type Storage struct {
	*Server
	mu   sync.Mutex
	seen []http.Header
}

// NewStorage starts a storage with the blobs of the registry.
func NewStorage(t testing.TB, f *Faulty) *Storage {
	t.Helper()
	s := &Storage{}
	server, testServer := reserve()
	s.Server = server
	s.start(t, testServer, testServer.Start, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Header.Clone())
		s.mu.Unlock()
		f.serveBlob(w, r, "storage", digest.Digest(strings.TrimPrefix(r.URL.Path, "/")))
	}))
	return s
}

// Seen returns the headers of the requests so far, and forgets them.
func (s *Storage) Seen() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}
