package augment

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/internal/unpack"
	"github.com/waveproxy/waveproxy/rootfs"
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
	if found, err := hasProgram(ctx, stack, dirs, chainEnv); found || err != nil {
		return err
	}
	return notFor("%s starts a program through its entrypoint already, and to start another one before it needs the program %s, which it does not have in %s: leave the entrypoint out, or name the base image",
		w.Name, chainEnv, strings.Join(dirs, ":"))
}

// hasProgram reports whether one of the directories has the program, links followed. It takes
// a turn.
func hasProgram(ctx context.Context, stack *rootfs.Stack, dirs []string, program string) (bool, error) {
	turn := unpack.New(ctx)
	if err := turn.Enter(); err != nil {
		return false, err
	}
	defer turn.Leave()
	p := placing{placer: rootfs.NewPlacer(stack), memory: holdMemory(ctx)}
	defer p.end()
	p.during(ctx, turn)
	for _, dir := range dirs {
		if !path.IsAbs(dir) {
			continue
		}
		if found, err := p.placer.HasFile(strings.TrimPrefix(path.Join(dir, program), "/")); found || err != nil {
			return found, err
		}
	}
	return false, nil
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
