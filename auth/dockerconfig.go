package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/credentials/trace"
)

// DockerConfig returns a keychain of the credentials in Docker's config.json and
// in the credential helpers it names, the same for every identity and repository.
// The file is read at every call, so a new "docker login" or a renewed Kubernetes
// secret counts at once; callers cache the tokens that a credential got them. A
// file that does not exist holds no credentials. A file that cannot be read is an
// error, here or at a later call.
func DockerConfig(path string) (Keychain, error) {
	if path == "" {
		return nil, errors.New("docker config: the path is empty")
	}
	d := dockerConfig{path}
	if _, err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

type dockerConfig struct{ path string }

func (d dockerConfig) open() (credentials.Store, error) {
	store, err := credentials.NewStore(d.path, credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("docker config: %w", err)
	}
	return store, nil
}

// helperTimeout bounds one lookup: helpers may ask a cloud, or a person.
const helperTimeout = 30 * time.Second

// hubAddresses are the names under which Docker Hub's credentials are stored:
// Docker's own name first, then the names that podman and hand-written secrets use.
var hubAddresses = []string{"https://index.docker.io/v1/", "index.docker.io", DockerHub, DockerHubAPI}

func (d dockerConfig) Credential(ctx context.Context, target Target) (Credential, error) {
	store, err := d.open()
	if err != nil {
		return Credential{}, err
	}
	addresses := []string{target.Registry}
	if target.Registry == DockerHub {
		addresses = hubAddresses
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	for _, address := range addresses {
		if c, err := d.get(ctx, store, address); err != nil || !c.IsZero() {
			return c, err
		}
	}
	return Credential{}, nil
}

func (d dockerConfig) get(ctx context.Context, store credentials.Store, address string) (Credential, error) {
	var helper string
	traced := trace.WithExecutableTrace(ctx, &trace.ExecutableTrace{
		ExecuteStart: func(name, _ string) { helper = name },
	})
	c, err := store.Get(traced, address)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return Credential{}, fmt.Errorf("docker config %s: ask %s for %s: %w", d.path, helper, address, ctx.Err())
	case helper != "":
		return Credential{}, fmt.Errorf("docker config %s: ask %s for %s: %w", d.path, helper, address, err)
	default:
		// Without the library's error, which quotes the decoded user name and password.
		return Credential{}, fmt.Errorf("docker config %s: the entry of %s is not valid: want auth to be base64 of user:password", d.path, address)
	}
	found := Credential{
		Username: c.Username, Password: c.Password,
		IdentityToken: c.RefreshToken, RegistryToken: c.AccessToken,
	}
	if !found.IsZero() {
		found.Source = "docker config"
	}
	return found, nil
}
