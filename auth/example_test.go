package auth_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
)

// A token is minted for a grant, opened until it expires, and can be revoked.
func ExampleTokens() {
	// A server loads its key with auth.LoadOrCreateKey.
	key, err := auth.ParseKey([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	if err != nil {
		log.Fatal(err)
	}
	noon := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	tokens, err := auth.NewTokens(auth.TokensOptions{
		Keys:    []auth.Key{key},
		Records: records{}, // a map; a server uses the store that all replicas share
		Now:     func() time.Time { return noon },
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	grant := auth.Grant{
		Image: "docker.io/library/ubuntu",
		Tag:   "24.04",
		Base:  digest.FromString("the manifest upstream"),
		Root: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest,
			Digest:    digest.FromString("the augmented manifest"),
			Size:      22,
		},
	}
	token, expires, err := tokens.Mint(ctx, grant, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(token), "characters, good until", expires.Format("15:04"))

	again, _, err := tokens.Mint(ctx, grant, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the same grant, the same token:", again == token)

	opened, err := tokens.Open(ctx, token)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(opened.Image, opened.Tag)

	if err := tokens.Revoke(ctx, token); err != nil {
		log.Fatal(err)
	}
	_, err = tokens.Open(ctx, token)
	fmt.Println("revoked:", errors.Is(err, auth.ErrRevokedToken))
	// Output:
	// 39 characters, good until 13:04
	// the same grant, the same token: true
	// docker.io/library/ubuntu 24.04
	// revoked: true
}

// Two teams have their own users at one registry. All other identities share one.
func ExampleByIdentity() {
	teams := map[string]auth.Keychain{
		"team-a": auth.Static(map[string]auth.Credential{"quay.io": {Username: "a", Password: "secret"}}),
		"team-b": auth.Static(map[string]auth.Credential{"quay.io/b": {Username: "b", Password: "secret"}}),
	}
	shared := auth.Static(map[string]auth.Credential{"quay.io": {Username: "shared", Password: "secret"}})
	keychain := auth.ByIdentity(func(identity string) auth.Keychain {
		if own, ok := teams[identity]; ok {
			return own
		}
		return shared
	})
	for _, identity := range []string{"team-a", "team-b", ""} {
		for _, repository := range []string{"a/app", "b/app"} {
			target := auth.Target{Identity: identity, Registry: "quay.io", Repository: repository}
			credential, err := keychain.Credential(context.Background(), target)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%q for %s: %v\n", identity, repository, credential)
		}
	}
	// Output:
	// "team-a" for a/app: user "a" from registries.quay.io
	// "team-a" for b/app: user "a" from registries.quay.io
	// "team-b" for a/app: anonymous
	// "team-b" for b/app: user "b" from registries.quay.io/b
	// "" for a/app: user "shared" from registries.quay.io
	// "" for b/app: user "shared" from registries.quay.io
}

func ExamplePattern() {
	for _, text := range []string{"docker.io/library/*", "quay.io", "*.dkr.ecr.*.amazonaws.com/team/*"} {
		pattern, err := auth.ParsePattern(text)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(pattern,
			pattern.Match("docker.io", "library/ubuntu"),
			pattern.Match("quay.io", "team/app"),
			pattern.Match("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "team/app"))
	}
	_, err := auth.ParsePattern("docker.io/library/ubuntu:24.04")
	fmt.Println(err)
	// Output:
	// docker.io/library/* true false false
	// quay.io false true false
	// *.dkr.ecr.*.amazonaws.com/team/* false false true
	// pattern "docker.io/library/ubuntu:24.04" has a tag: patterns are about repositories
}
