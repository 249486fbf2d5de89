package harness

import (
	"fmt"
	"os"
	"testing"

	"github.com/waveproxy/waveproxy/integration/engine"
)

// Main runs the tests of a package and stops the engines they started. It returns
// the exit status.
func Main(m *testing.M) int {
	status := m.Run()
	if err := engine.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "stop engines:", err)
		status = 1
	}
	return status
}
