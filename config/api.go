package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

// API is what callers may ask for, and how they log in.
type API struct {
	// MaxBody is the largest request body the API takes, at least 1KiB. Inline
	// layers count as base64, a third larger than they are. Default: 32MiB.
	MaxBody Size `yaml:"max_body"`
	// Auth is how callers log in: none; basic, HTTP Basic with the users of
	// htpasswd; or bearer, the tokens of tokens and of the oidc issuer, which
	// Nextflow and the wave command line send as their Platform token. Default:
	// none.
	Auth APIAuth `yaml:"auth"`
	// Htpasswd is a file of users and bcrypt hashes, as "htpasswd -B" writes it. It
	// is read again when it changes.
	Htpasswd string `yaml:"htpasswd"`
	// Tokens are bearer tokens of at least 16 characters, by the identity that
	// sends them.
	Tokens map[string]BearerToken `yaml:"tokens"`
	// OIDC takes the JSON web tokens of an OpenID Connect issuer.
	OIDC OIDC `yaml:"oidc"`
	// Identities is what callers may do, by user name, token name or claim. "*"
	// is for all that have no entry. Default: every caller may do everything.
	Identities map[string]Identity `yaml:"identities"`
	// Admins may end tokens before their time, with HTTP Basic: bcrypt hashes of
	// passwords by user. "htpasswd -nB USER" prints one after the colon. Default:
	// none; no token can be ended.
	Admins map[string]Secret `yaml:"admins"`
	// Builds are requests that this server does not answer itself.
	Builds Builds `yaml:"builds"`
}

// Builds are the requests for builds, copies and scans.
type Builds struct {
	// Forward is the URL of a Wave server that gets the requests for builds, copies
	// and scans, which this server does not make, and the requests about their
	// progress: https://wave.seqera.io. They go there whole, with the credentials
	// clients put into them, so it cannot be set when callers log in to this server.
	// Default: none; they are refused.
	Forward URL `yaml:"forward"`
}

// BearerToken is given in exactly one of three ways.
type BearerToken struct {
	// Token is the token itself.
	Token Secret `yaml:"token"`
	// TokenFile holds the token.
	TokenFile string `yaml:"token_file"`
	// TokenEnv is the environment variable that holds it.
	TokenEnv string `yaml:"token_env"`
}

// Read returns the token. Its errors do not contain it.
func (b BearerToken) Read() (string, error) {
	return secretSource{b.Token, b.TokenFile, b.TokenEnv}.read()
}

// OIDC says whose JSON web tokens are good, and what in them names the caller.
type OIDC struct {
	// Issuer is the URL of the issuer, as its tokens have it in "iss".
	Issuer Issuer `yaml:"issuer"`
	// Audience must be among the token's "aud".
	Audience string `yaml:"audience"`
	// Claim is the member that names the caller. Default: sub.
	Claim string `yaml:"claim"`
	// CA is a PEM file of certificates to trust for the issuer, besides the
	// system's.
	CA string `yaml:"ca"`
}

// Identity is what one caller may do.
type Identity struct {
	// Images are patterns of the images that may be used, as in upstreams. Default:
	// any.
	Images []auth.Pattern `yaml:"images"`
	// Platforms are the ones that may be asked for: linux/amd64. Default: any.
	Platforms []Platform `yaml:"platforms"`
	// TTL is the longest lifetime of the caller's tokens, which they never exceed: they
	// may end up to an eighth early. At most tokens.ttl.
	// Default: tokens.ttl.
	TTL time.Duration `yaml:"ttl"`
	// Credentials are names from credentials. The first set that has a login for an
	// image counts; "shared" is the set of registries, docker_config and clouds. []
	// is no login: images are pulled anonymously. Default: [shared].
	Credentials []string `yaml:"credentials"`
}

// Shared names the set of credentials in registries, docker_config and clouds.
const Shared = "shared"

