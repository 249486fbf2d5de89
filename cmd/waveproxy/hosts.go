package main

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/config"
)

// defaultRegistry is the directory whose file containerd uses for registries
// without a directory.
const defaultRegistry = "_default"

// hostsInterval is how often --watch checks the files.
const hostsInterval = time.Minute

func hostsCommand() *cobra.Command {
	var t hostsTree
	var ca, containerd string
	var remove, watch, unchecked bool
	cmd := &cobra.Command{
		Use:   "hosts REGISTRY...",
		Short: "Write containerd's settings that augment every image of a registry",
		Long: "Write a hosts.toml for each registry, for containerd's config_path: nodes that have\n" +
			"them pull images through this server and its recipe without a change to image names.\n" +
			"The registry _default stands for all that have no directory of their own. Prints each\n" +
			"file that it changes.\n\n" +
			"While the server is down or refuses an image, containerd pulls the plain image from the\n" +
			"registry itself. Files written with --required have it fail instead.\n\n" +
			"The server is asked whether it has the recipe. If containerd's configuration can be\n" +
			"read, what keeps containerd from reading the files is a warning.\n\n" +
			"--remove deletes the files that this command has written, of all registries if none is\n" +
			"named; with --watch, it does so at the end.",
		Example: "  waveproxy hosts docker.io quay.io --recipe fusion --server https://wave.example.org --dir /etc/containerd/certs.d\n" +
			"  waveproxy hosts _default --recipe scripts --server http://10.0.0.7:9090\n" +
			"  waveproxy hosts --remove --dir /etc/containerd/certs.d",
	}
	f := cmd.Flags()
	f.StringVar(&t.recipe, "recipe", "", "`name` of the recipe in the server's configuration")
	f.StringVar(&t.server, "server", cmp.Or(os.Getenv("WAVEPROXY_SERVER"), defaultServer), "`URL` of the server as nodes reach it; also WAVEPROXY_SERVER")
	f.StringVar(&ca, "ca", "", "PEM `file` with the certificate authority of the server, which is copied to the directory")
	f.BoolVar(&t.required, "required", false, "fail pulls when the server is down, instead of pulling the plain image")
	f.StringVar(&t.dir, "dir", "certs.d", "`directory` to write to")
	f.StringVar(&containerd, "containerd-config", "", "containerd's configuration `file`, which is checked (default config.toml beside an absolute --dir)")
	f.BoolVar(&unchecked, "no-check", false, "write the files without asking the server for the recipe")
	f.BoolVar(&t.force, "force", false, "replace files that this command has not written")
	f.BoolVar(&remove, "remove", false, "delete the files instead, or at the end of --watch")
	f.BoolVar(&watch, "watch", false, "write the files again whenever they change, until SIGTERM or SIGINT")
	cmd.RunE = func(cmd *cobra.Command, registries []string) error {
		t.registries = registries
		for _, registry := range registries {
			if registry != defaultRegistry && !config.IsRegistryHost(registry) {
				return fmt.Errorf("%q is not a registry: want docker.io, registry.local:5000 or %s", registry, defaultRegistry)
			}
		}
		if remove && !watch {
			return t.remove(cmd.OutOrStdout())
		}
		if len(registries) == 0 {
			return errors.New("name a registry, such as docker.io, or _default for all")
		}
		if err := t.check(ca); err != nil {
			return err
		}
		t.readCA = func() ([]byte, error) { return readCA(ca) }
		warnings, err := warnContainerd(containerd, t.dir)
		if err != nil {
			return err
		}
		if !unchecked {
			warning, err := t.askRecipe(cmd.Context(), ca)
			if err != nil && !watch { // a node that starts before its server has the files ready
				return err
			}
			warnings = append(warnings, warning, text(err))
		}
		warn(cmd.ErrOrStderr(), warnings)
		if !watch {
			return t.write(cmd.OutOrStdout())
		}
		tick := time.NewTicker(hostsInterval)
		defer tick.Stop()
		return t.watch(cmd.Context(), tick.C, remove, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// warn prints the warnings that are not empty.
func warn(errs io.Writer, warnings []string) {
	for _, w := range warnings {
		if w != "" {
			fmt.Fprintf(errs, "waveproxy: warning: %s\n", w)
		}
	}
}

// text returns the text of an error, or "".
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// mirror is a server that stands in for registries.
type mirror struct {
	server, recipe string
	required       bool
}

func (m *mirror) check(ca string) error {
	m.server = strings.TrimSuffix(m.server, "/")
	var problems []error
	u, err := config.ParseURL(m.server)
	switch {
	case err != nil:
		problems = append(problems, fmt.Errorf("--server: %w", err))
	case m.server == "":
		problems = append(problems, errors.New("--server: want the server's URL"))
	case u.Scheme == "http" && ca != "":
		// containerd 1.7 and later would try HTTPS at the port.
		problems = append(problems, fmt.Errorf("--ca: %q: the server's URL is not https", ca))
	}
	if !config.IsRecipeName(m.recipe) {
		problems = append(problems, fmt.Errorf("--recipe: %q: %s", m.recipe, config.RecipeNames))
	}
	return errors.Join(problems...)
}

// readCA returns the certificates in a PEM file, nil without one.
func readCA(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	// containerd fails all pulls over a file without a certificate.
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("--ca %s: no certificate in it (PEM)", path)
	}
	return data, nil
}

// file is the hosts.toml of a registry. containerd asks for
// <url>/<repository>/manifests/<tag>?ns=<registry>.
func (m *mirror) file(registry string, ca bool) []byte {
	url := strconv.Quote(m.server + "/v2/wt/" + m.recipe)
	var b bytes.Buffer
	fmt.Fprintln(&b, writtenBy)
	if m.required {
		fmt.Fprintf(&b, `# Images come through the recipe %q or not at all: when the server is down,
# pulls fail. Without --required containerd would then pull the plain image.
`, m.recipe)
		m.settings(&b, "server = "+url, "", ca)
		// Without this table, containerd 1 and early 2 reject the whole file, and pull
		// from the registry itself.
		fmt.Fprint(&b, "\n[host]\n")
		return b.Bytes()
	}
	fmt.Fprintf(&b, `# Images come through the recipe %q. When the server is down or refuses an
# image, containerd pulls it from the registry itself, WITHOUT what the recipe
# adds. "waveproxy hosts --required" writes a file that refuses that.
`, m.recipe)
	// For loopback addresses, containerd finds out itself whether they have TLS.
	if registry != defaultRegistry && !isLoopback(registry) {
		fmt.Fprintf(&b, "server = %q\n\n", "https://"+apiHost(registry))
	}
	m.settings(&b, "[host."+url+"]", "  ", ca)
	// With this bound, a machine that is gone delays a pull by seconds only. containerd
	// knows the key from 2.1 on; older versions ignore it.
	fmt.Fprint(&b, "  dial_timeout = \"5s\"\n")
	return b.Bytes()
}

func (m *mirror) settings(b *bytes.Buffer, head, indent string, ca bool) {
	fmt.Fprintf(b, "%s\n%[2]scapabilities = [\"pull\", \"resolve\"]\n%[2]soverride_path = true\n", head, indent)
	if ca {
		fmt.Fprintf(b, "%sca = %q\n", indent, caFile)
	}
}

// apiHost returns the host of a registry's API.
func apiHost(registry string) string {
	if registry == auth.DockerHub {
		return auth.DockerHubAPI
	}
	return registry
}
