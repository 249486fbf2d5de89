package api

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
)

// TestElements: a body of a megabyte that would decode into fifty is refused before
// it is decoded.
func TestElements(t *testing.T) {
	const most = 1 << 15
	for name, test := range map[string]struct {
		body string
		says string
	}{
		"layers":   {`{"containerConfig":{"layers":[` + strings.Repeat("{},", most) + `{}]}}`, "limits.elements"},
		"env":      {`{"containerConfig":{"env":[` + strings.Repeat(`"",`, most) + `""]}}`, "limits.elements"},
		"includes": {`{"containerIncludes":[` + strings.Repeat(`"",`, most) + `""]}`, "limits.elements"},
		"members":  {`{` + strings.Repeat(`"a":0,`, most) + `"b":0}`, "limits.elements"},
		"packages": {`{"packages":` + strings.Repeat(`[`, most), "limits.elements"},
		"depth":    {`{"packages":` + strings.Repeat(`[`, 2000) + strings.Repeat(`]`, 2000) + `}`, "deep"},
	} {
		for _, path := range []string{container, "/v1alpha1/inspect", "/validate-creds", "/v1alpha2/validate-creds"} {
			f, h := newAPI()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w := call(h, "POST", path, test.body)
			runtime.ReadMemStats(&after)
			checkError(t, w, http.StatusRequestEntityTooLarge, test.says)
			if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(test.body))+1<<20 {
				t.Errorf("%s, %s: %d bytes allocated for %d", path, name, n, len(test.body))
			}
			if len(f.calls) != 0 {
				t.Errorf("%s, %s went on to %q", path, name, f.calls)
			}
		}
	}
}

// withBudget serves a request in the budget.
func withBudget(h http.Handler, b *budget.Budget, r *http.Request) *httptest.ResponseRecorder {
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(budget.With(r.Context(), b)))
	return w
}

// watched tells what is held when its first byte is asked for, and its last.
type watched struct {
	io.Reader
	ledger *budget.Ledger
	first  int64
	last   int64
	asked  bool
}

func (w *watched) Read(p []byte) (int, error) {
	if !w.asked {
		w.first, w.asked = w.ledger.Held(budget.Memory), true
	}
	w.last = w.ledger.Held(budget.Memory)
	return w.Reader.Read(p)
}

// TestBodyIsCharged: a body's memory is charged before it is read, what decoding
// costs before it is decoded, and nothing is held afterwards.
func TestBodyIsCharged(t *testing.T) {
	text := `{"containerImage":"a","containerFile":"` + strings.Repeat("x", 512<<10) + `"}`
	for _, length := range []int64{int64(len(text)), -1} {
		for name, limit := range map[string]int64{"enough": 2 << 20, "for the body": 700 << 10, "too little": 100 << 10} {
			ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: limit}})
			body := &watched{Reader: strings.NewReader(text), ledger: ledger}
			r := httptest.NewRequest("POST", container, body)
			r.ContentLength = length
			_, h := newAPI()
			w := withBudget(h, ledger.Open("a"), r)
			if name == "enough" {
				checkError(t, w, http.StatusNotImplemented, "containerFile")
				if body.last < int64(len(text)) || length > 0 && body.first < length {
					t.Errorf("length %d: %d bytes were charged at first, %d at last, want %d", length, body.first, body.last, len(text))
				}
			} else {
				checkError(t, w, http.StatusRequestEntityTooLarge, "limits.memory")
			}
			if name == "too little" && length > 0 && body.asked {
				t.Error("a body that is too large for its budget was read")
			}
			if held := ledger.Held(budget.Memory); held != 0 {
				t.Errorf("length %d, %s: %d bytes are held after the answer", length, name, held)
			}
		}
	}
}

