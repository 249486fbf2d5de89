package api

import "net/http"

// serviceInfo is what "wave --info" reads. The version must be strict semver.
type serviceInfo struct {
	Version  string `json:"version"`
	CommitID string `json:"commitId"`
}

func (s server) getServiceInfo(http.ResponseWriter, *http.Request) (any, error) {
	return map[string]serviceInfo{"serviceInfo": {Version: s.Version, CommitID: s.Commit}}, nil
}
