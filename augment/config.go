package augment

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// entryChain is the variable that tells an injected entrypoint what the base
// image's entrypoint was. Its name and form are what Wave's clients expect.
const entryChain = "WAVE_ENTRY_CHAIN"

// historyTime stamps injected history entries; a real time would make every
// result different.
const historyTime = "1970-01-01T00:00:00Z"

// rewriteConfig applies the recipe to an image config. baseLayers is the
// number of layers in the base manifest, which the config must agree with;
// added are the layers that will stand above them.
func rewriteConfig(base Object, r Recipe, baseLayers int, added []Layer) (Object, error) {
	m, err := parseMembers(base.Data)
	if err != nil {
		return Object{}, Errorf("config %s: %v", base.Digest, err)
	}
	if err := extendRootFS(&m, baseLayers, added); err != nil {
		return Object{}, Errorf("config %s: %v", base.Digest, err)
	}
	if err := extendHistory(&m, baseLayers, added); err != nil {
		return Object{}, Errorf("config %s: %v", base.Digest, err)
	}
	if err := rewriteRuntime(&m, r); err != nil {
		return Object{}, Errorf("config %s: %v", base.Digest, err)
	}
	return NewObject(base.MediaType, m.encode()), nil
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
// entries would only turn a tolerated image into a refused one.
func extendHistory(m *members, baseLayers int, added []Layer) error {
	var history []json.RawMessage
	if err := m.decode("history", &history); err != nil {
		return err
	}
	filled := 0
	for i, raw := range history {
		var entry struct {
			EmptyLayer bool `json:"empty_layer"`
		}
		if err := json.Unmarshal(raw, &entry); err != nil {
			return fmt.Errorf("history entry %d: %w", i, err)
		}
		if !entry.EmptyLayer {
			filled++
		}
	}
	if len(added) == 0 || len(history) == 0 || filled != baseLayers {
		return nil
	}
	for _, l := range added {
		history = append(history, encodeJSON(members{
			{"created", encodeJSON(historyTime)},
			{"created_by", encodeJSON("waveproxy: add layer " + l.Digest.String())},
		}))
	}
	m.set("history", history)
	return nil
}

// rewriteRuntime edits the config's "config" member: how a container starts.
// The member may be missing or null; it is added only if it gets content.
func rewriteRuntime(m *members, r Recipe) error {
	var c members
	if raw := m.get("config"); raw != nil {
		var err error
		if c, err = parseMembers(raw); err != nil {
			return fmt.Errorf("member \"config\": %w", err)
		}
	}
	chain, err := baseEntrypoint(c)
	if err != nil {
		return err
	}
	edits := r.Env
	if chain != "" {
		edits = append(slices.Clone(edits), entryChain+"="+chain)
	}
	if len(edits) > 0 {
		var env []string
		if err := c.decode("Env", &env); err != nil {
			return err
		}
		c.set("Env", mergeEnv(env, edits))
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
	if len(c) > 0 {
		m.set("config", c)
	}
	return nil
}

// mergeEnv replaces variables by key where they stand and appends new ones in
// order; the last of equal keys wins.
func mergeEnv(env, edits []string) []string {
	last := map[string]string{}
	for _, edit := range edits {
		key, _, _ := strings.Cut(edit, "=")
		last[key] = edit
	}
	var merged []string
	done := map[string]bool{}
	for _, e := range slices.Concat(env, edits) {
		key, _, _ := strings.Cut(e, "=")
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

// baseEntrypoint returns the base image's entrypoint in the form of entryChain:
// a single word bare, several as a JSON array, so that words with spaces survive.
func baseEntrypoint(c members) (string, error) {
	raw := c.get("Entrypoint")
	if raw == nil {
		return "", nil
	}
	var words []string
	if err := json.Unmarshal(raw, &words); err != nil {
		var word string
		if json.Unmarshal(raw, &word) != nil {
			return "", fmt.Errorf("member \"Entrypoint\": %w", err)
		}
		return word, nil
	}
	switch len(words) {
	case 0:
		return "", nil
	case 1:
		return words[0], nil
	}
	return string(encodeJSON(words)), nil
}
