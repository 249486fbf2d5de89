package augment

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
)

// checkChain returns an error if the rewritten config has a chain of wrappers that needs
// chainEnv, and the image does not have that program: the container would not start. A
// chain that the base has already is its own matter. layers stand above the base. Where
// the base's layers cannot be read, the image is made as it is.
func (w *walk) checkChain(ctx context.Context, base baseImage, before, after Object, layers []Layer) error {
	if base.platform.OS == "windows" {
		return nil
	}
	var old, rewritten struct {
		Config struct{ Env []string } `json:"config"`
	}
	if err := after.Decode(ctx, &rewritten); err != nil {
		return err
	}
	chain := chainOf(rewritten.Config.Env)
	if !needsEnv(chain) {
		return nil
	}
	if err := before.Decode(ctx, &old); err == nil && chainOf(old.Config.Env) == chain {
		return nil
	}
	stack, err := w.stack(ctx, base, chainEnv)
	if _, unreadable := errors.AsType[*Error](err); unreadable {
		return nil
	}
	if err != nil {
		return err
	}
	for _, l := range layers {
		x, err := w.addedIndex(ctx, l)
		if err != nil {
			return err
		}
		stack = stack.With(x)
	}
	dirs := pathOf(rewritten.Config.Env)
	if slices.ContainsFunc(dirs, func(dir string) bool {
		return path.IsAbs(dir) && stack.HasFile(strings.TrimPrefix(path.Join(dir, chainEnv), "/"))
	}) {
		return nil
	}
	return notFor("%s starts a program through its entrypoint already, and to start another one before it needs the program %s, which it does not have in %s: leave the entrypoint out, or name the base image",
		w.Name, chainEnv, strings.Join(dirs, ":"))
}

// chainOf returns the value of entryChain that counts.
func chainOf(env []string) string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, entryChain+"="); ok {
			return v
		}
	}
	return ""
}

// needsEnv reports whether the first step of a chain is started by chainEnv, because it
// must not read the value that it is in.
func needsEnv(chain string) bool { return strings.HasPrefix(chain, `["`+chainEnv+`",`) }
