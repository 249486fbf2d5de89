package api

import "net/http"

// ServiceInfo is the answer to "wave --info".
type ServiceInfo struct {
	ServiceInfo ServerVersion `json:"serviceInfo"`
}

// ServerVersion says what is running.
type ServerVersion struct {
	Version  string `json:"version"` // strict semver
	CommitID string `json:"commitId"`
}

func (s server) getServiceInfo(http.ResponseWriter, *http.Request) (any, error) {
	return ServiceInfo{ServerVersion{Version: s.Version, CommitID: s.Commit}}, nil
}
