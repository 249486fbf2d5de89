package augment

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// entryChain is the variable that tells an injected entrypoint what to start
// when its own work is done. Its name and form are what Wave's clients expect:
// a single word bare, several as a JSON array, so that words with spaces survive.
const entryChain = "WAVE_ENTRY_CHAIN"

// chainEnv is the program that gives a wrapper its own value of entryChain.
// Without it, a wrapper that another one starts would read the other one's
// value, which is its own name, and start itself for ever. It is looked up in
// PATH, as many images' own entrypoints are: busybox alone has it in two places.
const chainEnv = "env"

// chainReader is a program that is known to read entryChain.
const chainReader = "fusion"

// A base image may have any words and variables. These bounds are beyond all real ones.
const (
	maxLaunchers = 64   // words, and launchers, that program looks at
	maxMentioned = 4096 // words that mentions looks at
	maxDirs      = 256  // directories of PATH
	maxPath      = 4096 // bytes of a path that Linux takes
	maxChains    = 8    // values of entryChain, the last ones
)

// step is one command of a chain. text is the form in which a base image has it
// in entryChain, if it has: Wave's builds join words by spaces.
type step struct {
	words []string
	text  string
}

func (s step) String() string {
	switch {
	case s.text != "" || len(s.words) == 0:
		return s.text
	case len(s.words) == 1:
		return s.words[0]
	}
	return string(encodeJSON(s.words))
}

// program returns what the step starts, without shells and process supervisors before it.
func (s step) program() string { return program(s.words) }

// newChain returns the value of entryChain for an image with the entrypoint
// base and the environment env, under a recipe with the entrypoint added
// (none: base stays). set is false if the environment is right as it is. A
// value of "" that is set means that the variable must go.
//
// A wrapper that is in the chain already is not added to it again: the chain
// must end at the base's own program, and not at the wrapper that reads it.
func newChain(base, added, env []string, made bool) (value string, set bool) {
	var old []string // values of the variable, the one that counts last
	for _, e := range slices.Backward(env) {
		if key, v, _ := strings.Cut(e, "="); key == entryChain && len(old) < maxChains {
			old = append(old, v)
		}
	}
	slices.Reverse(old)
	dirs, starts := pathOf(env), program(base)
	rest, wraps := dirs.chainBelow(base, old, starts)
	if len(added) == 0 {
		return dirs.keptChain(base, old, rest, made)
	}
	wrapper := program(added)
	steps := rest
	if len(base) > 0 {
		steps = slices.Concat([]step{{words: base}}, rest)
	}
	steps = slices.DeleteFunc(steps, func(s step) bool { return dirs.same(s.program(), wrapper) })
	reads := wraps || made && len(old) == 0 || readsChain(base) || dirs.mentions(base, wrapper)
	value = joinChain(steps, reads && len(steps) == 1 && len(base) > 0 && slices.Equal(steps[0].words, base))
	return value, value != "" || len(old) > 0
}

// keptChain returns the chain of an image that keeps its entrypoint. One that
// has a chain keeps that, too, unless Wave made the entrypoint call itself and
// the previous chain is still there.
func (dirs searchPath) keptChain(base, old []string, rest []step, made bool) (value string, set bool) {
	if len(old) > 0 {
		now := parseChain(old[len(old)-1])
		looped := len(now) > 0 && len(rest) > 0 && dirs.same(now[0].program(), program(base))
		return joinChain(rest, false), looped
	}
	if made || readsChain(base) || len(base) == 0 {
		return "", false
	}
	return step{words: base}.String(), true
}

// chainBelow returns the steps below the base's entrypoint, and whether the
// entrypoint is a wrapper that reads them. An image whose chain is its own
// entrypoint got it from a recipe that kept the entrypoint, and has nothing
// below; or Wave augmented it twice, and the previous chain is still there,
// because Wave adds variables without removing any.
//
// starts is the base's program.
func (dirs searchPath) chainBelow(base, old []string, starts string) (steps []step, wraps bool) {
	for _, v := range slices.Backward(old) {
		steps = parseChain(v)
		if len(steps) > 0 && (len(base) == 0 || !dirs.same(steps[0].program(), starts)) {
			return steps, len(base) > 0
		}
	}
	return nil, false
}

// joinChain returns the value of entryChain that makes the steps run in their order.
// Every step but the last is a wrapper and gets a value of its own. reads says
// that the last one reads the variable as well, and must find none.
func joinChain(steps []step, reads bool) string {
	if len(steps) == 0 {
		return ""
	}
	last := len(steps) - 1
	value := steps[last].String()
	if reads {
		value = step{words: slices.Concat([]string{chainEnv, "-u", entryChain}, steps[last].words)}.String()
	}
	for _, s := range slices.Backward(steps[:last]) {
		value = step{words: slices.Concat([]string{chainEnv, entryChain + "=" + value}, s.words)}.String()
	}
	return value
}

