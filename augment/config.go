package augment

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// historyTime stamps injected history entries; a real time would make every
// result different.
const historyTime = "1970-01-01T00:00:00Z"

// madeBy begins the history entries of injected layers.
const madeBy = "waveproxy: add layer "

// rewriteConfig applies the recipe to an image config. baseLayers is the
// number of layers in the base manifest, which the config must agree with;
// added are the layers that will stand above them.
func rewriteConfig(base Object, r Recipe, baseLayers int, added []Layer) (members, error) {
	m, err := parseMembers(base.Data)
	if err != nil {
		return nil, Errorf("config %s: %v", base.Digest, err)
	}
	if err := extendRootFS(&m, baseLayers, added); err != nil {
		return nil, Errorf("config %s: %v", base.Digest, err)
	}
	made, err := extendHistory(&m, baseLayers, added)
	if err != nil {
		return nil, Errorf("config %s: %v", base.Digest, err)
	}
	if err := rewriteRuntime(&m, r, made); err != nil {
		return nil, Errorf("config %s: %v", base.Digest, err)
	}
	return m, nil
}

func extendRootFS(m *members, baseLayers int, added []Layer) error {
	rootfs := members{{"type", encodeJSON("layers")}}
	if raw := m.get("rootfs"); raw != nil {
		var err error
		if rootfs, err = parseMembers(raw); err != nil {
			return fmt.Errorf("rootfs: %w", err)
		}
	}
	var ids []json.RawMessage
	if err := rootfs.decode("diff_ids", &ids); err != nil {
		return fmt.Errorf("rootfs: %w", err)
	}
	if len(ids) != baseLayers {
		return fmt.Errorf("the base image is inconsistent: its manifest has %d layers, its config %d diff_ids", baseLayers, len(ids))
	}
	for _, l := range added {
		ids = append(ids, encodeJSON(l.DiffID))
	}
	rootfs.set("diff_ids", ids)
	m.set("rootfs", rootfs)
	return nil
}

// extendHistory adds one entry per injected layer when the base has a history
// that accounts for all of its layers. If it has none or a wrong one, more
// entries would only turn a tolerated image into a refused one. made reports whether
// the base has such entries itself.
func extendHistory(m *members, baseLayers int, added []Layer) (made bool, err error) {
	var history []json.RawMessage
	if err := m.decode("history", &history); err != nil {
		return false, err
	}
	filled := 0
	for i, raw := range history {
		var entry struct {
			CreatedBy  string `json:"created_by"`
			EmptyLayer bool   `json:"empty_layer"`
		}
		if err := json.Unmarshal(raw, &entry); err != nil {
			return false, fmt.Errorf("history entry %d: %w", i, err)
		}
		if !entry.EmptyLayer {
			filled++
		}
		made = made || strings.HasPrefix(entry.CreatedBy, madeBy)
	}
	if len(added) == 0 || len(history) == 0 || filled != baseLayers {
		return made, nil
	}
	for _, l := range added {
		history = append(history, encodeJSON(members{
			{"created", encodeJSON(historyTime)},
			{"created_by", encodeJSON(madeBy + l.Digest.String())},
		}))
	}
	m.set("history", history)
	return made, nil
}

// rewriteRuntime edits the config's "config" member: how a container starts.
// The member may be missing or null; it is added only if it gets content.
// made says that this server augmented the base.
func rewriteRuntime(m *members, r Recipe, made bool) error {
	var os string
	if err := m.decode("os", &os); err != nil {
		return err
	}
	if os != "windows" && hasDrive.MatchString(r.WorkingDir) {
		return Errorf("working directory %q is for Windows, and the image is for %s", r.WorkingDir, cmp.Or(os, "linux"))
	}
	var c members
	if raw := m.get("config"); raw != nil {
		var err error
		if c, err = parseMembers(raw); err != nil {
			return fmt.Errorf("member \"config\": %w", err)
		}
	}
	if err := rewriteExecution(&c, r, made, os == "windows"); err != nil {
		return err
	}
	if len(c) > 0 {
		m.set("config", c)
	}
	return nil
}

func rewriteExecution(c *members, r Recipe, made, windows bool) error {
	if r.Below != nil {
		if err := rewriteExecution(c, *r.Below, made, windows); err != nil {
			return err
		}
		made = true
	}
	env, err := rewriteEnv(*c, r, made, windows)
	if err != nil {
		return err
	}
	if env != nil {
		c.set("Env", env)
	}
	if len(r.Entrypoint) > 0 {
		c.set("Entrypoint", r.Entrypoint)
	}
	if len(r.Cmd) > 0 {
		c.set("Cmd", r.Cmd)
	}
	if r.WorkingDir != "" {
		c.set("WorkingDir", r.WorkingDir)
	}
	return nil
}

// rewriteEnv returns the image's new environment, nil if it stays as it is.
func rewriteEnv(c members, r Recipe, made, windows bool) ([]string, error) {
	entrypoint, err := commandWords(c, "Entrypoint")
	if err != nil {
		return nil, err
	}
	var env []string
	if err := c.decode("Env", &env); err != nil {
		return nil, err
	}
	chain, set := newChain(entrypoint, r.Entrypoint, env, made)
	if !set && len(r.Env) == 0 && len(r.ExtendEnv) == 0 {
		return nil, nil
	}
	if set && chain == "" {
		env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, entryChain+"=") })
	}
	env = mergeEnv(env, r.Env, exactly)
	if len(r.ExtendEnv) > 0 {
		if env, err = extendEnv(env, r.ExtendEnv, windows); err != nil {
			return nil, err
		}
	}
	if chain != "" && set {
		env = mergeEnv(env, []string{entryChain + "=" + chain}, exactly)
	}
	return append([]string{}, env...), nil
}

// exactly is the key of a variable whose name has one spelling.
func exactly(name string) string { return name }

// mergeEnv replaces variables by key where they stand and appends new ones in
// order; the last of equal keys wins. keyOf returns the same key for all spellings of a
// name.
func mergeEnv(env, edits []string, keyOf func(string) string) []string {
	last := map[string]string{}
	for _, edit := range edits {
		key, _, _ := strings.Cut(edit, "=")
		last[keyOf(key)] = edit
	}
	var merged []string
	done := map[string]bool{}
	for _, e := range slices.Concat(env, edits) {
		key, _, _ := strings.Cut(e, "=")
		key = keyOf(key)
		edit, edited := last[key]
		switch {
		case !edited:
			merged = append(merged, e)
		case !done[key]:
			merged = append(merged, edit)
			done[key] = true
		}
	}
	return merged
}
