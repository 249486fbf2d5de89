package attack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// patience bounds the processor time that a costly request may take. A request
// whose cost grows linearly with its size takes at most 0.7 s; patience is
// several times that. Processor time, unlike elapsed time, does not depend on the
// machine's other work.
const patience = 3 * time.Second

// used returns the processor time that the process has spent in user mode. It is
// zero when the process has ended, which wantAnswered reports.
func used(pid int) time.Duration {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	ticks, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

// impatient starts a server for one attack that may never end.
func impatient(t *testing.T, settings map[string]string) (p *harness.Proxy, pid int) {
	t.Helper()
	p = harness.StartProxy(t, "", settings)
	pid = p.PID
	t.Cleanup(func() {
		if t.Failed() {
			p.Kill() // a busy server would not stop in time
		}
	})
	return p, pid
}

// within returns a context that ends when the process has used limit more
// processor time, and at the latest after two minutes.
func within(t *testing.T, pid int, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	start := used(pid)
	go func() {
		for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
			if used(pid)-start > limit {
				cancel()
			}
		}
	}()
	return ctx
}

// send posts a submission and waits as long as the context does.
func send(ctx context.Context, p *harness.Proxy, body string) (harness.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+submission, strings.NewReader(body))
	if err != nil {
		return harness.Response{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return harness.Response{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return harness.Response{Status: resp.StatusCode, Header: resp.Header, Body: string(data)}, err
}

// wantAnswered posts a submission. It fails the test if the server does not
// answer within limit, answers with a failure of its own (5xx), or holds more
// than memory MiB.
func wantAnswered(t *testing.T, p *harness.Proxy, pid int, body string, limit time.Duration, memory int) harness.Response {
	t.Helper()
	before := used(pid)
	ctx := within(t, pid, limit)
	r, err := send(ctx, p, body)
	if err != nil {
		t.Fatalf("BREACH: %d bytes kept the server busy for %v of a processor's time and more: %v", len(body), used(pid)-before, err)
	}
	t.Logf("%d bytes took %v of a processor's time: status %d: %.200s", len(body), used(pid)-before, r.Status, r.Body)
	if r.Status >= http.StatusInternalServerError && r.Status != http.StatusBadGateway {
		t.Errorf("status %d: %.300s", r.Status, r.Body)
	}
	wantMemory(t, pid, memory)
	return r
}

// many joins n texts with commas.
func many(n int, text func(i int) string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(text(i))
	}
	return b.String()
}

// TestAttackCostOfRequests posts bodies that are small enough to be accepted.
// Careless reading would cost the square of their size.
func TestAttackCostOfRequests(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	image := `"containerImage": "` + h.host() + `/good:x"`
	layer := harness.LayerOf(t, harness.File{Name: "a", Text: "b"})
	wide := make([]described, 1000)
	for i := range wide {
		wide[i] = described{manifestType, harness.Sum(h.Manifest), len(h.Manifest), map[string]any{"os": "linux", "architecture": fmt.Sprint("arch", i)}}
	}
	h.on("wide", h.document(indexType, indexOf(t, wide...)))
	for name, body := range map[string]string{
		"2,000,000 variables": `"containerConfig": {"env": [` + many(2_000_000, func(i int) string { return fmt.Sprintf(`"V%d="`, i) }) + `]}`,
		"2,000,000 times one": `"containerConfig": {"env": [` + many(2_000_000, func(int) string { return `"V=1234"` }) + `]}`,
		"2,000,000 platforms": `"containerImage": "` + h.host() + `/wide:x", "containerPlatform": "` + many(2_000_000, func(int) string { return "linux/amd64" }) + `"`,
		"100,000 layers":      `"containerConfig": {"layers": [` + many(100_000, func(int) string { return `{"location": "` + layer.Location + `"}` }) + `]}`,
		"3,000,000 words":     `"containerConfig": {"entrypoint": [` + many(3_000_000, func(int) string { return `"abcd"` }) + `]}`,
		"10,000,000 brackets": `"packages": ` + strings.Repeat("[", 10_000_000),
		"2,000,000 unknown":   many(2_000_000, func(i int) string { return fmt.Sprintf(`"m%d":0`, i) }),
		"3,000,000 includes":  `"containerIncludes": [` + many(3_000_000, func(int) string { return `"a/b:c"` }) + `]`,
		"a name of 30 MiB":    `"containerImage": "` + strings.Repeat("a/", 15*harness.MiB) + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			p, pid := impatient(t, h.settings())
			// A body of up to 32 MiB is read, and decoded only if it has few elements;
			// the garbage collector lets live memory double.
			r := wantAnswered(t, p, pid, "{"+image+", "+body+"}", patience, 200)
			if len(r.Body) > 100<<10 {
				t.Errorf("an answer of %d bytes", len(r.Body))
			}
		})
	}
}

