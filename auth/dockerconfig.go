package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"oras.land/oras-go/v2/registry/remote/credentials"
)

// DockerConfig returns a keychain of the credentials in Docker's config.json and
// in the credential helpers it names, the same for every identity and repository.
// The file is read at every call, so a new "docker login" or a renewed Kubernetes
// secret counts at once; callers cache the tokens that a credential got them. The
// answer of a helper is kept for a minute, and few helpers run at a time. A
// file that does not exist holds no credentials. A file that cannot be read is an
// error, here or at a later call.
func DockerConfig(path string) (Keychain, error) {
	if path == "" {
		return nil, errors.New("docker config: the path is empty")
	}
	d := dockerConfig{path, newHelpers()}
	if _, err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

type dockerConfig struct {
	path    string
	helpers *helpers
}

func (d dockerConfig) open() (credentials.Store, error) {
	store, err := credentials.NewStore(d.path, credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("docker config: %w", err)
	}
	return store, nil
}

// helperOf returns the helper that the file names for an address: its own, or else
// the one for all addresses.
func (d dockerConfig) helperOf(address string) (string, error) {
	data, err := os.ReadFile(d.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return "", nil
	}
	var file struct {
		Store   string            `json:"credsStore"`
		Helpers map[string]string `json:"credHelpers"`
	}
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	if err != nil {
		return "", fmt.Errorf("docker config: %w", err)
	}
	return cmp.Or(file.Helpers[address], file.Store), nil
}

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
	for _, address := range addresses {
		if c, err := d.get(ctx, store, address); err != nil || !c.IsZero() {
			return c, err
		}
	}
	return Credential{}, nil
}

func (d dockerConfig) get(ctx context.Context, store credentials.Store, address string) (found Credential, err error) {
	helper, err := d.helperOf(address)
	if err != nil {
		return Credential{}, err
	}
	if helper != "" {
		if found, err = d.helpers.get(ctx, helper, address); err != nil {
			return Credential{}, fmt.Errorf("docker config %s: ask %s for %s: %w", d.path, helperName(helper), address, err)
		}
	} else {
		c, err := store.Get(ctx, address)
		if err != nil {
			// Without the library's error, which quotes the decoded user name and password.
			return Credential{}, fmt.Errorf("docker config %s: the entry of %s is not valid: want auth to be base64 of user:password", d.path, address)
		}
		found = Credential{
			Username: c.Username, Password: c.Password,
			IdentityToken: c.RefreshToken, RegistryToken: c.AccessToken,
		}
	}
	if !found.IsZero() {
		found.Source = "docker config"
	}
	return found, nil
}