// TestLargestBody: twice its size is enough for the largest body, however it comes,
// and a byte more is refused.
func TestLargestBody(t *testing.T) {
	const limit = 1 << 20
	start, end := `{"containerImage":"a","containerFile":"`, `"}`
	for _, more := range []int{0, 1} {
		text := start + strings.Repeat("x", limit-len(start)-len(end)+more) + end
		for _, length := range []int64{int64(len(text)), -1} {
			for name, body := range map[string]io.Reader{
				"whole": strings.NewReader(text), "with its end": iotest.DataErrReader(strings.NewReader(text)), "in halves": iotest.HalfReader(strings.NewReader(text)),
			} {
				ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: 2 * limit}})
				r := httptest.NewRequest("POST", container, body)
				r.ContentLength = length
				_, h := newAPI()
				w := withBudget(h, ledger.Open("a"), r)
				if more == 0 {
					checkError(t, w, http.StatusNotImplemented, "containerFile")
				} else {
					checkError(t, w, http.StatusRequestEntityTooLarge, "api.max_body")
				}
				if held := ledger.Held(budget.Memory); held != 0 {
					t.Errorf("%s, length %d: %d bytes are held after the answer", name, length, held)
				}
			}
		}
	}
}

// TestShareOfBodies: one client's bodies refuse its own further ones, and no other
// client's.
func TestShareOfBodies(t *testing.T) {
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: 2 << 20, Client: 2 << 20, All: 8 << 20}})
	_, h := newAPI()
	send := func(client string, body io.Reader, length int64) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", container, body)
		r.ContentLength = length
		return withBudget(h, ledger.Open(client), r)
	}
	release := make(chan struct{})
	reading := make(chan struct{}, 2)
	done := make(chan int, 2)
	for range 2 {
		go func() {
			done <- send("slow", readerFunc(func([]byte) (int, error) {
				reading <- struct{}{}
				<-release
				return 0, io.ErrUnexpectedEOF
			}), 1<<20-1).Code
		}()
		<-reading
	}
	checkError(t, send("slow", strings.NewReader(`{"containerImage":"a"}`), 22), http.StatusTooManyRequests, "limits.memory")
	if w := send("honest", strings.NewReader(`{"containerImage":"a"}`), 22); w.Code != http.StatusOK {
		t.Errorf("another client: %d %s", w.Code, w.Body)
	}
	close(release)
	for range 2 {
		if status := <-done; status != http.StatusBadRequest {
			t.Errorf("a body that breaks off: %d", status)
		}
	}
	if w := send("slow", strings.NewReader(`{"containerImage":"a"}`), 22); w.Code != http.StatusOK {
		t.Errorf("the first client, later: %d %s", w.Code, w.Body)
	}
}

// TestBodiesLeaveMemory: bodies of many clients that do not come leave the memory that
// pulls need.
func TestBodiesLeaveMemory(t *testing.T) {
	const size = 1 << 20
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {All: 8 * size}, budget.Bodies: {All: 4 * size}})
	_, h := newAPI()
	release := make(chan struct{})
	begun, done := make(chan struct{}, 9), make(chan int, 9)
	for i := range 9 {
		go func() {
			r := httptest.NewRequest("POST", container, readerFunc(func([]byte) (int, error) {
				begun <- struct{}{}
				<-release
				return 0, io.ErrUnexpectedEOF
			}))
			r.ContentLength = size
			done <- withBudget(h, ledger.Open(strings.Repeat("a", i+1)), r).Code
		}()
	}
	for range 4 {
		<-begun
	}
	for range 5 {
		if status := <-done; status != http.StatusServiceUnavailable {
			t.Errorf("a body beyond the part of bodies: %d", status)
		}
	}
	if _, err := ledger.Open("pull").Hold(budget.Memory, 4*size); err != nil {
		t.Errorf("a pull beside the bodies: %v", err)
	}
	close(release)
	for range 4 {
		<-done
	}
	if held := ledger.Held(budget.Bodies); held != 0 {
		t.Errorf("%d bytes of bodies are held in the end", held)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// watchedTokens notes what is held when the work has been done.
type watchedTokens struct {
	Tokens
	held func() int64
	seen int64
}

func (w *watchedTokens) MintWithin(ctx context.Context, g auth.Grant, ttl, longest time.Duration, last time.Time) (auth.Token, time.Time, error) {
	w.seen = w.held()
	return w.Tokens.MintWithin(ctx, g, ttl, longest, last)
}

// TestHeldWhileWorking: during the work, which may take minutes, a request holds
// what it decoded to, and its body no longer.
func TestHeldWhileWorking(t *testing.T) {
	long := `{"containerImage":"a","workflowId":"` + strings.Repeat("x", 500<<10) + `"}`
	for text, want := range map[string]int64{
		long: int64(len(long)),
		`{"containerImage":"a","scanLevels":["LOW"` + strings.Repeat(`,"LOW"`, 999) + `]}`: 1003 * elementCost,
	} {
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {All: 1 << 30}})
		tokens := &watchedTokens{held: func() int64 { return ledger.Held(budget.Memory) }}
		_, h := newAPI(func(o *Options) { tokens.Tokens, o.Tokens = o.Tokens, tokens })
		if w := withBudget(h, ledger.Open("a"), httptest.NewRequest("POST", container, strings.NewReader(text))); w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if tokens.seen != want {
			t.Errorf("%.50s: %d bytes are held during the work, want %d", text, tokens.seen, want)
		}
	}
}

