package api

import (
	"errors"
	"net/http"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
)

// checkAdmin returns nil if the HTTP Basic login of the request is an admin's.
func (s server) checkAdmin(w http.ResponseWriter, r *http.Request) error {
	if s.Admins == nil {
		return front.Refuse(http.StatusForbidden, front.Unsupported, "ending tokens is off on this server: configure api.admins, or use \"waveproxy token revoke\" beside it")
	}
	_, err := front.BasicLogin(w, r, s.Admins, s.Guesses)
	if errors.Is(err, auth.ErrNoLogin) || errors.Is(err, auth.ErrWrongLogin) {
		return front.Refuse(http.StatusUnauthorized, front.Unsupported, "%v: ending a token is for this server's admins (api.admins)", err)
	}
	return err
}
