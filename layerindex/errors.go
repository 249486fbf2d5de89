package layerindex

import "github.com/waveproxy/waveproxy/internal/brief"

// Error says what is wrong with a layer. Its text begins with a verb, because callers
// know the name of the layer: "is not a tar archive".
type Error struct{ message string }

func (e *Error) Error() string { return e.message }

func errorf(format string, args ...any) error { return &Error{brief.Sprintf(format, args...)} }
