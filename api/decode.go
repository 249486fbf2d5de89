package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/registry"
)

// bodyTimeout bounds how long a request may take to arrive.
const bodyTimeout = 5 * time.Minute

// decode reads a JSON request body into v and returns it. Unknown members are
// ignored, for old and new clients send more than we know.
func (s server) decode(w http.ResponseWriter, r *http.Request, v any) ([]byte, error) {
	if t := r.Header.Get("Content-Type"); t != "" {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != "application/json" {
			return nil, registry.Refuse(http.StatusUnsupportedMediaType, "content type %.100q: want application/json", t)
		}
	}
	if err := s.admit(w, r); err != nil {
		return nil, err
	}
	// The server has no deadline of its own, for blobs take what they take.
	// Writers that have no connection, in tests, cannot set one.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.MaxBody))
	_ = control.SetReadDeadline(time.Time{})
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, registry.Refuse(http.StatusRequestEntityTooLarge, "the request is larger than %d bytes (api.max_body)", tooLarge.Limit)
	}
	if err != nil {
		return nil, registry.Refuse(http.StatusBadRequest, "the request body could not be read: %v", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, registry.Refuse(http.StatusBadRequest, "%s", describeJSON(err))
	}
	return data, nil
}

// describeJSON says where a document is wrong, without quoting it: what stands
// there may be a secret.
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
