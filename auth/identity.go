package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// The identities that the server itself gives. A login must never result in one
// of them, so every source of identities that is not the administrator's own
// list checks IsReserved: a new kind goes here, and is then refused everywhere.
const (
	// allIdentities names the policy of all identities that have none of their
	// own.
	allIdentities = "*"
	// platformPrefix begins the identity of a caller that does not log in but sends
	// a token of Seqera Platform.
	platformPrefix = "platform:"
	// recipePrefix begins the identity that reaches the upstream for a named recipe.
	recipePrefix = "recipe:"
)

// IsReserved reports whether only the server itself may give the identity.
func IsReserved(identity string) bool {
	return identity == allIdentities || strings.HasPrefix(identity, platformPrefix) || strings.HasPrefix(identity, recipePrefix)
}

// PlatformIdentity returns the identity of a caller that is known by its Platform
// token only. The token cannot be found from it.
func PlatformIdentity(token string) string {
	sum := sha256.Sum256([]byte(token))
	return platformPrefix + hex.EncodeToString(sum[:8])
}

// RecipeIdentity returns the identity that reaches the upstream for images pulled
// through the recipe.
func RecipeIdentity(recipe string) string { return recipePrefix + recipe }

// RecipeOf returns the recipe of an identity that RecipeIdentity made.
func RecipeOf(identity string) (recipe string, ok bool) {
	return strings.CutPrefix(identity, recipePrefix)
}
