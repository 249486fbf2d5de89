package rootfs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/engine"
)

var (
	cases   = flag.Int("cases", 100, "cases to generate")
	seed    = flag.Uint64("seed", 1, "the first case's seed; the others follow. 0: a random one")
	shrink  = flag.Int("shrink", 3, "failing cases that are shown smaller; 0: one, as it is")
	gaps    = flag.Bool("gaps", false, "generate also what is known to differ: see the package's comment")
	workers = flag.Int("workers", 4, "cases that run at a time")
	explain = flag.Bool("explain", false, "print why an engine does not unpack a base")
	release = flag.String("containerd", engine.Releases[0], "containerd's release")
)

// TestRootfs: what engines unpack from an augmented image is what tar unpacks into
// the base.
func TestRootfs(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	t.Logf("%d cases from -seed %d", *cases, first)
	b := newBench(t)
	start := time.Now()
	done := make([]result, *cases)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range *workers {
		wg.Go(func() {
			for t.Context().Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= *cases {
					return
				}
				done[i].stack, done[i].problems = b.try(t.Context(), first+uint64(i))
			}
		})
	}
	wg.Wait()
	t.Logf("%d cases in %s: %s", *cases, time.Since(start).Round(time.Millisecond), &b.seen)
	b.report(t, done)
}

type result struct {
	stack
	problems []string
}

// report fails the test with the cases that have problems, the first ones in full.
func (b *bench) report(t *testing.T, done []result) {
	var seeds []uint64
	kinds := map[string]int{}
	shown := 0
	for _, r := range done {
		if len(r.problems) == 0 {
			continue
		}
		seeds = append(seeds, r.Seed)
		kind := kindOf(r.problems)
		if kinds[kind]++; kinds[kind] > 1 || shown >= max(*shrink, 1) {
			continue
		}
		shown++
		s, problems := r.stack, r.problems
		if *shrink > 0 {
			s, problems = b.smaller(t.Context(), s, problems)
		}
		t.Errorf("-cases 1 -seed %d:\n%s%s", s.Seed, s, strings.Join(problems, "\n"))
	}
	if len(seeds) > 0 {
		t.Errorf("%d of %d cases differ; seeds %d; by kind %v", len(seeds), len(done), seeds, kinds)
	}
}

// try runs the case with the seed. A generated base that an engine does not unpack is
// replaced by another one, so that every case counts in every engine.
func (b *bench) try(ctx context.Context, seed uint64) (stack, []string) {
	for attempt := range uint64(20) {
		s := generate(seed, attempt)
		switch problems, err := b.run(ctx, s); {
		case errors.Is(err, errUndecided):
			b.seen.undecided.Add(1)
		case errors.Is(err, errBase):
			b.seen.replaced.Add(1)
			if *explain {
				fmt.Printf("%v\n%s", err, s)
			}
		case err != nil:
			return s, []string{"the case does not run: " + err.Error()}
		default:
			return s, problems
		}
	}
	return stack{Seed: seed}, []string{"the generator makes no base that all engines unpack"}
}

// errBase says that an engine does not unpack the base itself.
var errBase = errors.New("the base is not unpacked")

// run returns what is wrong with a case, or nothing.
func (b *bench) run(ctx context.Context, s stack) ([]string, error) {
	base, err := s.packBase()
	if err != nil {
		return nil, err
	}
	added, err := pack(s.Added)
	if err != nil {
		return nil, err
	}
	digest, err := b.base.push(ctx, base)
	if err != nil {
		return nil, err
	}
	ref := b.host + "/" + b.base.name + "@" + digest
	bases := make([][]string, len(b.engines))
	err = b.each(func(i int, e engine.Unpacker) error {
		layers, err := e.Unpack(ctx, ref)
		if err != nil {
			return fmt.Errorf("%w by %s: %w", errBase, e.Name(), err)
		}
		bases[i] = layers
		return nil
	})
	if err != nil {
		return nil, err
	}
	answer, err := b.submit(ctx, s, ref, added)
	if err != nil {
		return nil, err
	}
	if s.hasTables() {
		b.seen.tables.Add(1)
	}
	if s.merges() && answer.TargetImage != "" {
		if err := b.checkMerged(ctx, s, answer.TargetImage); err != nil {
			return nil, err
		}
	}
	refusal := ""
	if answer.TargetImage == "" {
		refusal = fmt.Sprintf("status %d: %s", answer.Status, answer.Raw)
	}
	problems := make([][]string, len(b.engines))
	err = b.each(func(i int, e engine.Unpacker) error {
		list, err := b.compare(ctx, e, bases[i], answer.TargetImage, refusal, s.Added)
		for _, p := range list {
			problems[i] = append(problems[i], e.Name()+": "+p)
		}
		return err
	})
	return slices.Concat(problems...), err
}

// each runs f for all engines at once.
func (b *bench) each(f func(i int, e engine.Unpacker) error) error {
	errs := make([]error, len(b.engines))
	var wg sync.WaitGroup
	for i, e := range b.engines {
		wg.Go(func() { errs[i] = f(i, e) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func pack(layers []layer) ([]packed, error) {
	var list []packed
	for _, l := range layers {
		p, err := l.pack()
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// compare compares the target image in an engine to what tar makes of the base in the
// same engine. refusal is the server's, in place of a target.
func (b *bench) compare(ctx context.Context, e engine.Unpacker, base []string, target, refusal string, added []layer) ([]string, error) {
	var before, want tree
	var open map[string]bool
	err := b.mounted(base, true, func(root string) (err error) {
		if before, err = readTree(root); err != nil {
			return err
		}
		if open, err = b.apply(ctx, root, added); err != nil {
			return err
		}
		want, err = readTree(root)
		return err
	})
	loop, looped := errors.AsType[*loopError](err)
	if err != nil && !looped {
		return nil, err
	}
	if looped {
		if refusal == "" {
			return []string{fmt.Sprintf("is not refused, but %v", loop)}, nil
		}
		if !tellsLoop(refusal, before, added) {
			return []string{fmt.Sprintf("the refusal does not tell that %v: %s", loop, refusal)}, nil
		}
		b.seen.refused.Add(1)
		return nil, nil
	}
	if strings.Contains(refusal, "is a hard link to a file that is removed or replaced later") || strings.Contains(refusal, "layers cannot be merged: ") {
		return nil, errUndecided // an archive cannot say it
	}
	if refusal != "" {
		return []string{"refused: " + refusal}, nil
	}
	layers, err := e.Unpack(ctx, target)
	if err != nil {
		return []string{err.Error()}, nil
	}
	var got tree
	err = b.mounted(layers, false, func(root string) (err error) {
		got, err = readTree(root)
		return err
	})
	b.seen.compared.Add(1)
	got.forgetInherited(before)
	want.forgetInherited(before)
	return differences(got, want, open), err
}

// apply is applyLayers that counts what the case has in it.
func (b *bench) apply(ctx context.Context, root string, added []layer) (open map[string]bool, err error) {
	moved, byHand := false, false
	for _, l := range added {
		for _, e := range l {
			if at, err := resolve(root, e.clean()); err == nil {
				moved = moved || at.path != filepath.Join(root, e.clean())
				byHand = byHand || at.byHand
			}
		}
	}
	if moved {
		b.seen.moved.Add(1)
	}
	if byHand {
		b.seen.byHand.Add(1)
	}
	return applyLayers(ctx, root, added)
}
