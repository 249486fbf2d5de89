package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
)

// API is who may ask for images, and for which.
type API struct {
	// MaxBody is the largest request body the API takes, at least 1KiB. Inline
	// layers count as base64, a third larger than they are. Default: 32MiB.
	MaxBody size `yaml:"max_body"`
	// Auth is how callers log in: none; basic, HTTP Basic with the users of
	// htpasswd; or bearer, the tokens of tokens and of the oidc issuer, which
	// Nextflow and the wave command line send as their Platform token. Default:
	// none.
	Auth string `yaml:"auth"`
	// Htpasswd is a file of users and bcrypt hashes, as "htpasswd -B" writes it. It
	// is read again when it changes.
	Htpasswd string `yaml:"htpasswd"`
	// Tokens are bearer tokens of at least 16 characters, by the identity that
	// sends them.
	Tokens map[string]BearerToken `yaml:"tokens"`
	// OIDC takes the JSON web tokens of an OpenID Connect issuer.
	OIDC OIDC `yaml:"oidc"`
	// Identities is what callers may do, by user name, token name or claim. "*"
	// is for all that have no entry. Default: everybody may do everything.
	Identities map[string]Identity `yaml:"identities"`
	// Admins may end tokens before their time, with HTTP Basic: bcrypt hashes of
	// passwords by user. "htpasswd -nB USER" prints one after the colon. Default:
	// none; nobody may.
	Admins map[string]secret `yaml:"admins"`
	Builds struct {
		// Forward is the URL of a Wave server that gets the requests for builds,
		// copies and scans, which this server does not make, and the questions
		// about them: https://wave.seqera.io. They go there whole, with the
		// credentials clients put into them, so it cannot be set when callers log in
		// to this server. Default: none; they are refused.
		Forward string `yaml:"forward"`
	} `yaml:"builds"`
}

// BearerToken is given in exactly one of three ways.
type BearerToken struct {
	// Token is the token itself.
	Token secret `yaml:"token"`
	// TokenFile holds the token.
	TokenFile string `yaml:"token_file"`
	// TokenEnv is the environment variable that holds it.
	TokenEnv string `yaml:"token_env"`
}

func (b BearerToken) source() secretSource { return secretSource{b.Token, b.TokenFile, b.TokenEnv} }

// OIDC says whose JSON web tokens are good, and what in them names the caller.
type OIDC struct {
	// Issuer is the URL of the issuer, as its tokens have it in "iss".
	Issuer string `yaml:"issuer"`
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
	Images []string `yaml:"images"`
	// Platforms are those that may be asked for: linux/amd64. Default: any.
	Platforms []string `yaml:"platforms"`
	// TTL is the longest lifetime of the caller's tokens, and at most tokens.ttl.
	// Default: tokens.ttl.
	TTL time.Duration `yaml:"ttl"`
	// Credentials are names from credentials, the first one that has a login for
	// an image counts; "shared" is what registries, docker_config and clouds have.
	// [] is nobody's: anonymous pulls. Default: [shared].
	Credentials []string `yaml:"credentials"`
}

// shared names the credentials that are nobody's in particular.
const shared = "shared"

func (a API) validate(c *Config, p *problems) {
	if a.MaxBody < 1<<10 {
		p.add("api.max_body", a.MaxBody, "want at least 1KiB")
	}
	p.oneOf("api.auth", a.Auth, "none", "basic", "bearer")
	p.readable("api.htpasswd", a.Htpasswd)
	switch {
	case a.Auth == "basic" && a.Htpasswd == "":
		p.add("api.htpasswd", "", "api.auth basic needs a file of users")
	case a.Auth == "bearer" && len(a.Tokens) == 0 && a.OIDC.Issuer == "":
		p.add("api.auth", a.Auth, "needs api.tokens or api.oidc")
	}
	if a.Auth == "none" && (len(a.Tokens) > 0 || a.OIDC != (OIDC{}) || a.Htpasswd != "" && c.Registry.Auth == "none") {
		p.add("api.auth", a.Auth, "nobody has to log in, though api.htpasswd, api.tokens or api.oidc is given")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Tokens)) {
		key := "api.tokens." + name
		if _, taken := auth.RecipeOf(name); taken {
			p.add(key, name, "is what this server calls a recipe")
		}
		if token, err := a.Tokens[name].source().read(); err != nil {
			p.add(key, name, err.Error())
		} else if _, err := auth.StaticTokens(map[string]string{name: token}); err != nil {
			p.add(key, name, err.Error())
		}
	}
	if o := a.OIDC; o != (OIDC{}) {
		if u, err := url.Parse(o.Issuer); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
			p.add("api.oidc.issuer", o.Issuer, "want the issuer's URL")
		}
		if o.Audience == "" {
			p.add("api.oidc.audience", "", "want what the issuer puts into aud for this server: without it, tokens for any other would be good here")
		}
		p.readable("api.oidc.ca", o.CA)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Identities)) {
		a.Identities[name].validate("api.identities."+name, c, p)
		if _, taken := auth.RecipeOf(name); taken {
			p.add("api.identities", name, "is what this server calls a recipe: recipes says what it may do")
		}
		if a.Auth == "none" && name != "*" {
			p.add("api.identities", name, "nobody is known by name with api.auth none: want * only")
		}
	}
	for _, user := range slices.Sorted(maps.Keys(a.Admins)) {
		p.admin(user, a.Admins[user])
	}
	if a.Builds.Forward != "" {
		p.url("api.builds.forward", a.Builds.Forward)
		if a.Auth != "none" {
			p.add("api.builds.forward", a.Builds.Forward, "would get the logins to this server: set api.auth to none, or leave it out")
		}
	}
}

func (i Identity) validate(key string, c *Config, p *problems) {
	p.patterns(key+".images", i.Images)
	for n, text := range i.Platforms {
		if _, err := augment.ParsePlatform(text); err != nil {
			p.add(fmt.Sprintf("%s.platforms[%d]", key, n), text, err.Error())
		}
	}
	if i.TTL != 0 && (i.TTL < time.Minute || i.TTL > c.Tokens.TTL) {
		p.add(key+".ttl", i.TTL, "want a duration from 1m to tokens.ttl")
	}
	c.knows(key+".credentials", i.Credentials, p)
}

// knows reports names that are not those of credentials.
func (c *Config) knows(key string, names []string, p *problems) {
	for _, name := range names {
		if _, known := c.Credentials[name]; !known && name != shared {
			p.add(key, name, "no such name in credentials")
		}
	}
}

// maxCost keeps one comparison of a password under about a second.
const maxCost = 14

// admin tells no more of a user than could be one: people paste htpasswd's
// whole line.
func (p *problems) admin(user string, hash secret) {
	name, _, pasted := strings.Cut(user, ":")
	key := "api.admins." + withoutUser(name)
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case name == "" || pasted:
		p.add(key, secret(user), "want a user name, without a colon, and its hash as the value")
	case err != nil:
		p.add(key, hash, "want a bcrypt hash, as htpasswd -nB prints it after the colon")
	case cost > maxCost:
		p.add(key, hash, fmt.Sprintf("the hash has cost %d: comparing it would take seconds, want at most %d", cost, maxCost))
	}
}
