package augment

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/internal/brief"
)

// Object is a manifest, index or config: exact bytes and what they are.
type Object struct {
	MediaType string
	Digest    digest.Digest
	Data      []byte
}

// NewObject returns data as an Object with its SHA-256 digest.
func NewObject(mediaType string, data []byte) Object {
	return Object{MediaType: mediaType, Digest: digest.FromBytes(data), Data: data}
}

// Descriptor describes the object.
func (o Object) Descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: o.MediaType, Digest: o.Digest, Size: int64(len(o.Data))}
}

// Error says why an image, a recipe or a layer cannot be used as asked. The
// text is for the client; it names the offending value and holds no
// secret. Every other error of this package comes from a Source, an Archives
// or a context.
type Error struct {
	reason string
	unfit  unfitness
}

func (e *Error) Error() string { return e.reason }

// Errorf returns an *Error with the formatted reason. What it quotes is cut (package
// brief), because layers and images can hold texts of any length.
func Errorf(format string, args ...any) error {
	return &Error{reason: brief.Sprintf(format, args...)}
}

// members is a JSON object as an ordered list. Values keep their bytes.
type members []member

type member struct {
	name  string
	value json.RawMessage
}

// parseMembers reads one JSON object. A member that appears twice is refused:
// readers disagree on which one counts, and an image that two readers see
// differently cannot be rewritten for both. Names that differ only in case are
// the same: the engines' decoder takes "Layers" for "layers".
func parseMembers(data []byte) (members, error) { return parseObject(data, fold) }

// parseMap reads one JSON object whose names are the keys of a map. Keys that
// differ only in case are different.
func parseMap(data []byte) (members, error) {
	return parseObject(data, func(key string) string { return key })
}

func parseObject(data []byte, identity func(name string) string) (members, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil {
		return nil, jsonError(err)
	} else if tok != json.Delim('{') {
		return nil, fmt.Errorf("want a JSON object, found %v", tok)
	}
	var m members
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, jsonError(err)
		}
		name := tok.(string) // the decoder returns nothing else where a name stands
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("member %.100q: %w", name, jsonError(err))
		}
		if id := identity(name); seen[id] {
			return nil, fmt.Errorf("member %.100q appears twice", name)
		} else {
			seen[id] = true
		}
		m = append(m, member{name, value})
	}
	if _, err := dec.Token(); err != nil {
		return nil, jsonError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON object")
	}
	return m, nil
}

func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("JSON ends too early")
	}
	return err
}

// fold returns the same form for all names that encoding/json treats as equal.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next // the smallest rune that r folds to
			}
			r = next
		}
	}, name)
}

func (m members) index(name string) int {
	if i := slices.IndexFunc(m, func(e member) bool { return e.name == name }); i >= 0 {
		return i
	}
	return slices.IndexFunc(m, func(e member) bool { return strings.EqualFold(e.name, name) })
}

// get returns the member's value, nil when it is absent or null.
func (m members) get(name string) json.RawMessage {
	i := m.index(name)
	if i < 0 || string(m[i].value) == "null" {
		return nil
	}
	return m[i].value
}

// decode reads the member into v, which keeps its value when the member is
// absent or null.
func (m members) decode(name string, v any) error {
	raw := m.get(name)
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("member %q: %w", name, err)
	}
	return nil
}

// count returns how many elements the array has, without making them.
func (m members) count(name string) (int, error) {
	var elements []struct{}
	err := m.decode(name, &elements)
	return len(elements), err
}

// set replaces the member where it stands, or appends it.
func (m *members) set(name string, value any) {
	raw := encodeJSON(value)
	if i := m.index(name); i >= 0 {
		(*m)[i] = member{name, raw}
		return
	}
	*m = append(*m, member{name, raw})
}

func (m *members) remove(name string) {
	*m = slices.DeleteFunc(*m, func(e member) bool { return strings.EqualFold(e.name, name) })
}

// encode writes the members in order.
func (m members) encode() []byte {
	b := bytes.NewBuffer(make([]byte, 0, m.size()))
	b.WriteByte('{')
	for i, e := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encodeJSON(e.name))
		b.WriteByte(':')
		b.Write(e.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// size returns how many bytes encode writes.
func (m members) size() int {
	n := len("{}") + max(0, len(m)-1)
	for _, e := range m {
		n += len(encodeJSON(e.name)) + 1 + len(e.value)
	}
	return n
}

// encodeJSON encodes v without escaping <, > and &, which would change text
// that merely passes through. Raw values and members stay as they are.
func encodeJSON(v any) json.RawMessage {
	switch v := v.(type) {
	case json.RawMessage:
		return v
	case members:
		return v.encode()
	case []json.RawMessage:
		return slices.Concat([]byte("["), bytes.Join(rawSlices(v), []byte(",")), []byte("]"))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("augment: encode %T: %v", v, err)) // strings, numbers, maps and slices of them cannot fail
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func rawSlices(in []json.RawMessage) [][]byte {
	out := make([][]byte, len(in))
	for i, r := range in {
		out[i] = r
	}
	return out
}
