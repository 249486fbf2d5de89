package auth

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// Target is a repository that a credential is wanted for.
type Target struct {
	Identity   string // of the grant; empty if it has none
	Registry   string // as in image names: "docker.io", "registry.local:5000"
	Repository string // without the registry: "library/ubuntu"
}

// Credential is a login for an upstream registry. Printed with any verb,
// logged or encoded as JSON it shows no secret.
type Credential struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"-"`
	IdentityToken string `json:"-"` // sent to the authorization service, in place of a password
	RegistryToken string `json:"-"` // sent to the registry as it is
	// Source says where the credential comes from, for messages:
	// "registries.docker.io", "docker config".
	Source string `json:"source,omitempty"`
}

// IsZero reports whether there is nothing to log in with: an anonymous pull.
func (c Credential) IsZero() bool {
	return c.Username == "" && c.Password == "" && c.IdentityToken == "" && c.RegistryToken == ""
}

// String returns the user, and where the credential was configured.
func (c Credential) String() string {
	switch {
	case c.IsZero():
		return "anonymous"
	case c.Username != "":
		return fmt.Sprintf("user %q from %s", c.Username, c.Source)
	}
	return "a token from " + c.Source
}

// Format keeps the secrets out of every fmt verb, %#v and %d included.
func (c Credential) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// LogValue keeps the secrets out of slog.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Keychain finds credentials. Safe for concurrent use.
type Keychain interface {
	// Credential returns the credential for the target, or the zero Credential if
	// there is none. An error means that the keychain could not find out.
	Credential(ctx context.Context, target Target) (Credential, error)
}

// FirstOf returns a keychain that asks the keychains in order. The first
// credential that is not zero wins. An error stops the search, because a pull that
// goes on anonymously would fail later, with a message that hides the cause.
func FirstOf(keychains ...Keychain) Keychain { return firstOf(keychains) }

type firstOf []Keychain

func (f firstOf) Credential(ctx context.Context, target Target) (Credential, error) {
	for _, k := range f {
		if c, err := k.Credential(ctx, target); err != nil || !c.IsZero() {
			return c, err
		}
	}
	return Credential{}, nil
}

// Static returns a keychain of credentials by registry ("quay.io") or by registry
// and path ("quay.io/team"), the same for every identity. A path covers the
// repository of that name and all repositories below it; the longest path counts.
// A credential without a Source gets "registries.<name>".
func Static(byPrefix map[string]Credential) Keychain {
	own := make(map[string]Credential, len(byPrefix))
	for prefix, c := range byPrefix {
		if c.Source == "" {
			c.Source = "registries." + prefix
		}
		own[prefix] = c
	}
	return static{hide(own)}
}

type static struct{ byPrefix hidden[map[string]Credential] }

func (s static) Credential(_ context.Context, target Target) (Credential, error) {
	prefix := target.Registry + "/" + target.Repository
	for {
		if c, ok := s.byPrefix()[prefix]; ok && !c.IsZero() {
			return c, nil
		}
		if prefix == target.Registry {
			return Credential{}, nil
		}
		prefix = prefix[:strings.LastIndexByte(prefix, '/')]
	}
}

// ByIdentity returns a keychain that asks the keychain of the target's identity. A
// nil keychain has no credentials.
func ByIdentity(of func(identity string) Keychain) Keychain { return byIdentity(of) }

type byIdentity func(identity string) Keychain

func (b byIdentity) Credential(ctx context.Context, target Target) (Credential, error) {
	k := b(target.Identity)
	if k == nil {
		return Credential{}, nil
	}
	return k.Credential(ctx, target)
}

// Matching returns a keychain that asks k only for repositories that one of the
// patterns matches.
func Matching(patterns []Pattern, k Keychain) Keychain { return matching{patterns, k} }

type matching struct {
	patterns []Pattern
	keychain Keychain
}

func (m matching) Credential(ctx context.Context, target Target) (Credential, error) {
	if !MatchAny(m.patterns, target.Registry, target.Repository) {
		return Credential{}, nil
	}
	return m.keychain.Credential(ctx, target)
}
