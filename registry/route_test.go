package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
)

const (
	testToken  = auth.Token("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	testDigest = digest.Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
)

func TestParseRoute(t *testing.T) {
	const tok, dgst = string(testToken), string(testDigest)
	for path, want := range map[string]route{
		"/v2":  {kind: kindPing},
		"/v2/": {kind: kindPing},
		"/v2/wt/" + tok + "/library/ubuntu/manifests/24.04":     {kindManifest, testToken, "library/ubuntu", "24.04", ""},
		"/v2/wt/" + tok + "/library/ubuntu/manifests/" + dgst:   {kindManifest, testToken, "library/ubuntu", "", testDigest},
		"/v2/wt/" + tok + "/library/ubuntu/blobs/" + dgst:       {kindBlob, testToken, "library/ubuntu", "", testDigest},
		"/v2/wt/" + tok + "/a/b/c/d/tags/list":                  {kindTags, testToken, "a/b/c/d", "", ""},
		"/v2/wt/" + tok + "/x/referrers/" + dgst:                {kindReferrers, testToken, "x", "", testDigest},
		"/v2/wt/" + tok + "/manifests/blobs/manifests/tags":     {kindManifest, testToken, "manifests/blobs", "tags", ""},
		"/wt/" + tok + "/v2/":                                   {kind: kindPing},
		"/wt/" + tok + "/v2":                                    {kind: kindPing},
		"/wt/" + tok + "/v2/library/ubuntu/manifests/24.04":     {kindManifest, testToken, "library/ubuntu", "24.04", ""},
		"/wt/" + tok + "/v2/library/ubuntu/blobs/" + dgst:       {kindBlob, testToken, "library/ubuntu", "", testDigest},
		"/v2/wt/anything/x/manifests/latest":                    {kindManifest, "anything", "x", "latest", ""},
		"/v2/wt/" + tok + "/a__b.c-d/e/manifests/_Tag.with-all": {kindManifest, testToken, "a__b.c-d/e", "_Tag.with-all", ""},
	} {
		got, ok := parseRoute(path)
		if want.kind == kindPing {
			got.token = ""
		}
		if !ok || got != want {
			t.Errorf("parseRoute(%q) = %+v, %v; want %+v", path, got, ok, want)
		}
	}
}

func TestParseRouteRefuses(t *testing.T) {
	const tok, dgst = string(testToken), string(testDigest)
	for _, path := range []string{
		"", "/", "/v1/", "/v2x/", "//v2/", "/v2//", "/v2/_catalog", "/v2/library/ubuntu/manifests/latest",
		"/v2/wt", "/v2/wt/", "/v2/wt//", "/v2/wt/" + tok, "/v2/wt/" + tok + "/", "/v2/wt/" + tok + "/manifests/latest",
		"/v2/wt/" + tok + "/library/../etc/manifests/latest",
		"/v2/wt/" + tok + "/library//ubuntu/manifests/latest",
		"/v2/wt/" + tok + "//manifests/latest",
		"/v2/wt/" + tok + "/Library/ubuntu/manifests/latest",
		"/v2/wt/" + tok + "/ubuntu/manifests/",
		"/v2/wt/" + tok + "/ubuntu/manifests/.hidden",
		"/v2/wt/" + tok + "/ubuntu/manifests/" + strings.Repeat("a", 129),
		"/v2/wt/" + tok + "/ubuntu/manifests/sha256:abc",
		"/v2/wt/" + tok + "/ubuntu/manifests/md5:" + strings.Repeat("a", 32),
		"/v2/wt/" + tok + "/ubuntu/blobs/latest",
		"/v2/wt/" + tok + "/ubuntu/blobs/" + strings.ToUpper(dgst),
		"/v2/wt/" + tok + "/ubuntu/blobs/uploads/",
		"/v2/wt/" + tok + "/ubuntu/tags/other",
		"/v2/wt/" + tok + "/ubuntu/referrers/latest",
		"/v2/wt/" + tok + "/ubuntu/manifests/latest/",
		"/v2/wt/" + tok + "/ubuntu/manifests/latest\x00",
		"/v2/wt/" + tok + "/ubuntu\x00/manifests/latest",
		"/v2/wt/" + tok + "/" + strings.Repeat("a/", 300) + "manifests/latest",
		"/wt/" + tok, "/wt/" + tok + "/", "/wt/" + tok + "/v2x/", "/wt//v2/", "/wt/a/b/v2/x/manifests/latest",
		"/wt/" + tok + "/v2/manifests/latest",
	} {
		if got, ok := parseRoute(path); ok {
			t.Errorf("parseRoute(%q) = %+v, want a refusal", path, got)
		}
	}
}

// FuzzParseRoute checks that an accepted path is exactly the join of its parts,
// so that no other spelling of it reaches a handler.
func FuzzParseRoute(f *testing.F) {
	f.Add("/v2/wt/" + string(testToken) + "/library/ubuntu/manifests/24.04")
	f.Add("/wt/" + string(testToken) + "/v2/library/ubuntu/blobs/" + string(testDigest))
	f.Add("/v2/wt/x/a/tags/list")
	f.Add("/v2/wt/x/a/referrers/" + string(testDigest))
	f.Add("/v2/")
	f.Fuzz(func(t *testing.T, path string) {
		r, ok := parseRoute(path)
		if !ok || r.kind == kindPing {
			return
		}
		ref := r.tag + string(r.digest)
		resource := map[kind]string{kindManifest: "/manifests/" + ref, kindBlob: "/blobs/" + ref, kindTags: "/tags/list", kindReferrers: "/referrers/" + ref}[r.kind]
		a := "/v2/wt/" + string(r.token) + "/" + r.name + resource
		b := "/wt/" + string(r.token) + "/v2/" + r.name + resource
		if path != a && path != b {
			t.Errorf("%q was read as %q", path, a)
		}
		if len(r.name) > maxName || strings.Contains("/"+r.name+"/", "/../") || strings.ContainsAny(string(r.token), "/") {
			t.Errorf("%q: name %q, token %q", path, r.name, r.token)
		}
	})
}

// TestMalformed: the part of a path that is spelled wrongly is what the refusal names.
func TestMalformed(t *testing.T) {
	const tok, dgst = string(testToken), string(testDigest)
	for path, want := range map[string]string{
		"/v2/wt/" + tok + "/a/manifests/sha256:abc":                          "400 DIGEST_INVALID",
		"/v2/wt/" + tok + "/a/blobs/latest":                                  "400 DIGEST_INVALID",
		"/v2/wt/" + tok + "/a/blobs/" + strings.ToUpper(dgst):                "400 DIGEST_INVALID",
		"/v2/wt/" + tok + "/a/manifests/sha256:" + strings.ToUpper(dgst[7:]): "400 DIGEST_INVALID",
		"/v2/wt/" + tok + "/a/referrers/md5:" + strings.Repeat("a", 32):      "400 DIGEST_INVALID",
		"/wt/hello/v2/a/blobs/sha256:":                                       "400 DIGEST_INVALID",
		"/v2/wt/hello/a/manifests/.tag":                                      "400 TAG_INVALID",
		"/v2/wt/hello/a/manifests/" + strings.Repeat("a", 129):               "400 TAG_INVALID",
		"/v2/wt/hello/a/manifests/a+b":                                       "400 TAG_INVALID",
		"/v2/wt/hello/A/manifests/latest":                                    "400 NAME_INVALID",
		"/v2/wt/hello/a__b___c/manifests/latest":                             "400 NAME_INVALID",
		"/v2/wt/hello/" + strings.Repeat("a", 256) + "/manifests/latest":     "400 NAME_INVALID",
		"/v2/wt/hello/a/tags/other":                                          "404 NAME_UNKNOWN",
		"/v2/library/ubuntu/manifests/latest":                                "404 NAME_UNKNOWN",
		"/v2/wt/hello/manifests/latest":                                      "404 NAME_UNKNOWN",
	} {
		if _, ok := parseRoute(path); ok {
			t.Errorf("%s is a route", path)
		}
		p := front.ProblemOf(malformed(path))
		if got := fmt.Sprint(p.Status, " ", p.Code); got != want {
			t.Errorf("%s: %s %s, want %s", path, got, p.Message, want)
		}
		if strings.Contains(p.Message, tok) {
			t.Errorf("%s: the message has the token: %s", path, p.Message)
		}
	}
}
