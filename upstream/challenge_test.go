package upstream

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
)

// TestChallenges: every challenge of every line is read.
func TestChallenges(t *testing.T) {
	const full = `Bearer realm="https://h/t?a=1,2",service="a, \"b\" c",scope="repository:team/app:pull,push"`
	for name, test := range map[string]struct {
		lines []string
		want  string // as fmt prints them
	}{
		"none":                  {nil, `[]`},
		"empty":                 {[]string{"", " , ,"}, `[]`},
		"a scheme":              {[]string{"Negotiate"}, `[{negotiate map[]}]`},
		"quoted commas":         {[]string{full}, `[{bearer map[realm:https://h/t?a=1,2 scope:repository:team/app:pull,push service:a, "b" c]}]`},
		"lines":                 {[]string{"NTLM", "Negotiate", `BASIC realm="x"`}, `[{ntlm map[]} {negotiate map[]} {basic map[realm:x]}]`},
		"one line":              {[]string{`Negotiate, NTLM, Basic realm="x, y", ` + full}, `[{negotiate map[]} {ntlm map[]} {basic map[realm:x, y]} {bearer map[realm:https://h/t?a=1,2 scope:repository:team/app:pull,push service:a, "b" c]}]`},
		"token68":               {[]string{"Negotiate YWJj/+=, basic"}, `[{negotiate map[]} {basic map[]}]`},
		"token68 with padding":  {[]string{"NTLM TlRMTVNTUAAC==,Bearer realm=x"}, `[{ntlm map[]} {bearer map[realm:x]}]`},
		"spaces around =":       {[]string{"Bearer  realm = \"x\" ,\tservice =\"y\""}, `[{bearer map[realm:x service:y]}]`},
		"case of names":         {[]string{`bEARER Realm="x",SERVICE="y"`}, `[{bearer map[realm:x service:y]}]`},
		"no commas":             {[]string{`Bearer realm="x" service="y"`}, `[{bearer map[realm:x service:y]}]`},
		"no quotes":             {[]string{"Bearer realm=https://h/token?a=b&c=d, service=h"}, `[{bearer map[realm:https://h/token?a=b&c=d service:h]}]`},
		"no end of a quote":     {[]string{`Basic, Bearer realm="x`}, `[{basic map[]} {bearer map[realm:x]}]`},
		"a parameter and none":  {[]string{`realm="x", Basic`}, `[{basic map[]}]`},
		"twice":                 {[]string{`Bearer realm="x",realm="y"`}, `[{bearer map[realm:x]}]`},
		"Digest":                {[]string{`Digest realm="a", qop="auth, auth-int", nonce="dcd98b=", Basic realm="b"`}, `[{digest map[nonce:dcd98b= qop:auth, auth-int realm:a]} {basic map[realm:b]}]`},
		"backslash at the end":  {[]string{`Basic realm="x\`}, `[{basic map[realm:x\]}]`},
		"escaped quote, commas": {[]string{`Basic realm="a\",b", Negotiate`}, `[{basic map[realm:a",b]} {negotiate map[]}]`},
	} {
		if got := fmt.Sprint(challenges(test.lines)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// TestAllChallengesCount: a challenge is answered wherever it stands, by pulls and by
// checks of a login.
func TestAllChallengesCount(t *testing.T) {
	const basic, token = `Basic realm="a, \"b\""`, `Bearer realm="%s",service="x, y"`
	for name, test := range map[string]struct {
		challenges []string
		takes      string // the scheme that the registry takes
		tokens     int    // status of the token service; 0: it works
	}{
		"Negotiate before Basic":            {[]string{"Negotiate", basic}, "Basic", 0},
		"Negotiate and Basic in one line":   {[]string{"Negotiate, " + basic}, "Basic", 0},
		"NTLM after Basic":                  {[]string{basic, "NTLM"}, "Basic", 0},
		"Digest before Bearer":              {[]string{`Digest realm="a, b", qop="auth,auth-int"`, token}, "Bearer", 0},
		"Negotiate and Bearer in one line":  {[]string{"Negotiate YWJj==, " + token}, "Bearer", 0},
		"lower case":                        {[]string{strings.Replace(token, "Bearer realm", "bearer Realm", 1)}, "Bearer", 0},
		"Bearer after Basic":                {[]string{basic + ", " + token}, "Bearer", 0},
		"Basic after Bearer":                {[]string{token, basic}, "Bearer", 0},
		"only Basic is taken":               {[]string{token, basic}, "Basic", 0},
		"the token service is down":         {[]string{token + ", " + basic}, "Basic", 404},
		"the token service refuses":         {[]string{basic, token}, "Basic", 401},
		"Bearer without a realm":            {[]string{"Bearer, " + basic}, "Basic", 0},
		"a broken Bearer before a good one": {[]string{`Bearer realm="ftp://h"`, token}, "Bearer", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var realm string
			var passwords int
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				user, password, ok := r.BasicAuth()
				good := user == "ci" && password == "hunter2"
				switch {
				case r.URL.Path == "/token" && (test.tokens != 0 || !good):
					w.WriteHeader(cmp.Or(test.tokens, http.StatusUnauthorized))
				case r.URL.Path == "/token":
					if got := r.URL.Query().Get("service"); got != "x, y" {
						t.Errorf("the service is %q", got)
					}
					fmt.Fprint(w, `{"token":"t"}`)
				case test.takes == "Basic" && good, test.takes == "Bearer" && r.Header.Get("Authorization") == "Bearer t":
					serveManifest(w, r)
				default:
					if ok {
						passwords++
					}
					for _, line := range test.challenges {
						w.Header().Add("Www-Authenticate", strings.ReplaceAll(line, "%s", realm))
					}
					w.WriteHeader(http.StatusUnauthorized)
				}
			})
			realm = s.URL + "/token"
			o := listed(s)
			o.Keychain = keychain(auth.Credential{Username: "ci", Password: "hunter2"})
			c, _ := newClient(t, o)
			wantManifest(t, c, image)
			s.TakeRequests()
			wantManifest(t, c, image)
			if n := len(s.TakeLines()); n != 1 {
				t.Errorf("%d requests with a login that is known, want 1", n)
			}
			if ok, err := c.CheckLogin(t.Context(), "example.org", "ci", "hunter2"); !ok || err != nil {
				t.Errorf("the right password: %v, %v", ok, err)
			}
			if ok, err := c.CheckLogin(t.Context(), "example.org", "ci", "wrong"); test.tokens != 404 && (ok || err != nil) {
				t.Errorf("a wrong password: %v, %v", ok, err)
			}
			if passwords > 1 {
				t.Errorf("a wrong password was sent %d times", passwords)
			}
		})
	}
}

// TestNoUsableChallenge: what is no challenge of ours, or wants a password where there is
// none, is a refusal that says so.
func TestNoUsableChallenge(t *testing.T) {
	for name, lines := range map[string][]string{
		"Negotiate": {"Negotiate"}, "several": {"NTLM", `Digest realm="Basic"`}, "a quoted Basic": {`Negotiate realm="x, Basic"`},
		"Basic": {"Negotiate", "Basic"}, "garbage": {`,,"=,`},
	} {
		s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Www-Authenticate"] = lines
			w.WriteHeader(http.StatusUnauthorized)
		})
		c, _ := newClient(t, listed(s))
		e := wantError(t, manifestError(t, c, image), Unauthorized, "without credentials")
		if e.Status != http.StatusUnauthorized || len(s.TakeLines()) != 1 {
			t.Errorf("%s: %v", name, e)
		}
	}
}