func (a API) check(c *Config, k checker) {
	if a.MaxBody < 1<<10 {
		k.add("api.max_body", a.MaxBody, "want at least 1KiB")
	}
	k.readable("api.htpasswd", a.Htpasswd)
	switch {
	case a.Auth == APIBasic && a.Htpasswd == "":
		k.add("api.htpasswd", "", "api.auth basic needs a file of users")
	case a.Auth == APIBearer && len(a.Tokens) == 0 && a.OIDC.Issuer == "" && !k.Failed("api.oidc"):
		k.add("api.auth", a.Auth, "needs api.tokens or api.oidc")
	}
	open := a.Auth == APINone && !k.Failed("api.auth")
	if open && (len(a.Tokens) > 0 || a.OIDC != (OIDC{}) || a.Htpasswd != "" && c.Registry.Auth == PullNone) {
		k.add("api.auth", a.Auth, "no caller has to log in, though api.htpasswd, api.tokens or api.oidc is given")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Tokens)) {
		key := "api.tokens." + name
		if auth.IsReserved(name) {
			k.add(key, name, "is a name that this server gives: recipe:, platform: and * are reserved")
		}
		if token, err := a.Tokens[name].Read(); err != nil {
			k.add(key, name, err.Error())
		} else if _, err := auth.StaticTokens(map[string]string{name: token}); err != nil {
			k.add(key, name, err.Error())
		}
	}
	if o := a.OIDC; o != (OIDC{}) {
		if o.Issuer == "" {
			k.add("api.oidc.issuer", o.Issuer, "want the issuer's URL")
		}
		if o.Audience == "" {
			k.add("api.oidc.audience", "", "want what the issuer puts into aud for this server: without it, tokens for any other would be good here")
		}
		k.readable("api.oidc.ca", o.CA)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Identities)) {
		a.Identities[name].check("api.identities."+name, c, k)
		if reserved(name) {
			k.name("api.identities", name, "is what this server calls a recipe: recipes says what it may do")
		}
		if open && name != "*" {
			k.name("api.identities", name, "no caller is known by name with api.auth none: want * only")
		}
	}
	for _, user := range slices.Sorted(maps.Keys(a.Admins)) {
		k.admin(user, a.Admins[user])
	}
	if a.Builds.Forward != (URL{}) && a.Auth != APINone {
		k.add("api.builds.forward", a.Builds.Forward, "would get the logins to this server: set api.auth to none, or leave it out")
	}
}

// chosen are claims that people set for themselves at many issuers.
var chosen = []string{"preferred_username", "name", "nickname", "given_name", "family_name", "email"}

// Warnings are what is allowed and may still not be meant, one line each.
func (c *Config) Warnings() []string {
	o := c.API.OIDC
	if c.API.Auth != APIBearer || o.Issuer == "" {
		return nil
	}
	var all []string
	if slices.Contains(chosen, o.Claim) && len(c.API.Identities) > 0 {
		all = append(all, fmt.Sprintf("api.oidc.claim: %s: people choose it themselves at many issuers, and so which of api.identities they are: sub is safer", o.Claim))
	}
	if len(c.API.Tokens)+len(c.API.Admins) > 0 || c.API.Htpasswd != "" || c.Registry.Htpasswd != "" {
		all = append(all, "api.oidc: callers whose claim is a name of api.tokens, api.admins or an htpasswd file are refused, because that name is another's")
	}
	return all
}

func (i Identity) check(key string, c *Config, k checker) {
	if i.TTL != 0 && !k.Failed("tokens.ttl") && (i.TTL < time.Minute || i.TTL > c.Tokens.TTL) {
		k.add(key+".ttl", i.TTL, "want a duration from 1m to tokens.ttl")
	}
	c.known(key+".credentials", i.Credentials, k)
}

// maxCost keeps one comparison of a password under about a second.
const maxCost = 14

// admin reports an admin without a usable hash. It quotes only what precedes a
// colon, because people paste the whole line of htpasswd, hash included.
func (k checker) admin(user string, hash Secret) {
	name, _, pasted := strings.Cut(user, ":")
	at, key := "api.admins."+yamlstrict.HideUser(user), "api.admins."+yamlstrict.HideUser(name)
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case name == "" || pasted:
		k.report(at, key, Secret(user), "want a user name, without a colon, and its hash as the value")
	case err != nil:
		k.report(at, key, hash, "want a bcrypt hash, as htpasswd -nB prints it after the colon")
	case cost > maxCost:
		k.report(at, key, hash, fmt.Sprintf("the hash has cost %d: comparing it would take seconds, want at most %d", cost, maxCost))
	}
}
