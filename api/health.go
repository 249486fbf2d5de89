package api

import (
	"net/http"

	"github.com/waveproxy/waveproxy/front"
)

// Health is the answer of a healthy server.
type Health struct {
	Status string `json:"status"`
	// Problems do not keep the server from answering other requests.
	Problems []string `json:"problems,omitempty"`
}

// getHealth answers as long as the process does.
func getHealth(http.ResponseWriter, *http.Request) (any, error) {
	return Health{Status: "ok"}, nil
}

// WriteHealth is the answer of /healthz before there is an API.
func WriteHealth(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n")) // a client that is gone is told nothing
}

// getReady answers load balancers whether requests can be served.
func (s server) getReady(_ http.ResponseWriter, r *http.Request) (any, error) {
	problems, err := s.Ready(r.Context())
	if err != nil {
		return nil, front.Refuse(http.StatusServiceUnavailable, front.Unsupported, "not ready: %v", err)
	}
	return Health{"ok", problems}, nil
}

// getWaveHealth is getReady as Wave answers it, for probes that were written for it.
func (s server) getWaveHealth(_ http.ResponseWriter, r *http.Request) (any, error) {
	a, err := encode(r.Context(), Health{Status: "UP"})
	if _, down := s.Ready(r.Context()); down != nil {
		a, err = encode(r.Context(), Health{Status: "DOWN"})
		a.status = http.StatusServiceUnavailable
	}
	return a, err
}
