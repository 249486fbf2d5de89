package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as 4096, 10MB or 32MiB.
type Size int64

var units = []struct {
	name  string
	bytes Size
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1}, {"", 1},
}

// UnmarshalText takes decimal and binary units, and a space before them.
func (s *Size) UnmarshalText(text []byte) error {
	bad := fmt.Errorf("%q is not a size such as 32MiB, 10MB or 4096", text)
	for _, unit := range units {
		number, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil {
			return bad
		}
		*s = Size(n) * unit.bytes
		if *s/unit.bytes != Size(n) {
			return bad
		}
		return nil
	}
	return bad
}

// String uses the unit that makes the shortest text.
func (s Size) String() string {
	text := strconv.FormatInt(int64(s), 10)
	for _, unit := range units {
		if t := strconv.FormatInt(int64(s/unit.bytes), 10) + unit.name; s%unit.bytes == 0 && s != 0 && len(t) < len(text) {
			text = t
		}
	}
	return text
}

// MarshalText writes what UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
