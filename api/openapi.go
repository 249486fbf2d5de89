package api

import (
	_ "embed"
	"net/http"
)

// document describes this API in OpenAPI 3.1. Tests hold it to the Go types,
// the routes and what the handlers accept.
//
//go:embed openapi.json
var document []byte

func getOpenAPI(http.ResponseWriter, *http.Request) (any, error) {
	return answer{status: http.StatusOK, contentType: "application/json", body: document}, nil
}
