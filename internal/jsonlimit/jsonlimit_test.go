package jsonlimit

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	for text, want := range map[string][2]int{
		``:                              {1, 0},
		`1`:                             {1, 0},
		`{}`:                            {2, 1},
		`{"a":[{},{}]}`:                 {6, 3},
		`["a,b","[{",",\",["]`:          {4, 1},
		`{"a\\":1,"b\\\"":2}`:           {3, 1},
		`["unfinished`:                  {2, 1},
		`"\`:                            {1, 0},
		strings.Repeat("[", 5):          {6, 5},
		`[` + strings.Repeat("{},", 99): {200, 2},
	} {
		if n, deep := Count([]byte(text)); n != want[0] || deep != want[1] {
			t.Errorf("%q has %d elements %d deep, want %v", text, n, deep, want)
		}
	}
}

func TestCheck(t *testing.T) {
	many := []byte(`[` + strings.Repeat("{},", 49) + `{}]`)
	if err := Check(many, 101); err != nil {
		t.Error(err)
	}
	if err := Check(many, 100); err == nil {
		t.Error("a document over the limit passes")
	}
	if err := Check([]byte(strings.Repeat("[", maxDepth+1)), 1<<20); err == nil {
		t.Error("a deep document passes")
	}
	if n := testing.AllocsPerRun(10, func() { _ = Check(many, 101) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzCount: of valid JSON, the count is that of a decoder that builds all of it.
func FuzzCount(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\\\",["}]}`, `[[],[]]`, `"x"`, `[null,true,"é\u0022,"]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, _ := Count(data)
		if !json.Valid(data) {
			return
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			return
		}
		if values := count(v); n < values {
			t.Errorf("%q: counted %d, it has %d values", data, n, values)
		}
	})
}

// count is how many values a document has. Members that appear twice count once
// here, so it is a lower bound.
func count(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += count(e)
		}
	case map[string]any:
		for _, e := range v {
			n += count(e)
		}
	}
	return n
}
