package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"

	"github.com/waveproxy/waveproxy/integration/upstream"
)

// WithCache returns the settings with a cache of blobs of the size.
func WithCache(settings map[string]string, size string) map[string]string {
	settings = maps.Clone(settings)
	settings["WAVEPROXY_CACHE_SIZE"] = size
	return settings
}

// RetryingSoon returns the settings with the shortest wait for an upstream that
// stalls.
func RetryingSoon(settings map[string]string) map[string]string {
	settings = maps.Clone(settings)
	settings["WAVEPROXY_UPSTREAMS_STALL_TIMEOUT"] = "1s"
	return settings
}

// OneRegistry returns the configuration of one registry over plain HTTP. It adds to
// login.
func OneRegistry(host string, login map[string]string) map[string]string {
	login["plain_http"] = "true"
	text, _ := json.Marshal(map[string]any{host: login}) // strings only: cannot fail
	return map[string]string{"WAVEPROXY_REGISTRIES": string(text)}
}

// Login returns a registry's members for the user's password.
func Login(u upstream.User) map[string]string {
	return map[string]string{"username": u.Name, "password": u.Password}
}

// DockerHub returns the configuration in which a local registry stands in for Docker
// Hub.
func DockerHub(registryURL string) map[string]string {
	return map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{docker.io: {url: %q}}`, registryURL)}
}

// UnresolvedStatus is the status for an image at gone.invalid: 403 where DNS says that
// the name does not exist, and 502 on a machine whose DNS cannot be asked.
func UnresolvedStatus() int {
	_, err := net.DefaultResolver.LookupHost(context.Background(), "gone.invalid")
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return http.StatusForbidden
	}
	return http.StatusBadGateway
}
