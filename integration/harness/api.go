package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// WantRegistryError fails the test unless the body is exactly an OCI error
// document with the code.
func WantRegistryError(t *testing.T, what string, r Response, status int, code string) {
	t.Helper()
	var document struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(r.Body), &document); err != nil || len(document.Errors) != 1 {
		t.Errorf("%s: status %d, body %.300q is not an OCI error: %v", what, r.Status, r.Body, err)
		return
	}
	if e := document.Errors[0]; r.Status != status || e.Code != code || e.Message == "" {
		t.Errorf("%s: status %d %s, want %d %s: %.300q", what, r.Status, e.Code, status, code, r.Body)
	}
}

// Post sends JSON and returns the answer, whatever its status.
func (p *Proxy) Post(t *testing.T, path string, body any) Response {
	t.Helper()
	resp, err := p.Call(t.Context(), http.MethodPost, path, string(MustJSON(t, body)))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// Get returns the status and body of a GET.
func Get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// FlipBit returns the token with one character of its MAC changed.
func FlipBit(token string) string {
	b := []byte(token)
	if b[30]++; b[30] > 'z' || (b[30] > '7' && b[30] < 'a') {
		b[30] = 'b'
	}
	return string(b)
}

// Response is an answer of the server, read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// Do sends a request with the path exactly as it is in url; http.NewRequest would
// clean it.
func Do(t *testing.T, method, url string, header ...string) Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Response{resp.StatusCode, resp.Header, string(body)}
}

// WantMessage fails the test unless the body is {"message": "…"} on one line and
// the message has all the texts.
func WantMessage(t *testing.T, body string, says ...string) {
	t.Helper()
	var document map[string]string
	if err := json.Unmarshal([]byte(body), &document); err != nil || len(document) != 1 || document["message"] == "" {
		t.Errorf("body %q is not a message: %v", body, err)
	}
	if strings.ContainsAny(document["message"], "\r\n") || strings.Contains(strings.TrimSpace(body), "\n") {
		t.Errorf("body %q is not one line", body)
	}
	for _, want := range says {
		if !strings.Contains(document["message"], want) {
			t.Errorf("message %q does not say %q", document["message"], want)
		}
	}
}

// Answer is the API's answer to a submission.
type Answer struct {
	RequestID, ContainerToken, TargetImage, Expiration, ContainerImage string
	SourceDigest, TargetDigest                                         string
	Succeeded                                                          bool
	Message                                                            string
	Status                                                             int    `json:"-"`
	Raw                                                                string `json:"-"`
}

// Call sends a request to the API. It may be used from any goroutine.
func (p *Proxy) Call(ctx context.Context, method, path, body string, header ...string) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.URL+path, strings.NewReader(body))
	if err != nil {
		return Response{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if resp.StatusCode >= http.StatusBadRequest {
		if found := Leaks(data); len(found) > 0 {
			err = fmt.Errorf("the error has a secret: %s", found)
		}
	}
	return Response{resp.StatusCode, resp.Header, string(data)}, err
}

// Submit posts a request: a string is sent as it is, any other value as JSON.
func (p *Proxy) Submit(t *testing.T, request any) Answer {
	t.Helper()
	body, ok := request.(string)
	if !ok {
		data, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		body = string(data)
	}
	resp, err := p.Call(t.Context(), http.MethodPost, "/v1alpha2/container", body)
	if err != nil {
		t.Fatal(err)
	}
	a, err := resp.Answer()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Answer reads a response to a submission.
func (r Response) Answer() (Answer, error) {
	a := Answer{Status: r.Status, Raw: r.Body}
	if err := json.Unmarshal([]byte(r.Body), &a); err != nil {
		return a, fmt.Errorf("status %d, body %q: %w", r.Status, r.Body, err)
	}
	return a, nil
}

// Augment submits a request that must succeed.
func (p *Proxy) Augment(t *testing.T, request any) Answer {
	t.Helper()
	a := p.Submit(t, request)
	if a.Status != http.StatusOK || !a.Succeeded {
		t.Fatalf("status %d: %s", a.Status, a.Raw)
	}
	return a
}
