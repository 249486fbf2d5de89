package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/waveproxy/waveproxy/internal/jsonlimit"
)

const (
	maxText     = 300 // bytes of an error
	maxElements = 1 << 10
	hidden      = "[hidden]"
)

// token matches words that only a token is long enough for. A colon ends a word,
// because the names of AWS roles are long and worth reading.
var token = regexp.MustCompile(`[A-Za-z0-9+/=_.~%-]{100,}`)

// Error returns the safe form of err, which a cloud's library returned: ctx's error
// if ctx has ended, else a new error of one line without the secrets and without
// tokens. err is not in its chain. The libraries quote answers, and answers quote
// requests: AWS explains a wrong signature with the session token in the text.
func Error(ctx context.Context, err error, secrets ...string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the URL, because it has a query
	}
	return errors.New(clean(err.Error(), secrets))
}

func clean(text string, secrets []string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, hidden)
		}
	}
	text = token.ReplaceAllString(text, hidden)
	text = strings.Trim(strings.Join(strings.Fields(text), " "), ": .")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}

// Refusal returns an error for an answer with an HTTP status other than 200. Of
// the body it has the texts that RFC 6749 section 5.2, the OCI distribution
// specification and Azure's metadata service put there for people. The result must
// pass through Error.
func Refusal(status int, body []byte) error {
	var answer struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Errors      []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	// Without an answer of this form the status is left, which says enough.
	if jsonlimit.Check(body, maxElements) == nil {
		_ = json.Unmarshal(body, &answer)
	}
	if len(answer.Errors) > 0 {
		answer.Error, answer.Description = answer.Errors[0].Code, answer.Errors[0].Message
	}
	text := fmt.Sprintf("status %d", status)
	for _, part := range []string{answer.Error, answer.Description} {
		if part != "" {
			text += ": " + part
		}
	}
	return errors.New(text)
}
