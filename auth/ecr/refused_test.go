package ecr

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

// canonical returns AWS's explanation of a wrong signature, which quotes the signed
// text.
func canonical() string {
	return "The request signature we calculated does not match.\n\nThe Canonical String for this request should have been\n'POST\n/\n\n" +
		"x-amz-security-token:" + session + "\n" + "secret " + keySecret + "'"
}

func TestRefusals(t *testing.T) {
	withRole := Options{AccessKeyID: "STATIC", SecretAccessKey: keySecret, SessionToken: session, RoleARN: role}
	withID := withRole
	withID.ExternalID = "ext"
	tests := map[string]struct {
		options  Options
		registry string
		call     string
		refuse   func() error
		parts    []string
	}{
		"no permission": {
			static, private, "ecr",
			refused(400, "AccessDeniedException", "User: arn:aws:iam::123456789012:user/ci is not authorized"),
			[]string{private, "eu-west-1", "ECR GetAuthorizationToken", "AccessDeniedException: User: arn:aws:iam::123456789012:user/ci", "needs ecr:GetAuthorizationToken"},
		},
		"public, no permission": {
			static, "public.ecr.aws", "public", refused(400, "AccessDeniedException", "no"),
			[]string{"public.ecr.aws", "ECR PUBLIC GetAuthorizationToken", "ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"},
		},
		"wrong keys": {
			static, private, "ecr", refused(400, "UnrecognizedClientException", "The security token included in the request is invalid."),
			[]string{"UnrecognizedClientException", "keys that this server uses are wrong, expired"},
		},
		"wrong signature": {
			withRole, private, "ecr", refused(403, "InvalidSignatureException", canonical()),
			[]string{"InvalidSignatureException: The request signature", "x-amz-security-token:[hidden]", "wrong, expired"},
		},
		"wrong signature at STS": {
			withRole, private, "AssumeRole", refused(403, "SignatureDoesNotMatch", canonical()),
			[]string{"STS AssumeRole: SignatureDoesNotMatch", "[hidden]", "wrong, expired"},
		},
		"role not trusted": {
			withRole, private, "AssumeRole", refused(403, "AccessDenied", "not authorized to perform: sts:AssumeRole"),
			[]string{"find AWS identity: STS AssumeRole: AccessDenied", "trust policy must allow", "may ask for an external ID"},
		},
		"wrong external ID": {
			withID, private, "AssumeRole", refused(403, "AccessDenied", "not authorized"),
			[]string{"trust policy of " + role, "configured external ID"},
		},
		"no token in the answer": {
			static, private, "ecr", refused(200, "", "{}"),
			[]string{"GetAuthorizationToken answered with no base64 of user:password"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAWS(t)
			a.set(test.call, test.refuse)
			k, _ := newTest(t, test.options)
			var texts []string
			for range 3 {
				got, err := k.Credential(t.Context(), auth.Target{Registry: test.registry})
				cloudtest.WantError(t, err, secrets, append(test.parts, "log in to Amazon ECR for "+test.registry)...)
				texts = append(texts, err.Error())
				if !got.IsZero() {
					t.Errorf("got %v and an error", got)
				}
			}
			if n := a.Count(); n > 2 {
				t.Errorf("%d requests for 3 questions: %v; refusals are neither retried nor asked for again at once", n, texts)
			}
		})
	}
}

func TestIRSARefused(t *testing.T) {
	a := newAWS(t)
	a.set("AssumeRoleWithWebIdentity", refused(403, "AccessDenied", "Not authorized, token "+jwt))
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(jwt), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path)
	t.Setenv("AWS_ROLE_ARN", role)
	k, _ := newTest(t, Options{})
	_, err := k.Credential(t.Context(), auth.Target{Registry: private})
	cloudtest.WantError(t, err, secrets, "STS AssumeRoleWithWebIdentity: AccessDenied", "OIDC provider")
}

func TestNoIdentity(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	k, _ := newTest(t, Options{})
	_, err := k.Credential(t.Context(), auth.Target{Registry: private})
	cloudtest.WantError(t, err, secrets, private, "find AWS identity: ec2imds GetMetadata: access disabled", "configure access keys", "IRSA")
}

func TestInstanceProfileAnswersNonsense(t *testing.T) {
	a := newAWS(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", a.URL+"/v1/credentials")
	a.set("GET /v1/credentials", refused(403, "Denied", "bad token "+session))
	k, _ := newTest(t, Options{})
	_, err := k.Credential(t.Context(), auth.Target{Registry: private})
	cloudtest.WantError(t, err, secrets, "find AWS identity: bad token [hidden]; configure access keys")
}

func TestUnreachable(t *testing.T) {
	// In a bubble, because the SDK waits for seconds between its attempts.
	synctest.Test(t, func(t *testing.T) {
		o := static
		o.Endpoint = "http://127.0.0.1:1"
		k, _ := newTest(t, o)
		_, err := k.Credential(t.Context(), auth.Target{Registry: private})
		cloudtest.WantError(t, err, secrets, "ECR GetAuthorizationToken", "127.0.0.1:1", "connection refused", "access to ECR's API")
	})
}

func TestWaitersLeave(t *testing.T) {
	a := newAWS(t)
	arrived, gate := make(chan struct{}), make(chan struct{})
	a.set("ecr", func() error {
		close(arrived)
		<-gate
		return nil
	})
	k, _ := newTest(t, static)
	ctx, leave := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() {
		_, err := k.Credential(ctx, auth.Target{Registry: private})
		errs <- err
	}()
	<-arrived
	leave()
	err := <-errs
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	cloudtest.WantError(t, err, secrets, private)
	close(gate)
	want(t, k, private) // from the login that went on
	if n := a.Count(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestOptions(t *testing.T) {
	tests := map[string]struct {
		options Options
		part    string
	}{
		"key without secret":    {Options{AccessKeyID: "A"}, "go together"},
		"secret without key":    {Options{SecretAccessKey: keySecret}, "go together"},
		"session without keys":  {Options{SessionToken: session}, "session token goes with"},
		"external ID, no role":  {Options{ExternalID: "x"}, "goes with a role"},
		"role is a name":        {Options{RoleARN: "pull"}, `"pull"`},
		"endpoint is a host":    {Options{Endpoint: "api.ecr.local"}, `"api.ecr.local"`},
		"endpoint has no host":  {Options{Endpoint: "https:///x"}, "want a URL"},
		"endpoint has a scheme": {Options{Endpoint: "ftp://x"}, "want a URL"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(test.options)
			cloudtest.WantError(t, err, secrets, test.part)
		})
	}
	for _, o := range []Options{{}, static, {RoleARN: role, ExternalID: "x"}, {Endpoint: "https://vpce.example.org"}} {
		if k, err := New(o); err != nil || k == nil {
			t.Errorf("%v: %v", o.RoleARN, err)
		}
	}
}
