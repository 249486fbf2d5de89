package api

import (
	"net/http"

	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/registry"
)

// admins are the people who may end tokens.
type admins struct {
	hashes map[string]string
	decoy  []byte
	// turn is held while a password is compared, which is slow on purpose:
	// guessing must not take the processors away from pulls.
	turn chan struct{}
}

func newAdmins(hashes map[string]string) *admins {
	a := &admins{hashes: hashes, turn: make(chan struct{}, 1)}
	highest := -1
	for _, hash := range hashes {
		if cost, err := bcrypt.Cost([]byte(hash)); err == nil && cost > highest {
			a.decoy, highest = []byte(hash), cost
		}
	}
	return a
}

// check lets a request pass whose HTTP Basic login is an admin's. Unknown users
// are compared as well, so that the time it takes does not tell who is known.
func (a *admins) check(w http.ResponseWriter, r *http.Request) error {
	if len(a.hashes) == 0 {
		return registry.Refuse(http.StatusForbidden, "nobody may end tokens on this server: configure api.admins, or use \"waveproxy token revoke\" beside it")
	}
	user, password, given := r.BasicAuth()
	if !given {
		return askLogin(w, "log in")
	}
	hash, known := a.hashes[user]
	if !known {
		hash = string(a.decoy)
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)); err != nil || !known {
		return askLogin(w, "wrong user or password")
	}
	return nil
}

func askLogin(w http.ResponseWriter, reason string) error {
	w.Header().Set("WWW-Authenticate", `Basic realm="waveproxy"`)
	return registry.Refuse(http.StatusUnauthorized, "%s: ending a token is for this server's admins (api.admins)", reason)
}
