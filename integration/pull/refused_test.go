package pull

import (
	"net/http"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestRefusedPulls: requests for anything but the token's image are refused in
// the OCI error format, with statuses that make engines show the message.
func TestRefusedPulls(t *testing.T) {
	reg := upstream.Registry(t)
	digests := upstream.Push(t, reg.Host, "busybox:oci", "busybox:entry")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)})
	secret := harness.LayerOf(t, harness.File{Name: "secret", Mode: 0o600, Text: "of another tenant"})
	other := p.Augment(t, harness.Request{ContainerImage: "busybox:entry", ContainerConfig: &harness.Config{Layers: []harness.Layer{secret}}})
	token := a.ContainerToken
	flipped := harness.FlipBit(token)
	base := "/v2/wt/" + token + "/library/busybox"
	reg.Reset()
	for name, test := range map[string]struct {
		path   string
		status int
		code   string
		says   string
	}{
		"no token":           {"/v2/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"catalog":            {"/v2/_catalog", 404, "NAME_UNKNOWN", ""},
		"not a token":        {"/v2/wt/nonsense/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"forged token":       {"/v2/wt/" + flipped + "/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"truncated token":    {"/v2/wt/" + token[:38] + "/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"uppercase token":    {"/v2/wt/" + strings.ToUpper(token) + "/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"other image":        {"/v2/wt/" + token + "/library/alpine/manifests/oci", 403, "DENIED", "library/busybox"},
		"other tag":          {base + "/manifests/entry", 404, "MANIFEST_UNKNOWN", "busybox:oci"},
		"other manifest":     {base + "/manifests/" + digests["busybox:entry"].String(), 404, "MANIFEST_UNKNOWN", ""},
		"other augmented":    {base + "/manifests/" + other.TargetDigest, 404, "MANIFEST_UNKNOWN", ""},
		"base manifest":      {base + "/manifests/" + a.SourceDigest, 403, "DENIED", "augments"},
		"foreign layer":      {base + "/blobs/" + secret.GzipDigest, 404, "BLOB_UNKNOWN", ""},
		"manifest as blob":   {base + "/blobs/" + a.TargetDigest, 404, "BLOB_UNKNOWN", ""},
		"traversal":          {"/v2/wt/" + token + "/library/..%2f..%2fbusybox/manifests/oci", 404, "NAME_UNKNOWN", ""},
		"double slash":       {"/v2/wt/" + token + "//busybox/manifests/oci", 404, "NAME_UNKNOWN", ""},
		"uploads":            {base + "/blobs/uploads/", 404, "NAME_UNKNOWN", ""},
		"mirror form forged": {"/wt/" + flipped + "/v2/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			t.Run(name+" "+method, func(t *testing.T) {
				resp := harness.Do(t, method, p.URL+test.path)
				body := resp.Body
				if resp.Status != test.status {
					t.Errorf("status %d, want %d: %s", resp.Status, test.status, body)
				}
				if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
					t.Errorf("content type %q", ct)
				}
				if method == http.MethodHead {
					return
				}
				if !strings.HasPrefix(body, `{"errors":[{"code":"`+test.code+`","message":"`) || !strings.Contains(body, test.says) {
					t.Errorf("body %s, want code %s and %q", body, test.code, test.says)
				}
			})
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		resp := harness.Do(t, method, p.URL+base+"/manifests/oci")
		if resp.Status != http.StatusMethodNotAllowed || !strings.Contains(resp.Body, "UNSUPPORTED") || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %s", method, resp.Status, resp.Body)
		}
	}
	if requests := reg.Requests(); len(requests) != 0 {
		t.Errorf("refused pulls reached the upstream: %v", requests)
	}
	if strings.Contains(p.Log.String(), token) {
		t.Error("the log holds a token")
	}
}
