package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/brief"
)

// TestShortRefusals: whichever member of a request is long, the refusal is short.
func TestShortRefusals(t *testing.T) {
	const creds = "/v1alpha2/validate-creds"
	for path, forms := range map[string][]string{
		container: {
			`{"containerImage":%s}`, `{"containerImage":"a","format":%s}`, `{"containerImage":"a","scanMode":%s,"freeze":true}`,
			`{"containerImage":"a","containerPlatform":%s}`, `{"containerImage":"a","ttl":%s}`, `{"containerImage":"a","containerIncludes":[%s]}`,
			`{"containerImage":"a","towerWorkspaceId":%s}`, `{"containerImage":"a","packages":%s}`,
			`{"containerImage":"a","containerConfig":{"env":[%s]}}`, `{"containerImage":"a","containerConfig":{"workingDir":%s}}`,
			`{"containerImage":"a","containerConfig":{"cmd":[%s]}}`,
			`{"containerImage":"a","containerConfig":{"layers":[{"location":%s}]}}`,
			`{"containerImage":"a","containerConfig":{"layers":[{"location":"data:","gzipDigest":%s}]}}`,
			`{"containerImage":"a","containerConfig":{"layers":[{"location":"data:","tarDigest":%s}]}}`,
			`{"containerImage":"a","containerConfig":{"layers":[{"location":"data:","gzipSize":%s}]}}`,
			`{"containerImage":%s`,
		},
		"/v1alpha1/inspect": {`{"containerImage":%s}`, `{"containerImage":"a","towerWorkspaceId":%s}`},
		creds:               {`{"userName":"a","password":"b","registry":%s}`, `{"userName":{"a":%s}}`},
	} {
		for _, form := range forms {
			for what, value := range map[string]string{
				"quoted text": `"` + strings.Repeat("\x7f", 255<<10) + `"`, "broad text": `"` + strings.Repeat("é/", 80<<10) + `"`,
				"URL": `"http://127.0.0.1:1/` + strings.Repeat("é", 120<<10) + `"`, "docker": `"docker://` + strings.Repeat("\x7f", 200<<10) + `"`,
				"number": strings.Repeat("7", 255<<10), "object": `{"` + strings.Repeat("\x7f", 255<<10) + `":1}`,
			} {
				f, h := newAPI()
				w := call(h, "POST", path, fmt.Sprintf(form, value))
				if w.Body.Len() > 2*brief.Max {
					t.Errorf("%s with %s: status %d, an answer of %d bytes: %.100s", form, what, w.Code, w.Body.Len(), w.Body)
				}
				for _, c := range f.calls {
					if strings.HasPrefix(c, "remote") || strings.HasPrefix(c, "image") {
						t.Errorf("%s with %s: %.40s… of %d bytes was asked for", form, what, c, len(c))
					}
				}
			}
		}
	}
}

// heldAt is a writer that notes what is held when the answer is written.
type heldAt struct {
	*httptest.ResponseRecorder
	ledger *budget.Ledger
	held   int64
}

func (w *heldAt) Write(p []byte) (int, error) {
	w.held = w.ledger.Held(budget.Memory)
	return w.ResponseRecorder.Write(p)
}

// TestAnswersAreCharged: a client holds the memory of an answer until it has taken it,
// and gets no further one beyond its limit.
func TestAnswersAreCharged(t *testing.T) {
	for _, path := range []string{container + "/" + string(token), "/container-token/" + string(token)} {
		for name, recipe := range map[string]augment.Recipe{
			"env":       {Env: []string{"A=" + strings.Repeat("<", 40<<10)}},
			"many args": {Cmd: strings.Split(strings.Repeat("a ", 20<<10), " ")},
			"layers":    {Layers: make([]augment.Layer, 500)},
		} {
			f, h := newAPI()
			f.description = described()
			f.description.Grant.Recipe = recipe
			ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 64 << 20, All: 256 << 20}})
			r := httptest.NewRequest("GET", path, nil)
			r.Host = "proxy.test:9090"
			w := &heldAt{httptest.NewRecorder(), ledger, 0}
			h.ServeHTTP(w, r.WithContext(budget.With(r.Context(), ledger.Open("a"))))
			if w.Code != http.StatusOK || w.Body.Len() < 16<<10 || w.held < 2*int64(w.Body.Len()) {
				t.Errorf("%s %s: status %d, %d bytes were written while %d were held", path, name, w.Code, w.Body.Len(), w.held)
			}
			small := budget.NewLedger(budget.Limits{budget.Memory: {Request: 60 << 10}})
			w = &heldAt{httptest.NewRecorder(), small, 0}
			h.ServeHTTP(w, r.WithContext(budget.With(r.Context(), small.Open("a"))))
			if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "limits.memory") {
				t.Errorf("%s %s beyond the limit: %d %.200s", path, name, w.Code, w.Body)
			}
		}
	}
}

// TestLongWords: names, digests, platforms, users, passwords and tokens are bounded before
// anything is done with them.
func TestLongWords(t *testing.T) {
	const creds = "/v1alpha2/validate-creds"
	long := strings.Repeat("a/", 250<<10) + "a"
	for _, test := range [][2]string{
		{container, `{"containerImage":%q}`}, {container, `{"containerImage":"a","containerPlatform":%q}`}, {container, `{"containerImage":"a","ttl":%q}`},
		{container, `{"containerImage":"a","containerIncludes":[%q]}`}, {container, `{"containerImage":"a","towerAccessToken":%q}`},
		{container, `{"containerImage":"a","containerConfig":{"layers":[{"location":"data:","tarDigest":%q}]}}`},
		{"/v1alpha1/inspect", `{"containerImage":%q}`}, {"/v1alpha1/inspect", `{"containerImage":"a","towerAccessToken":%q}`},
		{creds, `{"userName":"a","password":"b","registry":%q}`}, {creds, `{"userName":"a","password":%q}`}, {creds, `{"userName":%q,"password":"b"}`},
	} {
		f, h := newAPI()
		w := call(h, "POST", test[0], fmt.Sprintf(test[1], long))
		if w.Code != http.StatusBadRequest || len(f.calls) > 0 {
			t.Errorf("%s %s: status %d %.200s after %d calls", test[0], test[1], w.Code, w.Body, len(f.calls))
		}
	}
}
