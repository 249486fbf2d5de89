package ecr

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

func TestMain(m *testing.M) { cloudtest.Main(m) }

const (
	private = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	role    = "arn:aws:iam::123456789012:role/pull"
)

var (
	keySecret    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	session      = cloudtest.Secret("session")
	jwt          = cloudtest.Secret("eyJweb")
	instanceAuth = cloudtest.Secret("imdsv2")
	podAuth      = cloudtest.Secret("pod")
	password     = cloudtest.Secret("ecrpassword")
	secrets      = []string{keySecret, session, jwt, instanceAuth, podAuth, password, base64.StdEncoding.EncodeToString([]byte("AWS:" + password))}
)

// standIn stands for every API of AWS. Its keys differ by their IDs, which
// signatures name: "STATIC", "ROLE", "WEB", "INSTANCE", "POD".
type standIn struct {
	*cloudtest.Server
	mu      sync.Mutex
	expires time.Time               // of the tokens
	refuse  map[string]func() error // by call; runs before the answer and returns the refusal or nil
}

type refusal struct {
	status        int
	code, message string
}

func (r refusal) Error() string { return r.code }

func refused(status int, code, message string) func() error {
	return func() error { return refusal{status, code, message} }
}

func newAWS(t *testing.T) *standIn {
	t.Helper()
	a := &standIn{expires: time.Now().Add(12 * time.Hour), refuse: map[string]func() error{}}
	a.Server = cloudtest.NewServer(t, a.answer)
	t.Setenv("AWS_ENDPOINT_URL", a.URL)
	t.Setenv("AWS_ENDPOINT_URL_STS", a.URL) // the SDK makes its STS client for IRSA before it reads the other
	return a
}

func (a *standIn) set(call string, refuse func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse[call] = refuse
}

// call returns the name of the API call in a request.
func call(r cloudtest.Request) string {
	switch {
	case r.Header.Get("X-Amz-Target") == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken":
		return "ecr"
	case r.Header.Get("X-Amz-Target") == "SpencerFrontendService.GetAuthorizationToken":
		return "public"
	case r.Form.Get("Action") != "":
		return r.Form.Get("Action")
	}
	return r.Method + " " + r.Path
}

// calls returns the requests so far, each with the ID of its key and its region.
func (a *standIn) calls() (all []string) {
	for _, r := range a.Requests() {
		text := call(r)
		if _, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
			scope := strings.Split(rest, "/")
			text += " " + scope[0] + " " + scope[2]
		}
		all = append(all, text)
	}
	return all
}

func (a *standIn) answer(w http.ResponseWriter, r cloudtest.Request) {
	a.mu.Lock()
	refuse, expires := a.refuse[call(r)], a.expires
	a.mu.Unlock()
	const sts = `<%sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>%s</AccessKeyId>` +
		`<SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></%[1]sResult></%[1]sResponse>`
	keys := func(id string) string {
		return fmt.Sprintf(`{"Code":"Success","AccessKeyId":%q,"SecretAccessKey":%q,"Token":%q,"Expiration":"2100-01-01T00:00:00Z"}`, id, keySecret, session)
	}
	token := fmt.Sprintf(`{"authorizationToken":%q,"expiresAt":%d}`, base64.StdEncoding.EncodeToString([]byte("AWS:"+password)), expires.Unix())
	name := call(r)
	var no refusal
	if refuse != nil && errors.As(refuse(), &no) {
		if strings.HasPrefix(name, "Assume") {
			w.WriteHeader(no.status)
			fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>`, no.code, no.message)
			return
		}
		w.Header().Set("X-Amzn-ErrorType", no.code)
		cloudtest.JSON(w, no.status, fmt.Sprintf(`{"__type":%q,"message":%q}`, no.code, no.message))
		return
	}
	switch name {
	case "ecr":
		cloudtest.JSON(w, http.StatusOK, `{"authorizationData":[`+token+`]}`)
	case "public":
		cloudtest.JSON(w, http.StatusOK, `{"authorizationData":`+token+`}`)
	case "AssumeRole":
		fmt.Fprintf(w, sts, name, "ROLE", keySecret, session)
	case "AssumeRoleWithWebIdentity":
		fmt.Fprintf(w, sts, name, "WEB", keySecret, session)
	case "PUT /latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		fmt.Fprint(w, instanceAuth)
	case "GET /latest/meta-data/iam/security-credentials/":
		fmt.Fprint(w, "profile")
	case "GET /latest/meta-data/iam/security-credentials/profile":
		cloudtest.JSON(w, http.StatusOK, keys("INSTANCE"))
	case "GET /v1/credentials":
		cloudtest.JSON(w, http.StatusOK, keys("POD"))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func newTest(t *testing.T, o Options) (*keychain, *cloudtest.Clock) {
	t.Helper()
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	k, clock := newKeychain(o), &cloudtest.Clock{}
	k.cache = cloud.NewCache(clock.Now)
	k.client = k.client.WithDialerOptions(cloudtest.Stay)
	return k, clock
}

var static = Options{AccessKeyID: "STATIC", SecretAccessKey: keySecret}

func want(t *testing.T, k auth.Keychain, registry string) {
	t.Helper()
	got, err := k.Credential(t.Context(), auth.Target{Registry: registry, Repository: "team/app"})
	if err != nil {
		t.Fatal(err)
	}
	if got != (auth.Credential{Username: "AWS", Password: password, Source: "Amazon ECR"}) {
		t.Errorf("got %v from %q", got, got.Source)
	}
}
