package augment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/truststore"
	"github.com/waveproxy/waveproxy/internal/unpack"
	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/rootfs"
)

const (
	// debianBundle is where programs look first, in Debian, Ubuntu and Alpine. An image
	// without any bundle gets this one.
	debianBundle = "etc/ssl/certs/ca-certificates.crt"
	// javaStore ends the names of Java's own stores.
	javaStore = "/lib/security/cacerts"
	// javaOwnStore is read in its place where it is.
	javaOwnStore = "/lib/security/jssecacerts"
	// maxStores bounds the bundles and stores of an image that are extended.
	maxStores = 32
	// maxNamed bounds the names in its layers that may be such stores.
	maxNamed = 128
)

// bundles are the names of bundles in PEM, most of which are links in most images.
var bundles = []string{
	debianBundle,
	"etc/ssl/cert.pem",
	"etc/ssl/certs/ca-bundle.crt",                      // Nix
	"etc/ssl/ca-bundle.pem",                            // SUSE
	"var/lib/ca-certificates/ca-bundle.pem",            // SUSE
	"etc/pki/tls/certs/ca-bundle.crt",                  // Red Hat
	"etc/pki/tls/cert.pem",                             // Red Hat
	"etc/pki/tls/cacert.pem",                           // OpenELEC; Go reads it
	"etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Red Hat
	"etc/ca-certificates/extracted/tls-ca-bundle.pem",  // Arch
}

// javaStores are the names of stores that belong to no one Java.
var javaStores = []string{"etc/ssl/certs/java/cacerts", "etc/pki/ca-trust/extracted/java/cacerts", "etc/pki/java/cacerts", "var/lib/ca-certificates/java-cacerts"}

// prepareTrusting is prepare with one more layer, because of which programs in the image trust
// the recipe's certificates.
func (w *walk) prepareTrusting(ctx context.Context, base baseImage, layers []Layer) ([]Layer, error) {
	if len(w.Recipe.Certificates) == 0 {
		return w.prepare(ctx, base, layers)
	}
	text := w.preparedKey(base, layers, false)
	key := sha256.Sum256(fmt.Appendf(text[:], "%q", w.Recipe.Certificates))
	l, ok := w.stillRepacked(ctx, key)
	if !ok {
		caller := ctx
		var err error
		l, err = w.repacking.Do(ctx, w.sharedBy(ctx, string(key[:])), prepareTimeout, func(ctx context.Context) (Layer, error) {
			l, err := w.trustLayer(ctx, base, layers)
			switch {
			case err == nil:
				w.repacked.Add(key, l)
			case caller.Err() != nil:
				err = abandoned{err}
			}
			return l, err
		})
		if err != nil {
			return nil, err
		}
	}
	return w.prepare(ctx, base, append(slices.Clone(layers), l))
}

// trustLayer makes the layer over the base and the other layers.
func (w *walk) trustLayer(ctx context.Context, base baseImage, layers []Layer) (Layer, error) {
	certificates, err := parseCertificates(w.Recipe.Certificates)
	if err != nil {
		return Layer{}, Errorf("recipe: %v", err)
	}
	added, err := w.prepare(ctx, base, layers)
	if err != nil {
		return Layer{}, err
	}
	stack, err := w.stack(ctx, base, debianBundle)
	if err != nil {
		return Layer{}, err
	}
	t := &trusting{walk: w, base: base, added: added, certificates: certificates, files: map[string]addition{}}
	stores := map[string]bool{}
	for _, l := range added {
		x, err := w.addedIndex(ctx, l)
		if err != nil {
			return Layer{}, err
		}
		stack = stack.With(x)
	}
	t.stack = stack
	for i := range len(base.layers) + len(added) {
		err := unpack.InTurn(ctx, int(stack.Bytes(i)), func() error {
			for _, suffix := range []string{javaStore, javaOwnStore} {
				for name := range stack.Ending(i, suffix) {
					if stores[name] = true; len(stores) > maxNamed {
						return t.tooMany(len(stores))
					}
				}
			}
			return nil
		})
		if err != nil {
			return Layer{}, err
		}
	}
	if err := t.extend(ctx, stores); err != nil {
		return Layer{}, err
	}
	if err := t.addAnchors(); err != nil {
		return Layer{}, err
	}
	return t.put(ctx)
}

// trusting is the making of one such layer.
type trusting struct {
	*walk
	base         baseImage
	added        []Layer // above the base
	stack        *rootfs.Stack
	certificates []truststore.Certificate
	files        map[string]addition // by name
}

// storePlace is a bundle or store: its name, links followed, and the layer that has it.
type storePlace struct {
	name  string
	layer int
	java  bool
}

