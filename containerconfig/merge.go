package containerconfig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Merge returns the documents as one config: the layers of all in their order, an
// environment without repeated entries, and of every other member the last value
// that is set. Conflicts tells whether documents contradict each other.
func Merge(documents []Document) Config {
	var merged Config
	for _, d := range documents {
		c := d.Config
		merged.Layers = append(merged.Layers, c.Layers...)
		merged.Env = appendNew(merged.Env, c.Env)
		merged.ExtendEnv = appendNew(merged.ExtendEnv, c.ExtendEnv)
		merged.Certificates = appendNew(merged.Certificates, c.Certificates)
		merged.Entrypoint = firstSet(c.Entrypoint, merged.Entrypoint)
		merged.Cmd = firstSet(c.Cmd, merged.Cmd)
		merged.WorkingDir = cmp.Or(c.WorkingDir, merged.WorkingDir)
	}
	return merged
}

// appendNew appends the entries that the list does not have.
func appendNew(list, entries []string) []string {
	for _, e := range entries {
		if !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return list
}

// Over returns the config laid over another one: its environment comes last, and
// the other members that it sets replace those of below. It keeps its own layers
// alone, because where the layers of below belong differs between callers.
func (c Config) Over(below Config) Config {
	return Config{
		Entrypoint: firstSet(c.Entrypoint, below.Entrypoint),
		Cmd:        firstSet(c.Cmd, below.Cmd),
		Env:        slices.Concat(below.Env, c.Env),
		ExtendEnv:  slices.Concat(below.ExtendEnv, c.ExtendEnv),

		Certificates: appendNew(slices.Clone(below.Certificates), c.Certificates),

		WorkingDir: cmp.Or(c.WorkingDir, below.WorkingDir),
		Layers:     c.Layers,
	}
}

func firstSet(a, b []string) []string {
	if len(a) > 0 {
		return a
	}
	return b
}

// Conflicts returns one error for each two documents that contradict each other.
func Conflicts(documents []Document) []error {
	var conflicts []error
	for i, d := range documents {
		for _, previous := range documents[:i] {
			if err := agree(previous, d); err != nil {
				conflicts = append(conflicts, err)
			}
		}
	}
	return conflicts
}

// agree returns an error that names the first member in which two documents
// differ. A member that is set in only one of them is a conflict between documents
// of one name, because a layer is for one architecture but an entrypoint is for
// all. Values of variables are not shown.
func agree(a, b Document) error {
	siblings := a.wanted == b.wanted
	for _, member := range []struct {
		name string
		a, b []string
	}{
		{"entrypoint", a.Config.Entrypoint, b.Config.Entrypoint},
		{"cmd", a.Config.Cmd, b.Config.Cmd},
		{"workingDir", words(a.Config.WorkingDir), words(b.Config.WorkingDir)},
	} {
		bothSet := len(member.a) > 0 && len(member.b) > 0
		if !slices.Equal(member.a, member.b) && (siblings || bothSet) {
			return fmt.Errorf("%s and %s do not agree: %s is %q and %q", a, b, member.name, member.a, member.b)
		}
	}
	if siblings && !slices.Equal(a.Config.Certificates, b.Config.Certificates) {
		return fmt.Errorf("%s and %s do not agree: certificates differ", a, b)
	}
	if err := agreeOn("env", a.Config.Env, b.Config.Env, siblings); err != nil {
		return fmt.Errorf("%s and %s do not agree: %w", a, b, err)
	}
	if err := agreeOn("extendEnv", a.Config.ExtendEnv, b.Config.ExtendEnv, siblings); err != nil {
		return fmt.Errorf("%s and %s do not agree: %w", a, b, err)
	}
	return nil
}

// agreeOn returns an error that names the first variable of which two environments have
// different values. Those of siblings must be equal.
func agreeOn(member string, a, b []string, siblings bool) error {
	if siblings && !slices.Equal(a, b) {
		return fmt.Errorf("%s differs", member)
	}
	for _, e := range a {
		key, value, _ := strings.Cut(e, "=")
		for _, other := range b {
			if k, v, _ := strings.Cut(other, "="); k == key && v != value {
				return fmt.Errorf("%s has different values of %s", member, key)
			}
		}
	}
	return nil
}

// words returns the list with s, or nil if s is empty.
func words(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
