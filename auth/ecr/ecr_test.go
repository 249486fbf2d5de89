package ecr

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

func TestIdentities(t *testing.T) {
	file := func(t *testing.T, content string) string {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	instance := []string{
		"PUT /latest/api/token",
		"GET /latest/meta-data/iam/security-credentials/",
		"GET /latest/meta-data/iam/security-credentials/profile",
		"ecr INSTANCE eu-west-1",
	}
	tests := map[string]struct {
		options  Options
		env      func(t *testing.T, a *standIn) map[string]string
		registry string
		calls    []string
	}{
		"static keys": {static, nil, private, []string{"ecr STATIC eu-west-1"}},
		"temporary keys": {
			Options{AccessKeyID: "STATIC", SecretAccessKey: keySecret, SessionToken: session}, nil, private,
			[]string{"ecr STATIC eu-west-1"},
		},
		"static keys and the default chain": {static, func(*testing.T, *standIn) map[string]string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "other", "AWS_REGION": "us-west-2"}
		}, private, []string{"ecr STATIC eu-west-1"}},
		"environment": {Options{}, func(*testing.T, *standIn) map[string]string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": keySecret}
		}, private, []string{"ecr ENV eu-west-1"}},
		"role": {
			Options{AccessKeyID: "STATIC", SecretAccessKey: keySecret, RoleARN: role}, nil, private,
			[]string{"AssumeRole STATIC eu-west-1", "ecr ROLE eu-west-1"},
		},
		"role, STS in another region": {
			Options{AccessKeyID: "STATIC", SecretAccessKey: keySecret, RoleARN: role, ExternalID: "ext", Region: "us-east-2"}, nil, private,
			[]string{"AssumeRole STATIC us-east-2", "ecr ROLE eu-west-1"},
		},
		"role, STS in the server's region": {
			Options{AccessKeyID: "STATIC", SecretAccessKey: keySecret, RoleARN: role},
			func(*testing.T, *standIn) map[string]string { return map[string]string{"AWS_REGION": "us-west-2"} }, private,
			[]string{"AssumeRole STATIC us-west-2", "ecr ROLE eu-west-1"},
		},
		"IRSA": {Options{}, func(t *testing.T, _ *standIn) map[string]string {
			return map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": file(t, jwt), "AWS_ROLE_ARN": role, "AWS_REGION": "eu-west-1"}
		}, private, []string{"AssumeRoleWithWebIdentity", "ecr WEB eu-west-1"}},
		"IRSA, then a role": {Options{RoleARN: role}, func(t *testing.T, _ *standIn) map[string]string {
			return map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": file(t, jwt), "AWS_ROLE_ARN": role}
		}, private, []string{"AssumeRoleWithWebIdentity", "AssumeRole WEB eu-west-1", "ecr ROLE eu-west-1"}},
		"pod identity": {Options{}, func(t *testing.T, a *standIn) map[string]string {
			return map[string]string{
				"AWS_CONTAINER_CREDENTIALS_FULL_URI":     a.URL + "/v1/credentials",
				"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file(t, podAuth),
			}
		}, private, []string{"GET /v1/credentials", "ecr POD eu-west-1"}},
		"instance profile": {Options{}, func(_ *testing.T, a *standIn) map[string]string {
			return map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": a.URL}
		}, private, instance},
		"shared file": {Options{}, func(t *testing.T, _ *standIn) map[string]string {
			return map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file(t, "[default]\naws_access_key_id=FILE\naws_secret_access_key="+keySecret+"\n")}
		}, private, []string{"ecr FILE eu-west-1"}},
		"public":            {static, nil, "public.ecr.aws", []string{"public STATIC us-east-1"}},
		"public, elsewhere": {Options{AccessKeyID: "STATIC", SecretAccessKey: keySecret, Region: "eu-west-1"}, nil, "public.ecr.aws", []string{"public STATIC us-east-1"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAWS(t)
			if test.env != nil {
				for name, value := range test.env(t, a) {
					t.Setenv(name, value)
				}
			}
			k, _ := newTest(t, test.options)
			want(t, k, test.registry)
			want(t, k, test.registry)
			if got := a.calls(); !slices.Equal(got, test.calls) {
				t.Errorf("calls:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(test.calls, "\n  "))
			}
			for _, r := range a.Requests() {
				wantRequest(t, r, test.options)
			}
		})
	}
}

