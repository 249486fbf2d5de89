package api

import (
	"net/http"

	"github.com/waveproxy/waveproxy/front"
)

// Health is the answer of a healthy server.
type Health struct {
	Status string `json:"status"`
}

// getHealth answers as long as the process does.
func getHealth(http.ResponseWriter, *http.Request) (any, error) {
	return Health{"ok"}, nil
}

// getReady answers load balancers whether requests can be served.
func (s server) getReady(_ http.ResponseWriter, r *http.Request) (any, error) {
	if err := s.Ready(r.Context()); err != nil {
		return nil, front.Refuse(http.StatusServiceUnavailable, front.Unsupported, "not ready: %v", err)
	}
	return Health{"ok"}, nil
}

// getWaveHealth is getReady as Wave answers it, for probes that were written for it.
func (s server) getWaveHealth(_ http.ResponseWriter, r *http.Request) (any, error) {
	a, err := encode(r.Context(), Health{"UP"})
	if s.Ready(r.Context()) != nil {
		a, err = encode(r.Context(), Health{"DOWN"})
		a.status = http.StatusServiceUnavailable
	}
	return a, err
}
