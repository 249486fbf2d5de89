package api

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
)

// identity names whose upstream credentials a request may use: nobody's in
// particular ("") without a token of Seqera Platform, else one that stands for
// the token and cannot be turned back into it. Nextflow sends the token twice;
// the one in the body counts, as for Wave.
func identity(platformToken string, r *http.Request) string {
	if platformToken == "" {
		scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if strings.EqualFold(scheme, "Bearer") {
			platformToken = strings.TrimSpace(credential)
		}
	}
	if platformToken == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(platformToken))
	return "platform:" + hex.EncodeToString(sum[:8])
}
