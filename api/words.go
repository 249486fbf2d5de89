package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/front"
)

// layerName returns how messages call a layer of the request: by its member, and by
// what was written to have it. Clients put directories into the location themselves. A
// layer with another location was written as that, in a container config.
func layerName(i int, l containerconfig.Layer) string {
	asked := "wave --layer, a module's resources, a pipeline's bin"
	if written, ok := l.Written(); ok {
		asked = written
	}
	return fmt.Sprintf("containerConfig.layers[%d] (%.300s)", i, asked)
}

// includeName returns how messages call an image whose layers are included.
func includeName(i int) string { return fmt.Sprintf("containerIncludes[%d] (wave --include)", i) }

// askedBy returns, in parentheses, the option with which the member is set that an error
// of augment.Recipe.Validate is about.
func askedBy(err error) string {
	for _, o := range []struct{ member, option string }{
		{"env[", "env"}, {"entrypoint[", "entrypoint"}, {"cmd[", "cmd"}, {"working directory ", "working-dir"},
	} {
		if strings.HasPrefix(strings.TrimPrefix(err.Error(), "the "), o.member) {
			return " (wave --config-" + o.option + ")"
		}
	}
	return ""
}

// inElement adds to an error which element of the request it is about. The client
// sees that only if it can do something about the error; otherwise the log does.
func inElement(name string, err error) error {
	p := front.ProblemOf(err)
	if p.Status < http.StatusInternalServerError && p.RetryAfter == 0 {
		return front.Refuse(p.Status, front.Unsupported, "%s: %s", name, p.Message)
	}
	return fmt.Errorf("%s: %w", name, err)
}
