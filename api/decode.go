package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/jsonlimit"
	"github.com/waveproxy/waveproxy/internal/unpack"
)

// elementCost is what a decoded element may take in memory besides its text: a
// layer of the request has 100 bytes.
const elementCost = 128

// wantJSON refuses other content types. Requiring the type keeps the pages of other
// sites out: a browser sends it only where the server has allowed that.
func wantJSON(r *http.Request) error {
	t := r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(t); err != nil || media != "application/json" {
		return front.Refuse(http.StatusUnsupportedMediaType, front.Unsupported, "content type %.100q: want application/json", t)
	}
	return nil
}

// decode decodes the document into v. Unknown members are ignored, because old and
// new clients send more than this server knows. What decoding costs is charged
// before it begins, and stays charged until release, which is never nil. A large document
// waits for its turn.
func (s server) decode(ctx context.Context, data []byte, v any) (release func(), err error) {
	release = func() {}
	err = unpack.InTurn(ctx, len(data), func() (err error) {
		release, err = s.decodeNow(budget.From(ctx), data, v)
		return err
	})
	return release, err
}

func (s server) decodeNow(b *budget.Budget, data []byte, v any) (release func(), err error) {
	elements, err := jsonlimit.Elements(data, s.MaxElements)
	if err != nil {
		return func() {}, front.Refuse(http.StatusRequestEntityTooLarge, front.Unsupported, "the request is too large: %v (limits.elements)", err)
	}
	// Each byte that is not UTF-8 becomes three in memory.
	if !utf8.Valid(data) {
		return func() {}, front.Refuse(http.StatusBadRequest, front.Unsupported, "the request is not valid JSON: it is not UTF-8")
	}
	// Texts take the memory they take in the document; a document of many elements
	// has little text.
	if release, err = b.Hold(budget.Memory, max(int64(len(data)), int64(elements)*elementCost)); err != nil {
		return func() {}, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		release()
		return func() {}, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s", describeJSON(err))
	}
	return release, nil
}

// tokenIn returns the Platform token at the beginning of a document, which may be
// cut off anywhere. It is "" if the token is not there.
func tokenIn(beginning []byte) string {
	d := json.NewDecoder(bytes.NewReader(beginning))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return ""
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return ""
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return ""
		}
		// As encoding/json compares the names of members.
		if text, ok := name.(string); ok && strings.EqualFold(text, "towerAccessToken") {
			var token string
			_ = json.Unmarshal(value, &token) // what is no string is no token
			return token
		}
	}
	return ""
}

// describeJSON says where a document is wrong, without quoting it, because the
// value may be a secret.
func describeJSON(err error) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("the request is not valid JSON: %v at byte %d", syntax, syntax.Offset)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		where := wrong.Field
		if where == "" {
			where = "the request"
		}
		return fmt.Sprintf("%s: a JSON %s does not belong there, want %s", where, wrong.Value, jsonKind(wrong.Type.String()))
	}
	return "the request is not valid: " + strings.Join(strings.Fields(err.Error()), " ")
}

func jsonKind(goType string) string {
	switch {
	case goType == "string":
		return "a string"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "[]"):
		return "an array"
	case strings.HasPrefix(goType, "int"), goType == "json.Number":
		return "a number"
	}
	return "an object"
}
