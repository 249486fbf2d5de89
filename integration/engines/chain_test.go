package engines

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// wrapper is an entrypoint as Fusion is one: it starts what WAVE_ENTRY_CHAIN
// says, one word or a JSON array, and gives it the arguments. A wrapper that
// starts itself ends after a few rounds, so that the test does.
const wrapper = `#!/bin/sh
echo "wrapper $0"
ROUNDS=x$ROUNDS; export ROUNDS
[ ${#ROUNDS} -lt 9 ] || { echo again and again; exit 1; }
case $WAVE_ENTRY_CHAIN in
\[*) words=$(printf %s "$WAVE_ENTRY_CHAIN" | sed 's/^\[//; s/\]$//; s/","/" "/g'); eval exec $words '"$@"' ;;
*) exec $WAVE_ENTRY_CHAIN "$@" ;;
esac
`

// TestEntryChain augments an image, pushes the result, and augments that again,
// with the same wrapper and with another one. In every engine each wrapper runs
// once and then the base's entrypoint.
func TestEntryChain(t *testing.T) {
	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			reg := upstream.Registry(t)
			upstream.PushAll(t, reg.Host)
			p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
			with := func(base string, entrypoint ...string) string {
				files := harness.LayerOf(t,
					harness.File{Name: "wrap/first", Mode: 0o755, Text: wrapper}, harness.File{Name: "wrap/second", Mode: 0o755, Text: wrapper},
					harness.File{Name: "wrap/base", Mode: 0o755, Text: "#!/bin/sh\necho base \"$@\"\n"})
				return p.Augment(t, harness.Request{ContainerImage: base, ContainerPlatform: "linux/amd64", ContainerConfig: &harness.Config{
					Entrypoint: entrypoint, Layers: []harness.Layer{files},
				}}).TargetImage
			}
			// push copies an augmented image to the registry, as an image of its own.
			push := func(image, name string) string {
				if err := remote.Write(harness.MustRef(t, reg.Host+"/library/"+name), harness.Pull(t, image, "amd64")); err != nil {
					t.Fatal(err)
				}
				return name
			}
			// The base: an entrypoint of two words, and no trace of this server.
			files := harness.Pull(t, with("busybox:docker-multi"), "amd64")
			config := harness.MustConfig(t, files).DeepCopy()
			config.Config.Env, config.Config.Entrypoint, config.History = nil, []string{"/wrap/base", "of base"}, nil
			own, err := mutate.ConfigFile(files, config)
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Write(harness.MustRef(t, reg.Host+"/library/own:1"), own); err != nil {
				t.Fatal(err)
			}
			once := push(with("own:1", "/wrap/first"), "once:1")
			twice := push(with(once, "/wrap/second"), "twice:1")
			bare := push(with("busybox:docker-multi", "/wrap/first"), "bare:1")
			first, second, base := "wrapper /wrap/first\n", "wrapper /wrap/second\n", "base of base echo arg\n"
			for image, want := range map[string]string{
				with(once, "/wrap/first"):           first + base,
				with(once, "/wrap/first", "-x"):     first + "base of base -x echo arg\n",
				with(once):                          first + base,
				with(once, "/wrap/second"):          second + first + base,
				with(twice, "/wrap/second"):         second + first + base,
				with(twice, "/wrap/first"):          first + second + base,
				with(push(with(twice), "thrice:1")): second + first + base,
				with(push(with(bare), "kept:1")):    first + "arg\n",
				with(bare, "/wrap/second"):          second + first + "arg\n",
			} {
				harness.MustPull(t, e, image)
				if got := harness.MustRun(t, e, image, "echo", "arg"); got != want {
					t.Errorf("%s printed %q, want %q", image, got, want)
				}
			}
		})
	}
}
