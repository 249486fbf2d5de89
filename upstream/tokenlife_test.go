package upstream

import (
	"net/http"
	"testing"
	"time"
)

func TestTokenLife(t *testing.T) {
	const date = "Sat, 31 Jan 2026 12:00:00 GMT"
	for _, test := range []struct {
		name, date, answer string
		want               time.Duration
	}{
		{"300 s", date, `{"token":"t","expires_in":300}`, 290 * time.Second},
		{"issued now", date, `{"expires_in":300,"issued_at":"2026-01-31T12:00:00Z"}`, 290 * time.Second},
		{"issued a while ago", date, `{"expires_in":300,"issued_at":"2026-01-31T13:58:20+02:00"}`, 190 * time.Second},
		{"issued just before its end", date, `{"expires_in":300,"issued_at":"2026-01-31T11:55:01Z"}`, minTokenLife},
		{"issued in the future", date, `{"expires_in":300,"issued_at":"2026-01-31T12:04:00Z"}`, 290 * time.Second},
		{"issued before it can be", date, `{"expires_in":300,"issued_at":"2021-07-08T08:31:46Z"}`, 290 * time.Second},
		{"issued at Go's zero time", date, `{"expires_in":300,"issued_at":"0001-01-01T00:00:00Z"}`, 290 * time.Second},
		{"issued at no time", date, `{"expires_in":300,"issued_at":"yesterday"}`, 290 * time.Second},
		{"no date to compare with", "", `{"expires_in":300,"issued_at":"2026-01-31T11:59:00Z"}`, 290 * time.Second},
		{"a clock that is years off, with itself", "Thu, 01 Jan 1970 00:01:00 GMT", `{"expires_in":300,"issued_at":"1970-01-01T00:00:00Z"}`, 230 * time.Second},
		{"no expires_in", date, `{"token":"t"}`, 50 * time.Second},
		{"null", date, `{"token":"t","expires_in":null}`, 50 * time.Second},
		{"a string", date, `{"expires_in":"300"}`, 290 * time.Second},
		{"another string", date, `{"expires_in":"soon"}`, 50 * time.Second},
		{"an object", date, `{"expires_in":{}}`, 50 * time.Second},
		{"a fraction", date, `{"expires_in":299.5}`, 289500 * time.Millisecond},
		{"zero", date, `{"expires_in":0}`, 50 * time.Second},
		{"negative", date, `{"expires_in":-300}`, 50 * time.Second},
		{"1 s", date, `{"expires_in":1}`, minTokenLife},
		{"5 s", date, `{"expires_in":5}`, minTokenLife},
		{"25 s", date, `{"expires_in":25}`, 15 * time.Second},
		{"12 h", date, `{"expires_in":43200}`, time.Hour},
		{"12 h, 11.5 of them ago", date, `{"expires_in":43200,"issued_at":"2026-01-31T00:30:00Z"}`, 1790 * time.Second},
		{"longer than a duration", date, `{"expires_in":1e300}`, time.Hour},
		{"longer than a number", date, `{"expires_in":1e999}`, 50 * time.Second},
		{"not JSON", date, `<html>`, 50 * time.Second},
		{"cut off", date, `{"expires_in":300`, 50 * time.Second},
		{"empty", date, ``, 50 * time.Second},
	} {
		if got := tokenLife(http.Header{"Date": {test.date}}, []byte(test.answer)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
