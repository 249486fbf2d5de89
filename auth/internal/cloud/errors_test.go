package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/auth/internal/cloud"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

func TestError(t *testing.T) {
	role := "arn:aws:sts::123456789012:assumed-role/" + strings.Repeat("r", 64) + "/i-0123456789abcdef0"
	tests := map[string]struct {
		err  error
		want string
	}{
		"plain":         {errors.New("access denied"), "access denied"},
		"lines":         {errors.New("access\n\tdenied\r\n"), "access denied"},
		"ends":          {errors.New(": access denied. "), "access denied"},
		"known secret":  {errors.New("wrong password hunter2!"), "wrong password [hidden]!"},
		"token":         {errors.New("bad token " + cloudtest.Secret("eyJ") + ": expired"), "bad token [hidden]: expired"},
		"role":          {errors.New(role + " may not"), role + " may not"},
		"wrapped URL":   {fmt.Errorf("ask: %w", &url.Error{Op: "Get", URL: "http://x/?client_id=1", Err: errors.New("refused")}), "refused"},
		"long":          {errors.New(strings.Repeat("é ", 400)), strings.Repeat("é ", 100) + "..."},
		"nothing known": {errors.New(""), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := cloud.Error(t.Context(), test.err, "hunter2", "")
			if err.Error() != test.want {
				t.Errorf("got  %q\nwant %q", err, test.want)
			}
			if errors.Is(err, test.err) {
				t.Error("the library's error is in the chain")
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := cloud.Error(ctx, errors.New("signal: killed")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v for a context that ended", err)
	}
}

func TestRefusal(t *testing.T) {
	tests := []struct{ body, want string }{
		{``, "status 400"},
		{`<html>`, "status 400"},
		{`[]`, "status 400"},
		{`{"access_token":"s3cr3t"}`, "status 400"},
		{`{"error":{"message":"nested"}}`, "status 400"},
		{`{"error":"invalid_grant"}`, "status 400: invalid_grant"},
		{`{"error":"invalid_grant","error_description":"Bad key."}`, "status 400: invalid_grant: Bad key."},
		{`{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}`, "status 400: DENIED: no"},
	}
	for _, test := range tests {
		if got := cloud.Refusal(http.StatusBadRequest, []byte(test.body)).Error(); got != test.want {
			t.Errorf("%s: got %q, want %q", test.body, got, test.want)
		}
	}
}

func TestClient(t *testing.T) {
	other := cloudtest.NewServer(t, func(http.ResponseWriter, cloudtest.Request) {})
	s := cloudtest.NewServer(t, func(w http.ResponseWriter, r cloudtest.Request) {
		if r.Path == "/away" {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		_, _ = w.Write(make([]byte, 2<<20))
	})
	client := cloudtest.Client(nil)
	resp, err := client.Post(s.URL+"/away", "text/plain", strings.NewReader("secret"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if s.Requests()[0].Header.Get("Connection") != "close" {
		t.Error("the connection is kept")
	}
	if resp.StatusCode != http.StatusTemporaryRedirect || other.Count() != 0 {
		t.Errorf("status %d, %d requests to the next host", resp.StatusCode, other.Count())
	}
	resp, err = client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := resp.Body.Read(make([]byte, 1<<10))
	for err == nil {
		var more int
		more, err = resp.Body.Read(make([]byte, 1<<16))
		n += more
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); !ok || n > 1<<20 {
		t.Errorf("%d bytes, then %v, %v", n, err, tooLarge)
	}
}