func TestAllowed(t *testing.T) {
	for n, want := range map[int64]time.Duration{
		0: 3 * time.Second, 160 << 10: 13 * time.Second, 4 << 20: 259 * time.Second,
		24 << 20: 1539 * time.Second, 32 << 20: 2051 * time.Second, // 64 KiB/s take 512
	} {
		if got := allowed(n); got != want {
			t.Errorf("with %d bytes the next may take %v in all, want %v", n, got, want)
		}
	}
}

// deadlines is a connection that notes its read deadlines.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// TestSlowBody: each read has a deadline, and one that is over is told so.
func TestSlowBody(t *testing.T) {
	_, h := newAPI()
	reads := 0
	r := httptest.NewRequest("POST", container, readerFunc(func(p []byte) (int, error) {
		if reads++; reads > 5 {
			return 0, os.ErrDeadlineExceeded
		}
		p[0] = ' '
		time.Sleep(100 * time.Millisecond)
		return 1, nil
	}))
	r.ContentLength = 1000
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	start := time.Now()
	h.ServeHTTP(w, r)
	checkError(t, w.ResponseRecorder, http.StatusRequestTimeout, "16 KiB a second")
	if w.Header().Get("Connection") != "close" {
		t.Error("the connection is kept, with the rest of the body in it")
	}
	// The time that the sender has taken already counts.
	for _, at := range w.set {
		if left := at.Sub(start); left > bodyGrace+90*time.Millisecond || left < bodyGrace-time.Second {
			t.Errorf("a deadline of %v", left)
		}
	}
	if len(w.set) != 6 {
		t.Errorf("%d deadlines for 6 reads", len(w.set))
	}
}

func TestContentType(t *testing.T) {
	for contentType, want := range map[string]int{
		"application/json": 200, "Application/JSON; charset=utf-8": 200, "text/plain": 415, "": 415,
		"application/x-www-form-urlencoded": 415, "multipart/form-data; boundary=x": 415,
	} {
		_, h := newAPI()
		if w := call(h, "POST", container, `{"containerImage":"a"}`, "Content-Type", contentType); w.Code != want {
			t.Errorf("%q: %d %s", contentType, w.Code, w.Body)
		}
	}
}

func TestTokenInBody(t *testing.T) {
	for text, want := range map[string]string{
		`{"towerAccessToken":"t","containerImage":"a`:             "t",
		`{"a":{"towerAccessToken":"t"},"b":["towerAccessToken"],`: "",
		`{"a":[1,{"b":null}],"TOWERACCESSTOKEN": "t"`:             "t",
		`{"towerAccessToken":null,"towerRefreshToken":"t"}`:       "",
		`{"towerAccessToken":{"a":"b"},`:                          "",
		`{"towerAccessToken":"t`:                                  "",
		`["towerAccessToken","t"]`:                                "",
		``:                                                        "",
		`{"a":` + strings.Repeat("[", 60000):                      "",
	} {
		if got := tokenIn([]byte(text)); got != want {
			t.Errorf("%.60s: %q, want %q", text, got, want)
		}
	}
}

// TestBrokenText: bytes that are not UTF-8 become three times as many in memory, so
// they are refused before they are decoded.
func TestBrokenText(t *testing.T) {
	for _, text := range []string{`{"containerImage":"` + "\xff\xff" + `"}`, "{\"\xc3\":1}"} {
		_, h := newAPI()
		r := httptest.NewRequest(http.MethodPost, "/v1alpha2/container", strings.NewReader(text))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "UTF-8") {
			t.Errorf("%q: %d %s", text, w.Code, w.Body)
		}
	}
}
