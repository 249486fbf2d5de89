package augment

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const (
	// maxVariable is the longest KEY=VALUE, in bytes, that Linux starts a program with.
	maxVariable = 128<<10 - 1
	// maxExtended bounds the entries with references of one recipe after expansion, in
	// bytes: as much text as a grant can have.
	maxExtended = 256 << 10
)

// windowsPath is what Docker's builds use for images of Windows without PATH.
const windowsPath = `c:\Windows\System32;c:\Windows;C:\Windows\System32\WindowsPowerShell\v1.0`

// spelling says how references are written.
const spelling = "write ${NAME} for the image's value of NAME, and $$ for a dollar"

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// piece is literal text, or a reference to a variable of the image.
type piece struct{ text, name string }

// parseReferences returns the pieces of a value. An error says how references are
// written, and not the value, which may be a secret.
func parseReferences(value string) (pieces []piece, err error) {
	var text []byte // a text with many dollars comes in many parts
	for rest := value; ; {
		before, after, found := strings.Cut(rest, "$")
		text = append(text, before...)
		at := len(value) - len(after)
		switch {
		case !found:
			return append(pieces, piece{text: string(text)}), nil
		case strings.HasSuffix(before, `\`):
			return nil, fmt.Errorf("the dollar at byte %d has a backslash before it: %s", at, spelling)
		case strings.HasPrefix(after, "$"):
			text, rest = append(text, '$'), after[1:]
		case strings.HasPrefix(after, "{"):
			name, following, closed := strings.Cut(after[1:], "}")
			if !closed || !variableName.MatchString(name) {
				return nil, fmt.Errorf("the dollar at byte %d has no name alone in braces after it: %s", at, spelling)
			}
			pieces, text, rest = append(pieces, piece{text: string(text)}, piece{name: name}), text[:0], following
		default:
			return nil, fmt.Errorf("the dollar at byte %d has neither braces nor a dollar after it: %s", at, spelling)
		}
	}
}

// checkExtended returns an error for the first entry that cannot be expanded. An entry
// does not see the other entries with references, so one that names them is refused.
func checkExtended(entries []string) error {
	keys := make(map[string]int, len(entries))
	size := 0
	for i, e := range entries {
		if size += len(e); size > maxExtended {
			return fmt.Errorf("extendEnv[%d]: the variables with references have more than %d bytes together: give long values in env, or in a layer", i, maxExtended)
		}
		key, _, ok := strings.Cut(e, "=")
		if !ok || key == "" {
			return fmt.Errorf("extendEnv[%d]: want KEY=VALUE", i)
		}
		if first, twice := keys[key]; twice {
			return fmt.Errorf("extendEnv[%d]: %s is also set by extendEnv[%d]: give one value", i, key, first)
		}
		keys[key] = i
	}
	for i, e := range entries {
		key, value, _ := strings.Cut(e, "=")
		pieces, err := parseReferences(value)
		if err != nil {
			return fmt.Errorf("extendEnv[%d]: %s: %w", i, key, err)
		}
		for _, p := range pieces {
			if other, set := keys[p.name]; set && other != i {
				return fmt.Errorf("extendEnv[%d]: %s refers to %s, which extendEnv[%d] sets: references read the image's values and those of env, so set %s in env, or write its value here",
					i, key, p.name, other, p.name)
			}
		}
	}
	return nil
}

// variables looks up the environment of an image.
type variables struct {
	values  map[string]string
	windows bool
}

// variablesOf returns the variables of an environment, of which the last of equal keys
// counts.
func variablesOf(env []string, windows bool) variables {
	v := variables{make(map[string]string, len(env)), windows}
	for _, e := range env {
		if key, value, ok := strings.Cut(e, "="); ok {
			v.values[v.key(key)] = value
		}
	}
	return v
}

// key returns the form of a variable's name that is the same for all spellings: Windows
// does not tell upper from lower case.
func (v variables) key(name string) string {
	if v.windows {
		return strings.ToUpper(name)
	}
	return name
}

// get returns the value that a program in a container of the image sees. Engines set PATH
// where an image does not. Every other variable that is absent is empty.
func (v variables) get(name string) string {
	value, ok := v.values[v.key(name)]
	switch {
	case ok || v.key(name) != "PATH":
		return value
	case v.windows:
		return windowsPath
	default:
		return defaultPath
	}
}

// separator is between the elements of lists such as PATH.
func (v variables) separator() string {
	if v.windows {
		return ";"
	}
	return ":"
}

// expand returns a value with its references replaced, if it is no longer than limit
// bytes. A reference that is a whole element of a list and has no value goes with one
// separator: an empty element of PATH and its like means the current directory.
func (v variables) expand(pieces []piece, limit int) (value string, ok bool) {
	var b []byte
	atStart, skip := true, false // whether an element begins here; whether to leave out a separator
	for i, p := range pieces {
		text := p.text
		if p.name != "" {
			text = v.get(p.name)
		} else if skip {
			text, skip = strings.TrimPrefix(text, v.separator()), false
		}
		if p.name != "" && text == "" {
			// Pieces of text are on both sides of a reference. They may be empty.
			ends := pieces[i+1].text == "" && i+2 == len(pieces) || strings.HasPrefix(pieces[i+1].text, v.separator())
			switch {
			case !atStart || !ends:
			case len(b) > 0:
				b = bytes.TrimSuffix(b, []byte(v.separator()))
				atStart = false
			default:
				skip = true
			}
			continue
		}
		if len(b)+len(text) > limit {
			return "", false
		}
		b = append(b, text...)
		if text != "" {
			atStart = p.name == "" && strings.HasSuffix(text, v.separator())
		}
	}
	return string(b), true
}

// extendEnv returns the environment with entries whose references are expanded from it.
// Each one replaces the variable of its key where it stands.
func extendEnv(env, entries []string, windows bool) ([]string, error) {
	v := variablesOf(env, windows)
	expanded, size := make([]string, 0, len(entries)), 0
	for _, e := range entries {
		key, template, _ := strings.Cut(e, "=")
		pieces, err := parseReferences(template)
		if err != nil {
			return nil, Errorf("recipe: %v", fmt.Errorf("extendEnv: %s: %w", key, err))
		}
		value, ok := v.expand(pieces, maxVariable-len(key)-1)
		if !ok {
			return nil, Errorf("the variable %s would have more than %d bytes with the image's values in it: no program starts with more", key, maxVariable)
		}
		if size += len(key) + 1 + len(value); size > maxExtended {
			return nil, Errorf("the variables with references have more than %d bytes together with the image's values in them: refer to fewer or shorter ones", maxExtended)
		}
		expanded = append(expanded, key+"="+value)
	}
	return mergeEnv(slices.Clone(env), expanded, v.key), nil
}
