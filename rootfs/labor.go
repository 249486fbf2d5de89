package rootfs

// What a Placer does between two calls of the function given to During. A look-up into one layer takes
// a microsecond, so it is called after a few milliseconds at most.
const (
	stepWork  = 1 << 10 // look-ups
	stepBytes = 64 << 10

	// lookUps is how many times a name is looked up in a layer, at most, when a directory of
	// the base is entered or something in it is looked at.
	lookUps = 4
)

// labor is what a Placer has done since others were thought of.
type labor struct {
	step  func() error // nil: they are not
	work  int
	bytes int64 // of the Placer, when step was last called
	err   error // of step; everything ends with it
}

// During has step called during the Placer's work, in Layer, Place, OrderMatters and HasFile, again and again:
// to let others work, to charge Bytes, and to end the work. After an error the Placer is of no
// use, and returns that error.
func (p *Placer) During(step func() error) { p.labor = labor{step: step} }

// worked notes n look-ups, or as much other work. It reports whether to go on.
func (p *Placer) worked(n int) bool {
	l := &p.labor
	if l.err != nil || l.step == nil {
		return l.err == nil
	}
	l.bytes = min(l.bytes, p.Bytes()) // another pass has less
	if l.work += n; l.work >= stepWork || p.Bytes()-l.bytes >= stepBytes {
		l.work, l.bytes = 0, p.Bytes()
		l.err = l.step()
	}
	return l.err == nil
}