// wantRequest checks the proof of the identity, which the stand-in ignores.
func wantRequest(t *testing.T, r cloudtest.Request, o Options) {
	t.Helper()
	fields := map[string][2]string{}
	signed := r.Header.Get("X-Amz-Security-Token")
	switch name := call(r); {
	case name == "AssumeRole":
		fields["role"] = [2]string{r.Form.Get("RoleArn"), role}
		fields["external ID"] = [2]string{r.Form.Get("ExternalId"), o.ExternalID}
		fields["session"] = [2]string{r.Form.Get("RoleSessionName"), "waveproxy"}
	case name == "AssumeRoleWithWebIdentity":
		fields["role"] = [2]string{r.Form.Get("RoleArn"), role}
		fields["token"] = [2]string{r.Form.Get("WebIdentityToken"), jwt}
	case name == "GET /v1/credentials":
		fields["token"] = [2]string{r.Header.Get("Authorization"), podAuth}
	case strings.HasPrefix(name, "GET /latest"):
		fields["token"] = [2]string{r.Header.Get("X-Aws-Ec2-Metadata-Token"), instanceAuth}
	case name == "ecr" && o.RoleARN != "":
		fields["session"] = [2]string{signed, session}
	case name == "ecr" && o.AccessKeyID != "":
		fields["session"] = [2]string{signed, o.SessionToken}
	}
	fields["connection"] = [2]string{r.Header.Get("Connection"), "close"}
	for field, v := range fields {
		if v[0] != v[1] {
			t.Errorf("%s: %s is %q, want %q", call(r), field, v[0], v[1])
		}
	}
}

func TestEndpointOption(t *testing.T) {
	a, elsewhere := newAWS(t), newAWS(t) // the environment names the second
	o := static
	o.Endpoint = a.URL
	k, _ := newTest(t, o)
	want(t, k, private)
	want(t, k, "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com")
	want(t, k, "public.ecr.aws")
	if got := a.calls(); !slices.Equal(got, []string{"ecr STATIC eu-west-1", "ecr STATIC us-east-1"}) {
		t.Errorf("calls at the endpoint: %v", got)
	}
	if got := elsewhere.calls(); !slices.Equal(got, []string{"public STATIC us-east-1"}) {
		t.Errorf("calls elsewhere: %v", got)
	}
}