// extend adds the certificates to the bundles and stores that the image has.
func (t *trusting) extend(ctx context.Context, javas map[string]bool) error {
	found := map[string]storePlace{}
	look := func(java bool, names iter.Seq[string]) error {
		for name := range names {
			// A name may lead through hundreds of directories of large layers.
			err := unpack.InTurn(ctx, t.size(), func() error {
				if full, node, layer := t.stack.Find(name); node.Kind == rootfs.Other {
					found[full] = storePlace{full, layer, java}
				}
				return ctx.Err()
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := look(false, slices.Values(bundles)); err != nil {
		return err
	}
	hasBundle := len(found) > 0
	if err := errors.Join(look(true, maps.Keys(javas)), look(true, slices.Values(javaStores))); err != nil {
		return err
	}
	if len(found) > maxStores {
		return t.tooMany(len(found))
	}
	if !hasBundle {
		if full, node, _ := t.stack.Find(debianBundle); node.Kind == rootfs.Dir {
			return t.cannotAdd(full, "is a directory")
		}
		t.files[debianBundle] = addition{file: layerindex.File{Mode: 0o644, Data: truststore.AppendPEM(nil, t.certificates)}}
	}
	byLayer := map[int][]storePlace{}
	for _, p := range found {
		byLayer[p.layer] = append(byLayer[p.layer], p)
	}
	for layer, places := range byLayer {
		slices.SortFunc(places, func(a, b storePlace) int { return cmp.Compare(a.name, b.name) })
		if err := t.extendIn(ctx, layer, places); err != nil {
			return err
		}
	}
	return nil
}

// size is that of all layers' indexes, in bytes.
func (t *trusting) size() (n int) {
	for i := range len(t.base.layers) + len(t.added) {
		n += int(t.stack.Bytes(i))
	}
	return n
}

// extendIn extends the files of one layer.
func (t *trusting) extendIn(ctx context.Context, layer int, places []storePlace) error {
	var names []string
	for _, p := range places {
		names = append(names, p.name)
	}
	files, err := t.read(ctx, layer, names)
	if err != nil {
		return err
	}
	for _, p := range places {
		f, ok := files[p.name]
		if !ok {
			return t.cannotAdd(p.name, "is a device or pipe")
		}
		if t.Made != nil {
			// The result, and what is decoded meanwhile.
			if _, err := t.Made(ctx, 2*int64(len(f.Data))); err != nil {
				return err
			}
		}
		before, work := f.Data, int64(len(f.Data))
		if p.java { // a store of a hundred bytes may ask for a hundred thousand rounds
			work = truststore.Work(before)
		}
		if err := budget.From(ctx).Spend(budget.Unpacked, work); err != nil {
			return err
		}
		var refused error
		err := unpack.InTurn(ctx, int(work), func() error {
			if f.Data = truststore.AppendPEM(before, t.certificates); p.java {
				f.Data, refused = truststore.AppendJava(before, t.certificates)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		if refused != nil {
			return t.cannotAdd(p.name, refused.Error())
		}
		if len(f.Data) != len(before) {
			// Signatures of the old bytes would make the file unreadable.
			f.Xattrs = maps.Clone(f.Xattrs)
			delete(f.Xattrs, "security.ima")
			delete(f.Xattrs, "security.evm")
			t.files[p.name] = addition{file: f}
		}
	}
	return nil
}

func (t *trusting) tooMany(n int) error {
	return Errorf("%s has %d files of trusted certificates, and at most %d are extended", t.Name, n, maxStores)
}

func (t *trusting) cannotAdd(name, reason string) error {
	return Errorf("%s: the certificates cannot be added to %q, which %s", t.Name, "/"+name, reason)
}

// read returns files of a layer, hard links followed within it.
func (t *trusting) read(ctx context.Context, layer int, names []string) (map[string]layerindex.File, error) {
	files, err := t.readOnce(ctx, layer, names)
	if err != nil {
		return nil, err
	}
	var linked []string
	for _, f := range files {
		if f.Link != "" {
			linked = append(linked, f.Link)
		}
	}
	if len(linked) == 0 {
		return files, nil
	}
	slices.Sort(linked)
	targets, err := t.readOnce(ctx, layer, slices.Compact(linked))
	if err != nil {
		return nil, err
	}
	files = maps.Clone(files)
	for name, f := range files {
		if f.Link == "" {
			continue
		}
		target, ok := targets[f.Link]
		if !ok || target.Link != "" {
			return nil, t.cannotAdd(name, "is a hard link to a file that is not in its layer")
		}
		files[name] = target
	}
	return files, nil
}

func (t *trusting) readOnce(ctx context.Context, layer int, names []string) (map[string]layerindex.File, error) {
	if layer < len(t.base.layers) {
		described, err := t.base.annotated(ctx)
		if err != nil {
			return nil, err
		}
		return t.src.Files(ctx, described[layer], names)
	}
	l := t.added[layer-len(t.base.layers)]
	f, err := t.Archives.Open(ctx, l.Digest)
	if err != nil {
		return nil, fmt.Errorf("open layer %s: %w", l.Digest, err)
	}
	defer f.Close()
	files, err := layerindex.Files(ctx, f, names)
	if wrong, ok := errors.AsType[*layerindex.Error](err); ok {
		return nil, Errorf("%s %v", fmt.Sprintf("layer %s", l.Digest), wrong)
	}
	return files, err
}

// parseCertificates returns the certificates of a recipe.
func parseCertificates(texts []string) ([]truststore.Certificate, error) {
	for _, text := range texts { // each for itself, because together they may look well
		if _, err := truststore.Parse([]byte(text)); err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
	}
	all, err := truststore.Parse([]byte(strings.ReplaceAll(strings.Join(texts, "\n"), "\ufeff", "")))
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return all, nil
}
