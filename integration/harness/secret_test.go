package harness

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"testing"
)

func TestLeaksAreFound(t *testing.T) {
	secret := SecretFor("label")
	for _, text := range []string{
		secret, "user:" + secret, url.QueryEscape(secret), hex.EncodeToString([]byte(secret)),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("u:" + secret)),
		base64.URLEncoding.EncodeToString([]byte("us:" + secret)), base64.StdEncoding.EncodeToString([]byte("ci:" + secret)),
		"GET /v2/wt/" + "abcdefghijklmnopqrstuvwxyz234567abcdefg" + "/library/x",
	} {
		if len(Leaks([]byte("before "+text+" after"))) == 0 {
			t.Errorf("%q is not found", text)
		}
	}
	if found := Leaks([]byte("GET /v2/wt/~0123456789ab/library/x canary")); len(found) != 0 {
		t.Errorf("found %q where nothing is", found)
	}
}