func TestFIPS(t *testing.T) {
	a := newAWS(t)
	k, _ := newTest(t, static)
	_, err := k.Credential(t.Context(), auth.Target{Registry: "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com"})
	cloudtest.WantError(t, err, secrets, "FIPS and custom endpoint are not supported") // that is, with AWS_ENDPOINT_URL
	if n := a.Count(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestRegistries(t *testing.T) {
	tests := []struct {
		registry string
		want     api
		ours     bool
	}{
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com", api{region: "eu-west-1"}, true},
		{"123456789012.DKR.ecr.eu-west-1.amazonaws.com", api{region: "eu-west-1"}, true},
		{"123456789012.dkr.ecr.us-gov-west-1.amazonaws.com", api{region: "us-gov-west-1"}, true},
		{"123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", api{region: "us-east-1", fips: true}, true},
		{"123456789012.dkr-ecr.ap-southeast-10.on.aws", api{region: "ap-southeast-10"}, true},
		{"123456789012.dkr-ecr-fips.us-east-1.on.aws", api{region: "us-east-1", fips: true}, true},
		{"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", api{region: "cn-north-1"}, true},
		{"123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", api{region: "cn-north-1"}, true},
		{"123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", api{region: "eusc-de-east-1"}, true},
		{"public.ecr.aws", api{region: "us-east-1", public: true}, true},
		{"", api{}, false},
		{"docker.io", api{}, false},
		{"gallery.ecr.aws", api{}, false},
		{"public.ecr.aws:443", api{}, false},
		{"public.ecr.aws.example.org", api{}, false},
		{"12345.dkr.ecr.eu-west-1.amazonaws.com", api{}, false},
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com:8443", api{}, false},
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.org", api{}, false},
		{"evil.123456789012.dkr.ecr.eu-west-1.amazonaws.com", api{}, false},
		{"123456789012.dkr.ecr.example.org/eu-west-1.amazonaws.com", api{}, false},
		{"123456789012.dkr.ecr.eu-west-1.evil.com", api{}, false},
		{"123456789012.dkr.ecr.eu.west-1.amazonaws.com", api{}, false},
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com\n", api{}, false},
		{"bucket.s3.eu-west-1.amazonaws.com", api{}, false},
	}
	for _, test := range tests {
		if got, ours := apiOf(test.registry); got != test.want || ours != test.ours {
			t.Errorf("%s: got %+v, %v", test.registry, got, ours)
		}
	}
	a := newAWS(t)
	k, err := New(static)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		if test.ours {
			continue
		}
		if c, err := k.Credential(t.Context(), auth.Target{Registry: test.registry}); err != nil || c != (auth.Credential{}) {
			t.Errorf("%s: got %v, %v", test.registry, c, err)
		}
	}
	if n := a.Count(); n != 0 {
		t.Errorf("%d requests for registries of others", n)
	}
}

func TestTokensAreShared(t *testing.T) {
	a := newAWS(t)
	k, _ := newTest(t, static)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { want(t, k, private) })
	}
	all.Wait()
	want(t, k, "999999999999.dkr-ecr.eu-west-1.on.aws") // AWS's answer is about the identity, not the account
	if n := a.Count(); n != 1 {
		t.Errorf("%d requests for 51 questions, want 1", n)
	}
	want(t, k, "123456789012.dkr.ecr.us-east-1.amazonaws.com")
	if got := a.calls(); !slices.Equal(got, []string{"ecr STATIC eu-west-1", "ecr STATIC us-east-1"}) {
		t.Errorf("calls: %v", got)
	}
}

func TestTokensAreRenewed(t *testing.T) {
	a := newAWS(t)
	k, clock := newTest(t, static)
	want(t, k, private)
	clock.Advance(8 * time.Hour)
	want(t, k, private)
	if n := a.Count(); n != 1 {
		t.Fatalf("%d requests after 8 of 12 hours, want 1", n)
	}
	arrived := make(chan struct{})
	a.set("ecr", func() error { close(arrived); return nil })
	clock.Advance(time.Hour + time.Minute)
	want(t, k, private)
	<-arrived // the renewal in the background
}

func TestTokensExpire(t *testing.T) {
	a := newAWS(t)
	k, clock := newTest(t, static)
	want(t, k, private)
	a.set("ecr", refused(400, "AccessDeniedException", "the role was taken away"))
	clock.Advance(12*time.Hour - time.Minute)
	got, err := k.Credential(t.Context(), auth.Target{Registry: private})
	cloudtest.WantError(t, err, secrets, "the role was taken away")
	if !got.IsZero() {
		t.Errorf("got %v", got)
	}
}

func TestTokensWithoutTime(t *testing.T) {
	a := newAWS(t)
	a.expires = time.Now().Add(-time.Minute)
	k, _ := newTest(t, static)
	want(t, k, private)
	want(t, k, private)
	if n := a.Count(); n != 2 {
		t.Errorf("%d requests, want 2: a token that has expired is not kept", n)
	}
}
