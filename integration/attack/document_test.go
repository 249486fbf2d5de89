package attack

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// filled returns a document of nearly 4 MiB that repeats an element.
func filled(start, element, end string) []byte {
	n := (4<<20 - len(start) - len(end)) / (len(element) + 1)
	return []byte(start + strings.Repeat(element+",", n-1) + element + end)
}

// TestAttackDescriptors: documents that are nothing but descriptors are refused before
// they cost memory, wherever they are read.
func TestAttackDescriptors(t *testing.T) {
	h := newHostile(t)
	settings := h.settings()
	settings["WAVEPROXY_RECIPES"] = `{tools: {env: [A=b]}}`
	p := harness.StartProxy(t, "", settings)
	documents := map[string][]byte{
		"entries": filled(`{"schemaVersion":2,"mediaType":"`+indexType+`","manifests":[`, "{}", "]}"),
		"layers":  filled(`{"schemaVersion":2,"mediaType":"`+manifestType+`","config":{"mediaType":"a/b"},"layers":[`, "{}", "]}"),
		"members": filled(`{"schemaVersion":2,"mediaType":"`+manifestType+`","x":[`, "[]", "]}"),
	}
	var wg sync.WaitGroup
	for name, data := range documents {
		h.on(name, h.document(manifestType, data))
		for range 3 {
			wg.Go(func() {
				image := h.host() + "/" + name + ":1"
				for _, r := range []harness.Response{
					p.Post(t, "/v1alpha1/inspect", map[string]any{"containerImage": image}),
					p.Post(t, submission, harness.Request{ContainerImage: image}),
					harness.Do(t, "GET", p.URL+"/v2/wt/tools/"+name+"/manifests/"+harness.Sum(data)+"?ns="+strings.ReplaceAll(h.host(), ":", "%3A")),
				} {
					if r.Status != http.StatusBadRequest && r.Status != http.StatusTooManyRequests || len(r.Body) > 1<<10 {
						t.Errorf("BREACH: %s: status %d, %d bytes", name, r.Status, len(r.Body))
					}
				}
			})
		}
	}
	wg.Wait()
	wantMemory(t, p.PID, 160)
	wantAlive(t, p, h.host()+"/tiny:1")
}

// TestAttackSizes: a size below zero is refused where the document is read.
func TestAttackSizes(t *testing.T) {
	h := newHostile(t)
	settings := h.settings()
	settings["WAVEPROXY_RECIPES"] = `{tools: {env: [A=b]}}`
	p := harness.StartProxy(t, "", settings)
	for i, size := range []int{-1, -1 << 62, 1 << 62} {
		name := fmt.Sprint("size", i)
		data := manifestOf(t, described{configType, harness.Sum(h.tinyImage.Config), len(h.tinyImage.Config), nil}, described{layerType, h.Layer.GzipDigest, size, nil})
		h.on(name, h.document(manifestType, data))
		for _, r := range []harness.Response{
			p.Post(t, submission, harness.Request{ContainerImage: h.host() + "/" + name + ":1"}),
			harness.Do(t, "GET", p.URL+"/v2/wt/tools/"+name+"/manifests/"+harness.Sum(data)+"?ns="+strings.ReplaceAll(h.host(), ":", "%3A")),
		} {
			if r.Status != http.StatusBadRequest || !strings.Contains(r.Body, harness.Sum(data)) {
				t.Errorf("BREACH: a size of %d: status %d, %s", size, r.Status, r.Body)
			}
		}
	}
}

