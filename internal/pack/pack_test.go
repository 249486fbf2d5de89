package pack

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func part(text string) Part { return Of(digest.FromString(text), []byte(text)) }

func encoded(t *testing.T, record string, parts ...Part) []byte {
	t.Helper()
	data, err := Encode(t.Context(), []byte(record), parts)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPack(t *testing.T) {
	var many []Part
	for i := range 400 { // a table of more than the first read
		many = append(many, part(fmt.Sprint("part ", i)))
	}
	for name, tt := range map[string]struct {
		record string
		parts  []Part
	}{
		"nothing":     {"", nil},
		"only record": {"grant", nil},
		"only a part": {"", []Part{part("a")}},
		"empty part":  {"grant", []Part{part("a"), part("")}},
		"sha512":      {"grant", []Part{Of(digest.SHA512.FromString("b"), []byte("b")), part("c")}},
		"many":        {strings.Repeat("grant", 5000), many},
	} {
		t.Run(name, func(t *testing.T) {
			data := encoded(t, tt.record, tt.parts...)
			p, ok, err := Read(bytes.NewReader(data), int64(len(data)))
			if err != nil || !ok {
				t.Fatalf("read: %t, %v", ok, err)
			}
			if record, err := p.Record(); err != nil || string(record) != tt.record {
				t.Errorf("record: %d bytes, %v", len(record), err)
			}
			if len(p.Parts()) != len(tt.parts) {
				t.Errorf("%d parts", len(p.Parts()))
			}
			for _, want := range tt.parts {
				found, ok, err := p.Part(want.Digest)
				if err != nil || !ok || want.Digest.Algorithm().FromBytes(found) != want.Digest {
					t.Errorf("part %s: %q, %t, %v", want.Digest, found, ok, err)
				}
			}
			if _, ok, _ := p.Part(digest.FromString("another")); ok {
				t.Error("the pack has a part that it does not have")
			}
		})
	}
}

func TestDamagedPack(t *testing.T) {
	data := encoded(t, "grant", part("a"), part("bcd"))
	for n := range len(data) {
		_, ok, err := Read(bytes.NewReader(data[:n]), int64(n))
		if n < len(magic) && ok || n >= len(magic) && !errors.Is(err, ErrDamaged) {
			t.Errorf("%d of %d bytes: %t, %v", n, len(data), ok, err)
		}
	}
	table := len(data) - len("grant") - len("a") - len("bcd")
	for i := 4; i < table; i++ {
		wrong := bytes.Clone(data)
		wrong[i] ^= 0x20
		if _, _, err := Read(bytes.NewReader(wrong), int64(len(wrong))); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if _, ok, err := Read(bytes.NewReader([]byte("\x15sealed")), 7); ok || err != nil {
		t.Errorf("a record that is no pack: %t, %v", ok, err)
	}
}

func TestEncodeVerifies(t *testing.T) {
	for name, wrong := range map[string]Part{
		"other bytes": Of(digest.FromString("a"), []byte("b")),
		"short":       {digest.FromString("ab"), 2, part("a").Open},
		"long":        {digest.FromString("ab"), 2, part("abc").Open},
	} {
		if _, err := Encode(t.Context(), nil, []Part{part("x"), wrong}); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSplit(t *testing.T) {
	of := func(size int64) Part { return Part{Digest: digest.FromString(fmt.Sprint(size)), Size: size} }
	small, large := Split([]Part{of(1), of(MaxPart + 1), of(1), of(MaxPart), of(0)})
	if len(small) != 3 || len(large) != 1 {
		t.Errorf("%d small, %d large", len(small), len(large))
	}
	var parts []Part
	for i := range 40 {
		parts = append(parts, of(MaxPart-int64(i)))
	}
	if small, large = Split(parts); len(small) != 16 || len(large) != 24 {
		t.Errorf("of 40 that fit alone: %d small, %d large", len(small), len(large))
	}
}
