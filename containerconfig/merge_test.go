package containerconfig

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMerge(t *testing.T) {
	type config = Config
	docs := func(configs ...config) (list []Document) {
		for i, c := range configs {
			list = append(list, Document{Name: "file:" + string(rune('a'+i)), wanted: i, Config: c})
		}
		return list
	}
	siblings := func(a, b config) []Document {
		list := docs(a, b)
		list[1].wanted = 0
		return list
	}
	tests := map[string]struct {
		found []Document
		want  config
		fails string
	}{
		"none":          {},
		"all set some":  {docs(config{Entrypoint: []string{"e"}, Env: []string{"A=1"}}, config{Cmd: []string{"c"}, WorkingDir: "/w", Env: []string{"A=1", "B=2"}}), config{Entrypoint: []string{"e"}, Cmd: []string{"c"}, WorkingDir: "/w", Env: []string{"A=1", "B=2"}}, ""},
		"entrypoints":   {found: docs(config{Entrypoint: []string{"a"}}, config{}, config{Entrypoint: []string{"b"}}), fails: `a and c do not agree: entrypoint is ["a"] and ["b"]`},
		"commands":      {found: docs(config{Cmd: []string{"a"}}, config{Cmd: []string{"a", "b"}}), fails: `a and b do not agree: cmd is ["a"] and ["a" "b"]`},
		"directories":   {found: docs(config{WorkingDir: "/a"}, config{WorkingDir: "/b"}), fails: `a and b do not agree: workingDir is ["/a"] and ["/b"]`},
		"environments":  {found: docs(config{Env: []string{"B=1", "A=secret"}}, config{Env: []string{"A=2"}}), fails: "a and b do not agree: env has different values of A"},
		"siblings":      {siblings(config{Entrypoint: []string{"e"}}, config{Entrypoint: []string{"e"}}), config{Entrypoint: []string{"e"}}, ""},
		"one sibling":   {found: siblings(config{Entrypoint: []string{"e"}}, config{}), fails: `a and b do not agree: entrypoint is ["e"] and []`},
		"extended":      {found: docs(config{ExtendEnv: []string{"B=1", "P=secret:${P}"}}, config{ExtendEnv: []string{"P=${P}:b"}}), fails: "a and b do not agree: extendEnv has different values of P"},
		"same extended": {docs(config{ExtendEnv: []string{"P=${P}a"}}, config{Env: []string{"P=1"}, ExtendEnv: []string{"P=${P}a"}}), config{Env: []string{"P=1"}, ExtendEnv: []string{"P=${P}a"}}, ""},
		"extended, one": {found: siblings(config{Env: []string{"A=1"}, ExtendEnv: []string{"P=${P}a"}}, config{Env: []string{"A=1"}}), fails: "a and b do not agree: extendEnv differs"},
		"certificates":  {found: siblings(config{Certificates: []string{"a"}}, config{}), fails: "a and b do not agree: certificates differ"},
		"sibling's env": {found: siblings(config{Env: []string{"A=1"}}, config{}), fails: "a and b do not agree: env differs"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conflicts := Conflicts(test.found)
			if test.fails != "" {
				if len(conflicts) != 1 || conflicts[0].Error() != test.fails {
					t.Errorf("conflicts %v, want %s", conflicts, test.fails)
				}
				return
			}
			if diff := cmp.Diff(test.want, Merge(test.found)); diff != "" || conflicts != nil {
				t.Errorf("%v (-want +got):\n%s", conflicts, diff)
			}
		})
	}
}

// TestMergePrefersLast: on a command line, the members of the last document win.
func TestMergePrefersLast(t *testing.T) {
	first := Config{Entrypoint: []string{"a"}, Cmd: []string{"a"}, WorkingDir: "/a", Env: []string{"A=1"}, Layers: []Layer{{Location: "data:a"}}}
	last := Config{Entrypoint: []string{"b"}, Env: []string{"A=2"}, Layers: []Layer{{Location: "data:b"}}}
	merged := Merge([]Document{{Config: first}, {Config: last}})
	want := Config{Entrypoint: []string{"b"}, Cmd: []string{"a"}, WorkingDir: "/a", Env: []string{"A=1", "A=2"}, Layers: []Layer{{Location: "data:a"}, {Location: "data:b"}}}
	if diff := cmp.Diff(want, merged); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOver(t *testing.T) {
	below := Config{Entrypoint: []string{"a"}, Cmd: []string{"a"}, WorkingDir: "/a", Env: []string{"A=1"}, ExtendEnv: []string{"P=${P}a"}, Layers: []Layer{{Location: "data:a"}}}
	own := Config{Cmd: []string{"b"}, Env: []string{"B=1"}, ExtendEnv: []string{"Q=${Q}b"}, Layers: []Layer{{Location: "data:b"}}}
	want := Config{Entrypoint: []string{"a"}, Cmd: []string{"b"}, WorkingDir: "/a", Env: []string{"A=1", "B=1"}, ExtendEnv: []string{"P=${P}a", "Q=${Q}b"}, Layers: own.Layers}
	if diff := cmp.Diff(want, own.Over(below)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(below.Env, Config{}.Over(below).Env); diff != "" {
		t.Errorf("without own settings (-want +got):\n%s", diff)
	}
}
