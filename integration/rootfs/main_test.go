package rootfs

import (
	"os"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
