package main

import (
	"context"
	"encoding/json"
	"fmt"
	"github.com/waveproxy/waveproxy/config"
	"io"
	"net/http"
	"time"
)

// askTimeout is how long "hosts" waits for the server.
const askTimeout = 5 * time.Second

// askRecipe asks the server whether it has the recipe. It returns an error if the server
// says that it does not, and a warning if the server cannot be asked: nodes may reach it
// although this machine does not. ca is the PEM file with the server's authority, or empty.
func (m *mirror) askRecipe(ctx context.Context, ca string) (warning string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.server+"/wt/"+m.recipe+"/v2/", nil)
	if err != nil {
		return "", err
	}
	client, err := trusting(config.Defaults(), ca)
	if err != nil {
		return "", fmt.Errorf("--ca: %w", err)
	}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Sprintf("the server could not be asked for the recipe %q, so the files may name one that it does not have: %v", m.recipe, err), nil
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return "", nil
	case http.StatusNotFound:
		var answer struct {
			Errors []struct{ Message string }
		}
		if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer) != nil || len(answer.Errors) == 0 {
			return "", fmt.Errorf("--server: %s answers 404 and is no waveproxy", m.server)
		}
		return "", fmt.Errorf("--recipe: %s says: %.300s", m.server, answer.Errors[0].Message)
	case http.StatusUnauthorized:
		return fmt.Sprintf("the server asks for a login, so whether it has the recipe %q was not checked, and containerd has to log in, too", m.recipe), nil
	}
	return fmt.Sprintf("the server answered %s when it was asked for the recipe %q, so the files may name one that it does not have", resp.Status, m.recipe), nil
}