// parseChain returns the steps of a value of entryChain. With a value that is too long
// for a variable no program starts.
func parseChain(value string) []step {
	if len(value) > maxVariable {
		return nil
	}
	var words []string
	if json.Unmarshal([]byte(value), &words) != nil || len(words) == 0 {
		if value == "" || value == "[]" {
			return nil
		}
		return []step{{words: strings.Fields(value), text: value}}
	}
	if len(words) > 2 && words[0] == chainEnv {
		if below, nested := strings.CutPrefix(words[1], entryChain+"="); nested {
			return append([]step{{words: words[2:]}}, parseChain(below)...)
		}
		if words[1] == "-u" && words[2] == entryChain && len(words) > 3 {
			return []step{{words: words[3:]}}
		}
	}
	return []step{{words: words, text: value}}
}

// readsChain reports whether the command is known to read entryChain.
func readsChain(words []string) bool { return path.Base(program(words)) == chainReader }

// mentions reports whether a command has the program among its words, so that
// it may start it.
func (dirs searchPath) mentions(words []string, name string) bool {
	n := 0
	for _, word := range words {
		for w := range strings.FieldsSeq(word) {
			if dirs.same(w, name) {
				return true
			}
			if n++; n == maxMentioned {
				return false
			}
		}
	}
	return false
}

// searchPath lists the directories in which the image finds programs.
type searchPath []string

// defaultPath is what engines use for images without PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func pathOf(env []string) searchPath {
	dirs := defaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	list := strings.SplitN(dirs, ":", maxDirs+1)
	return list[:min(len(list), maxDirs)]
}

// same reports whether two words name one program. A word without a slash is
// one with a path only in a directory that is searched: many images have a
// docker-entrypoint.sh of their own.
func (dirs searchPath) same(a, b string) bool {
	if len(a) > maxPath || len(b) > maxPath {
		return a == b // scripts
	}
	if strings.Contains(a, "/") == strings.Contains(b, "/") {
		return a == b || a != "" && b != "" && path.Clean(a) == path.Clean(b)
	}
	if strings.Contains(b, "/") {
		a, b = b, a // a is the one with a path
	}
	return path.Base(a) == b && slices.Contains(dirs, path.Dir(path.Clean(a)))
}

// launchers start the program that their arguments name. Two commands of one
// launcher are not the same program.
var launchers = []string{
	"sh", "ash", "bash", "dash", "ksh", "zsh", "busybox", "env", "exec",
	"tini", "tini-static", "dumb-init", "docker-init", "catatonit", "gosu", "su-exec", "setpriv", "nice", "nohup",
	"python", "python2", "python3", "perl", "ruby", "node", "Rscript", "java",
}

// program returns the program that a command starts: the first word that is
// no launcher, option or variable.
func program(words []string) string {
	for n := 0; n < maxLaunchers && len(words) > 1 && slices.Contains(launchers, path.Base(words[0])); n++ {
		words = words[:min(len(words), maxLaunchers)]
		rest, text := launched(words)
		if text != "" {
			return text
		}
		if len(rest) == 0 {
			return strings.Join(words, " ") // an interactive shell, or only options
		}
		words = rest
	}
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// launched returns the command among a launcher's arguments; text is a shell's
// script, or the program of a script that has no more than one command.
func launched(words []string) (rest []string, text string) {
	launcher, args := path.Base(words[0]), words[1:]
	if launcher == "gosu" || launcher == "su-exec" {
		return args[1:], "" // after the user
	}
	if i := slices.Index(args, "--"); i >= 0 && !slices.ContainsFunc(args[:i], isScript) {
		return args[i+1:], ""
	}
	for i, arg := range args {
		switch {
		case isScript(arg) && i+1 < len(args):
			script := strings.TrimSpace(args[i+1])
			if strings.ContainsAny(script, ";&|$()<>`\n\"'") {
				return nil, script
			}
			var command []string
			for w := range strings.FieldsSeq(strings.TrimPrefix(script, "exec ")) {
				if command = append(command, w); len(command) == maxLaunchers {
					break
				}
			}
			return command, ""
		case strings.HasPrefix(arg, "-"), launcher == "env" && strings.Contains(arg, "="):
		default:
			return args[i:], ""
		}
	}
	return nil, ""
}

// isScript reports whether an option of a shell says that a script follows: -c, -lc, -ec.
func isScript(arg string) bool {
	return len(arg) > 1 && arg[0] == '-' && arg[1] != '-' && strings.HasSuffix(arg, "c")
}

// commandWords returns the words of a config's entrypoint. Old images have a
// string in the place of the array.
func commandWords(c members, member string) ([]string, error) {
	raw := c.get(member)
	if raw == nil {
		return nil, nil
	}
	var words []string
	if err := json.Unmarshal(raw, &words); err != nil {
		var word string
		if json.Unmarshal(raw, &word) != nil {
			return nil, fmt.Errorf("member %q: %w", member, err)
		}
		words = []string{word}
	}
	if len(words) == 1 && words[0] == "" {
		return nil, nil
	}
	return words, nil
}
