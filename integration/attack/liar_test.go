package attack

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// liar is a registry that sends the server to other hosts. The first part of a
// repository's name says how, the second is the index of the target.
type liar struct {
	tinyImage
	self    string // its URL
	targets []string
}

func (l liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/v2/")+"//", "/", 3)
	if r.URL.Path == "/v2/" { // a login names no repository
		parts = strings.FieldsFunc(r.Host+".realm", func(c rune) bool { return c == '-' || c == '.' })
		parts[0] = parts[len(parts)-1]
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil || n >= len(l.targets) {
		http.NotFound(w, r)
		return
	}
	scheme, _, _ := strings.Cut(l.self, ":")
	target := scheme + "://" + l.targets[n]
	isBlob, isConfig := strings.HasPrefix(parts[2], "blobs/"), strings.Contains(parts[2], harness.Sum(l.Config))
	redirect := func(path string) {
		w.Header().Set("Location", target+path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	challenge := func(realm string) {
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="x"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
	}
	switch how, known := parts[0], r.Header.Get("Authorization") != ""; {
	case how == "manifest" && !isBlob, how == "config" && isConfig, how == "layer" && isBlob && !isConfig:
		redirect(r.URL.Path)
	case how == "url":
		redirect("/l.tar.gz")
	case how == "hop":
		redirect("/token")
	case how == "realm" && !known:
		challenge(target + "/token")
	case how == "realmhop" && !known:
		challenge(fmt.Sprintf("%s/v2/hop/%d/token", l.self, n))
	default:
		l.tinyImage.ServeHTTP(w, r)
	}
}

// attempt makes the server connect to a host, and returns its answer.
type attempt func(t *testing.T, host string) harness.Response

const submission = "/v1alpha2/container"

// submitting posts a submission of a good image in which some members are
// replaced.
func submitting(t *testing.T, p *harness.Proxy, members map[string]any) harness.Response {
	t.Helper()
	body := map[string]any{"containerImage": "good.example.com/a:b"}
	for k, v := range members {
		body[k] = v
	}
	return p.Post(t, submission, body)
}

func layerAt(location string) harness.Config {
	return harness.Config{Layers: []harness.Layer{{Location: location}}}
}

// direct returns an attempt for each place in a request that takes a host.
func direct(p *harness.Proxy, image tinyImage) map[string]attempt {
	blob := "/v2/a/blobs/" + image.Layer.GzipDigest
	return map[string]attempt{
		"image": func(t *testing.T, host string) harness.Response {
			return submitting(t, p, map[string]any{"containerImage": host + ":443/a:b"})
		},
		"include": func(t *testing.T, host string) harness.Response {
			return submitting(t, p, map[string]any{"containerIncludes": []string{host + ":443/a:b"}})
		},
		"http layer": func(t *testing.T, host string) harness.Response {
			return submitting(t, p, map[string]any{"containerConfig": layerAt("http://" + host + "/l.tar.gz")})
		},
		"https layer": func(t *testing.T, host string) harness.Response {
			return submitting(t, p, map[string]any{"containerConfig": layerAt("https://" + host + "/l.tar.gz")})
		},
		"docker layer": func(t *testing.T, host string) harness.Response {
			return submitting(t, p, map[string]any{"containerConfig": layerAt("docker://" + host + ":443" + blob)})
		},
		"inspect": func(t *testing.T, host string) harness.Response {
			return p.Post(t, "/v1alpha1/inspect", map[string]any{"containerImage": host + ":443/a:b"})
		},
		"login": func(t *testing.T, host string) harness.Response {
			return p.Post(t, "/v1alpha2/validate-creds", map[string]any{"userName": "u", "password": "p", "registry": host + ":443"})
		},
	}
}

// led returns an attempt for each way in which a registry or web site leads the
// server to another host. n is the index of that host in the liar's targets.
func led(p *harness.Proxy, l liar, n int) map[string]attempt {
	registry := l.self[strings.Index(l.self, "//")+2:]
	name := func(how string) string { return fmt.Sprintf("%s/%s/%d", registry, how, n) }
	image := func(how string) attempt {
		return func(t *testing.T, _ string) harness.Response {
			return submitting(t, p, map[string]any{"containerImage": name(how) + ":x", "containerConfig": harness.Config{Env: []string{"A=b"}}})
		}
	}
	ways := map[string]attempt{
		"redirect of a manifest":        image("manifest"),
		"redirect of a config":          image("config"),
		"realm":                         image("realm"),
		"redirect of a token's request": image("realmhop"),
		"redirect of a blob that is pulled": func(t *testing.T, _ string) harness.Response {
			r := image("layer")(t, "")
			a, err := r.Answer()
			if err != nil || r.Status != http.StatusOK {
				t.Fatalf("an image whose manifest is good: %v, %d %s", err, r.Status, r.Body)
			}
			return harness.Do(t, http.MethodGet, fmt.Sprintf("%s/v2/wt/%s/layer/%d/blobs/%s", p.URL, a.ContainerToken, n, l.Layer.GzipDigest))
		},
		"redirect of an included layer": func(t *testing.T, _ string) harness.Response {
			return submitting(t, p, map[string]any{"containerIncludes": []string{name("layer") + ":x"}})
		},
		"redirect of a docker layer": func(t *testing.T, _ string) harness.Response {
			return submitting(t, p, map[string]any{"containerConfig": layerAt(fmt.Sprintf("docker://%s/v2/layer/%d/blobs/%s", registry, n, l.Layer.GzipDigest))})
		},
		"redirect of a layer's URL": func(t *testing.T, _ string) harness.Response {
			return submitting(t, p, map[string]any{"containerConfig": layerAt(fmt.Sprintf("%s/v2/url/%d/l.tar.gz", l.self, n))})
		},
		"redirect of an inspection": func(t *testing.T, _ string) harness.Response {
			return p.Post(t, "/v1alpha1/inspect", map[string]any{"containerImage": name("manifest") + ":x"})
		},
	}
	if strings.HasPrefix(l.self, "https:") {
		ways["realm of a login"] = func(t *testing.T, _ string) harness.Response {
			return p.Post(t, "/v1alpha2/validate-creds", map[string]any{"userName": "u", "password": "p", "registry": loginHost(n)})
		}
	}
	return ways
}

// loginHost returns a name of the unlisted registry that asks for logins at its
// nth target.
func loginHost(n int) string { return fmt.Sprintf("login-%d.example.com", n) }
