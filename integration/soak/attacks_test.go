package soak

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// attack is one kind of attacker. run goes on until the context ends.
type attack struct {
	name string
	run  func(ctx context.Context, s *soak)
}

// attacks returns the attacks in the order of the table.
func attacks() []attack {
	return []attack{
		{"digests of another tenant", foreignDigests},
		{"trickling registry", trickling},
		{"claimed sizes", claimedSizes},
		{"other sizes of known digests", otherSizes},
		{"bodies of many elements", manyElements},
		{"inline bombs", inlineBombs},
		{"processor bombs", processorBombs},
		{"documents of many descriptors", manyDescriptors},
		{"images of many annotations", heavyImages},
		{"unread entries", unreadEntries},
		{"slow bodies", slowBodies},
		{"abandoned downloads", abandonedDownloads},
		{"manifests by digest", pinnedManifests},
		{"wrong logins", wrongLogins},
		{"absent repositories", absentRepositories},
		{"credential helpers", credentialHelpers},
		{"sizes and ranges", sizesAndRanges},
	}
}

// repeat runs f in n goroutines until the context ends. Each has a client at the
// attacker's one address.
func (s *soak) repeat(ctx context.Context, n int, f func(ctx context.Context, c *client, i int)) {
	var wg sync.WaitGroup
	for g := range n {
		c := newClient("127.0.0.66", s.URL, "mallory")
		wg.Go(func() {
			defer c.CloseIdleConnections()
			for i := g; ctx.Err() == nil; i += n {
				f(ctx, c, i)
				time.Sleep(time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// post sends a submission that is already encoded.
func post(ctx context.Context, c *client, body []byte) {
	_, _, _ = c.do(ctx, "POST", "/v1alpha2/container", body)
}

// manyElements sends bodies whose decoding costs forty times their size.
func manyElements(ctx context.Context, s *soak) {
	var bodies [][]byte
	for _, list := range []string{
		`{"containerConfig":{"layers":[` + strings.Repeat("{},", 9<<20) + `{}]}}`,
		`{"containerConfig":{"env":[` + strings.Repeat(`"",`, 9<<20) + `""]}}`,
		`{"containerIncludes":[` + strings.Repeat(`"",`, 9<<20) + `""]}`,
		strings.Repeat(`[`, 20<<20),
	} {
		bodies = append(bodies, []byte(list))
	}
	s.repeat(ctx, 4, func(ctx context.Context, c *client, i int) { post(ctx, c, bodies[i%len(bodies)]) })
}

func deflated(data []byte) string {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, err := z.Write(data)
	must(err)
	must(z.Close())
	return "gzip:" + base64.StdEncoding.EncodeToString(b.Bytes())
}

// inlineBombs sends many layers that each unpack to nearly the limit of one body.
func inlineBombs(ctx context.Context, s *soak) {
	location := deflated(make([]byte, 31<<20))
	layers := make([]map[string]string, 60)
	for i := range layers {
		layers[i] = map[string]string{"location": location}
	}
	body := encode(map[string]any{"containerImage": s.Good + "/team/app:1", "containerConfig": map[string]any{"layers": layers}})
	s.repeat(ctx, 4, func(ctx context.Context, c *client, _ int) { post(ctx, c, body) })
}

// processorBombs sends layers of kilobytes that unpack to gigabytes, and many layers
// that each unpack to nearly as much as one of any size may.
func processorBombs(ctx context.Context, s *soak) {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	zeros := compressed(make([]byte, 256<<20))
	for range 16 {
		_, err := z.Write(zeros) // gzip streams may follow one another
		must(err)
	}
	must(z.Close())
	few := []map[string]string{{"location": "gzip:" + base64.StdEncoding.EncodeToString(b.Bytes())}}
	many := make([]map[string]string, 400)
	location := deflated(compressed(make([]byte, 60<<20)))
	for i := range many {
		many[i] = map[string]string{"location": location}
	}
	var bodies [][]byte
	for _, layers := range [][]map[string]string{few, many} {
		bodies = append(bodies, encode(map[string]any{"containerImage": s.Good + "/team/app:1", "containerConfig": map[string]any{"layers": layers}}))
	}
	s.repeat(ctx, 8, func(ctx context.Context, c *client, i int) { post(ctx, c, bodies[i%2]) })
}

// manyDescriptors has the server read documents of 4 MiB that consist of
// descriptors.
func manyDescriptors(ctx context.Context, s *soak) {
	const most = 4 << 20
	documents := []ocispec.Descriptor{}
	for i, text := range []string{
		`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[`,
		`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"a/b"},"layers":[`,
	} {
		text += strings.Repeat("{},", (most-len(text)-4)/3) + "{}]}"
		mediaType := []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest}[i]
		documents = append(documents, s.evil.putManifest("many/descriptors", fmt.Sprint("t", i), mediaType, []byte(text)))
	}
	s.repeat(ctx, 6, func(ctx context.Context, c *client, i int) {
		d := documents[i%2]
		if i%4 < 2 {
			_, _, _ = c.do(ctx, "POST", "/v1alpha1/inspect", encode(map[string]any{"containerImage": fmt.Sprintf("%s/many/descriptors:t%d", s.Evil, i%2)}))
			return
		}
		_, _, _ = c.do(ctx, "GET", "/v2/wt/tools/evil.test/many/descriptors/manifests/"+d.Digest.String(), nil)
	})
}

// heavyImages submits and pulls many images with large annotations in their
// descriptors.
func heavyImages(ctx context.Context, s *soak) {
	layers := make([]ocispec.Descriptor, 100)
	for i := range layers {
		layers[i] = s.evil.layerOf("heavy/app", 64)
		layers[i].Annotations = map[string]string{"note": strings.Repeat("x", 30<<10), "more": strings.Repeat("y", 5<<10)}
	}
	s.evil.publish("heavy/app", "1", "heavy", layers...)
	s.repeat(ctx, 4, func(ctx context.Context, c *client, i int) {
		repository, err := c.submit(ctx, submission(s.Evil+"/heavy/app:1", fmt.Sprintf("A=%d", i), fmt.Sprintf("T=%d", time.Now().UnixNano())))
		if err == nil {
			_, _, _ = c.do(ctx, "GET", repository+"/manifests/1", nil)
		}
	})
}

// manyLayers returns a manifest of n layers, which are numbered from the first.
func manyLayers(first, n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":`)
	b.Write(encode(ocispec.DescriptorEmptyJSON))
	b.WriteString(`,"layers":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		number := strconv.Itoa(first + i)
		b.WriteString(`{"mediaType":"a/b","digest":"sha256:` + strings.Repeat("0", 64-len(number)) + number + `","size":1}`)
	}
	b.WriteString("]}")
	return b.Bytes()
}

// unreadEntries requests the entries of an unchanged index one by one. Each adds
// its descriptors to the image.
func unreadEntries(ctx context.Context, s *soak) {
	var entries []ocispec.Descriptor
	for i := range 200 {
		d := s.evil.putManifest("unread/app", fmt.Sprint("e", i), ocispec.MediaTypeImageManifest, manyLayers(i*10000, 3000))
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: fmt.Sprint("v", i)}
		if i == 0 {
			d = s.evil.publish("unread/app", "good", "unread", s.evil.layerOf("unread/app", 100))
			d.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
		}
		entries = append(entries, d)
	}
	s.evil.putManifest("unread/app", "1", ocispec.MediaTypeImageIndex, encode(map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": entries}))
	var once sync.Once
	var repository string
	s.repeat(ctx, 4, func(ctx context.Context, c *client, i int) {
		once.Do(func() {
			repository, _ = c.submit(ctx, map[string]any{"containerImage": s.Evil + "/unread/app:1", "containerPlatform": "linux/arm64"})
		})
		_, _, _ = c.do(ctx, "GET", repository+"/manifests/"+entries[i%len(entries)].Digest.String(), nil)
		_, _, _ = c.do(ctx, "GET", "/v2/wt/zero/evil.test/unread/app/manifests/"+entries[i%len(entries)].Digest.String(), nil)
	})
}

// slowBodies holds as many requests open as the server allows, and sends each a
// byte at a time.
func slowBodies(ctx context.Context, s *soak) {
	var wg sync.WaitGroup
	for range 40 {
		c := newClient("127.0.0.66", s.URL, "")
		wg.Go(func() {
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				r, w := io.Pipe()
				go func() {
					_, _ = w.Write([]byte(`{"containerImage":"` + strings.Repeat("x", 8<<20)))
					for ctx.Err() == nil {
						if _, err := w.Write([]byte("x")); err != nil {
							return
						}
						time.Sleep(200 * time.Millisecond)
					}
					w.Close()
				}()
				req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/v1alpha2/container", r)
				must(err)
				req.Header.Set("Content-Type", "application/json")
				req.ContentLength = 30 << 20
				answered.Add(1) // most of these requests end with the attack
				if resp, err := c.Do(req); err == nil {
					resp.Body.Close()
				}
				r.Close()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// abandonedDownloads requests layers that never end, and leaves.
func abandonedDownloads(ctx context.Context, s *soak) {
	s.evil.setBlob(func(w http.ResponseWriter, r *http.Request, _ digestOf) bool {
		w.Header().Set("Content-Length", "1000000000")
		drip(w, r, 64<<10, 100*time.Millisecond)
		return true
	})
	s.repeat(ctx, 8, func(ctx context.Context, c *client, i int) {
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		digest := fmt.Sprintf("sha256:%064x", i)
		location := "http://" + s.Evil + "/v2/x/blobs/" + digest
		if i%2 == 0 {
			location = "docker://" + s.Evil + "/v2/x/blobs/" + digest
		}
		post(ctx, c, encode(map[string]any{"containerImage": s.Good + "/team/app:1",
			"containerConfig": map[string]any{"layers": []map[string]string{{"location": location, "gzipDigest": digest}}}}))
	})
}