// TestAttackHeavyImages: what images carry beside digests and sizes is not kept in
// memory, however many tokens there are.
func TestAttackHeavyImages(t *testing.T) {
	h := newHostile(t)
	p := harness.StartProxy(t, "", h.settings())
	var layers []string
	for i := range 100 {
		layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1,"annotations":{"a":%q}}`, layerType, harness.Sum([]byte{byte(i)}), strings.Repeat("x", 35<<10)))
	}
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + strings.Repeat(`x","`, 99) + `x"]}}`)
	data := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[%s]}`,
		manifestType, configType, harness.Sum(config), len(config), strings.Join(layers, ","))
	h.on("heavy", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, harness.Sum(config)) {
			_, _ = w.Write(config)
			return
		}
		h.document(manifestType, []byte(data))(w, r)
	})
	for i := range 20 {
		a := p.Submit(t, harness.Request{ContainerImage: h.host() + "/heavy:1", ContainerConfig: &harness.Config{Env: []string{fmt.Sprint("A=", i)}}})
		host, name, _ := strings.Cut(a.TargetImage, "/")
		name, _, _ = strings.Cut(name, ":")
		if r := harness.Do(t, "GET", "http://"+host+"/v2/"+name+"/manifests/1"); r.Status != http.StatusOK {
			t.Fatalf("status %d: %.200s", r.Status, r.Body)
		}
	}
	wantMemory(t, p.PID, 110)
}

// TestAttackOtherPlatform: a caller whose policy is for one platform gets no other
// one by its digest, although the index names it.
func TestAttackOtherPlatform(t *testing.T) {
	h := newHostile(t)
	other := []byte(strings.Replace(string(h.tinyImage.Config), "amd64", "arm64", 1))
	arm := manifestOf(t, described{configType, harness.Sum(other), len(other), nil}, described{layerType, h.Layer.GzipDigest, h.Layer.GzipSize, nil})
	for name, platform := range map[string]map[string]any{
		"declared": {"os": "linux", "architecture": "arm64"}, "undeclared": nil, "unknown": {"os": "unknown", "architecture": "unknown"},
	} {
		index := indexOf(t, described{manifestType, harness.Sum(h.Manifest), len(h.Manifest), map[string]any{"os": "linux", "architecture": "amd64"}},
			described{manifestType, harness.Sum(arm), len(arm), platform})
		h.on(name, func(w http.ResponseWriter, r *http.Request) {
			ref := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
			data, contentType := h.Manifest, manifestType
			switch ref {
			case "1", harness.Sum(index):
				data, contentType = index, indexType
			case harness.Sum(arm):
				data = arm
			case harness.Sum(other):
				data, contentType = other, configType
			case harness.Sum(h.Manifest):
			default:
				h.tinyImage.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(data)
		})
	}
	settings := h.settings()
	settings["WAVEPROXY_API_AUTH"] = "bearer"
	settings["WAVEPROXY_API_TOKENS"] = `{team: {token: secret-of-team-00000000}}`
	settings["WAVEPROXY_API_IDENTITIES"] = `{team: {platforms: [linux/amd64]}}`
	p := harness.StartProxy(t, "", settings)
	for _, name := range []string{"declared", "undeclared", "unknown"} {
		r, err := p.Call(t.Context(), "POST", submission, `{"containerImage":"`+h.host()+`/`+name+`:1"}`, "Authorization", "Bearer secret-of-team-00000000")
		if err != nil {
			t.Fatal(err)
		}
		a, err := r.Answer()
		if err != nil {
			t.Fatalf("%v: %s", err, r.Body)
		}
		host, image, _ := strings.Cut(a.TargetImage, "/")
		image, _, _ = strings.Cut(image, ":")
		base := "http://" + host + "/v2/" + image
		if r := harness.Do(t, "GET", base+"/manifests/"+harness.Sum(h.Manifest)); r.Status != http.StatusOK {
			t.Errorf("%s: its own platform: status %d, %s", name, r.Status, r.Body)
		}
		if r := harness.Do(t, "GET", base+"/manifests/"+harness.Sum(arm)); r.Status != http.StatusForbidden || !strings.Contains(r.Body, "platform") {
			t.Errorf("BREACH: %s: another platform: status %d, %s", name, r.Status, r.Body)
		}
		if r := harness.Do(t, "GET", base+"/blobs/"+harness.Sum(other)); r.Status != http.StatusNotFound {
			t.Errorf("BREACH: %s: another platform's config: status %d", name, r.Status)
		}
	}
}