// document serves one document for all manifests of a repository.
func (h *hostile) document(mediaType string, data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			h.tinyImage.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		_, _ = w.Write(data)
	}
}

// family serves documents by their digests, and root for the tag.
func (h *hostile) family(documents map[string][]byte, root string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ref := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		if !strings.HasPrefix(ref, "sha256:") {
			ref = root
		}
		data, ok := documents[ref]
		if !ok {
			h.tinyImage.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", indexType)
		_, _ = w.Write(data)
	}
}

// nested makes indexes inside indexes, depth levels deep. Each lists the next one
// the given number of times.
func (h *hostile) nested(t *testing.T, depth, times int) http.HandlerFunc {
	t.Helper()
	documents := map[string][]byte{}
	root := described{Digest: harness.Sum(h.Manifest), Size: len(h.Manifest), MediaType: manifestType}
	for range depth {
		entries := make([]described, times)
		for i := range entries {
			entries[i] = root
		}
		data := indexOf(t, entries...)
		root = described{Digest: harness.Sum(data), Size: len(data), MediaType: indexType}
		documents[root.Digest] = data
	}
	return h.family(documents, root.Digest)
}

// TestAttackCostOfImages has a registry serve documents that are small enough to
// be accepted. Careless reading would cost much time or memory.
func TestAttackCostOfImages(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	// As many members as 4 MiB hold.
	members := many(400_000, func(i int) string { return fmt.Sprintf(`"%x":0`, 0x10000+i) })
	image := func(config, layers, more string) http.HandlerFunc {
		data := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[%s]%s}`,
			manifestType, configType, harness.Sum([]byte(config)), len(config), layers, more)
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, harness.Sum([]byte(config))) {
				_, _ = w.Write([]byte(config))
				return
			}
			h.document(manifestType, data)(w, r)
		}
	}
	const plain = `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`
	configWith := func(more string) string { return plain[:len(plain)-1] + "," + more + "}" }
	for name, attack := range map[string]http.HandlerFunc{
		"members of a manifest":  image(plain, "", ","+members),
		"members of a config":    image(configWith(members), "", ""),
		"members of its config":  image(configWith(`"config":{`+members+"}"), "", ""),
		"members of its rootfs":  image(strings.Replace(plain, `"type":`, members+`,"type":`, 1), "", ""),
		"annotations":            image(plain, "", `,"annotations":{`+strings.ReplaceAll(members[:strings.LastIndexByte(members[:3*harness.MiB], ',')], ":0", `:""`)+"}"),
		"variables":              image(configWith(`"config":{"Env":[`+many(400_000, func(i int) string { return fmt.Sprintf(`"%x="`, 0x10000+i) })+"]}"), "", ""),
		"history":                image(configWith(`"history":[`+many(1_000_000, func(int) string { return "{}" })+"]"), "", ""),
		"layers":                 image(plain, many(1_000_000, func(int) string { return "{}" }), ""),
		"brackets":               h.document(manifestType, []byte(`{"schemaVersion":2,"x":`+strings.Repeat("[", 4*harness.MiB-100))),
		"index of 100,000":       h.document(indexType, indexOf(t, make([]described, 100_000)...)),
		"index of 40,000":        h.document(indexType, indexOf(t, make([]described, 40_000)...)),
		"indexes 1,000 deep":     h.nested(t, 1000, 1),
		"indexes 4 deep, 8 wide": h.nested(t, 4, 8),
		"indexes 2 deep, 1000":   h.nested(t, 2, 1000),
		"indexes 3 deep, 1000":   h.nested(t, 3, 1000),
		"indexes 4 deep, 1000":   h.nested(t, 4, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			repository := repositoryOf(name)
			h.on(repository, attack)
			p, pid := impatient(t, h.settings())
			env := `"V=1"`
			if name == "variables" {
				env = many(10_000, func(i int) string { return fmt.Sprintf(`"W%d=1"`, i) })
			}
			wantAnswered(t, p, pid, fmt.Sprintf(`{"containerImage": "%s/%s:x", "containerConfig": {"env": [%s]}}`, h.host(), repository, env), patience, 512)
			if n, _ := h.result(t, repository); n > 2100 {
				t.Errorf("BREACH: one submission made %d requests", n)
			}
		})
	}
}
