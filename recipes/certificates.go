package recipes

import (
	"fmt"
	"time"

	"github.com/waveproxy/waveproxy/internal/truststore"
)

// certificates returns the certificates of the files, each in PEM and once. Problems are
// of the file with the number.
func (l Loader) certificates(paths []string, problem func(int, error)) []string {
	var all []string
	known := map[string]bool{}
	for i, path := range paths {
		found, err := truststore.ReadFile(path, time.Now())
		if err != nil {
			problem(i, fmt.Errorf("%s: %w", path, err))
		}
		for _, c := range found {
			if text := string(c.PEM()); !known[text] {
				known[text] = true
				all = append(all, text)
			}
		}
	}
	return all
}
