package layerindex

// merger makes the tables of rows that come sorted, all entries of one name together and
// before its markers.
type merger struct {
	entries, marks maker
	simple         bool

	above   []level // the names above the current one, the root first
	name    level   // the current one
	started bool    // there is a current one
	last    row     // of its rows that count
	counts  bool    // there is one
	mark    row     // the last marker
}

// level is a name that has entries.
type level struct {
	key string
	// replaced is the last row at this name or above it that is no directory: it removes
	// everything below that came before it. 0 is none.
	replaced uint32
	file     bool   // the last row at this name, or one above it, is no directory
	order    uint32 // of the last row at this name
}

// take takes the next row.
func (m *merger) take(r row) {
	if r.class() > 0 {
		m.endName()
		m.simple = false
		if m.mark.name != r.name || m.mark.kind != r.kind { // it may stand there twice
			m.marks.add(&r)
			m.mark = r
		}
		return
	}
	if m.started && m.name.key == r.name {
		m.simple = false // two entries have one name
	} else {
		m.begin(r.name)
	}
	above := m.directory()
	if above.order > r.order {
		m.simple = false // engines make the directory twice
	}
	m.name.order = max(m.name.order, r.order)
	if r.order > above.replaced {
		m.last, m.counts = r, true
	}
	m.name.file = above.file || r.kind != Dir
	if r.kind != Dir {
		m.name.replaced = max(m.name.replaced, r.order)
	}
}

// directory returns the nearest name above the current one, or the zero level.
func (m *merger) directory() level {
	if len(m.above) == 0 {
		return level{}
	}
	return m.above[len(m.above)-1]
}

// begin ends the previous name and finds what is above the next one.
func (m *merger) begin(key string) {
	m.endName()
	for len(m.above) > 0 && !isBelow(key, m.directory().key) {
		m.above = m.above[:len(m.above)-1]
	}
	above := m.directory()
	m.name, m.started = level{key: key, replaced: above.replaced}, true
	if above.file {
		m.simple = false
	}
}

// endName adds what counts of the current name.
func (m *merger) endName() {
	if !m.started {
		return
	}
	if m.counts {
		m.entries.add(&m.last)
	}
	m.above = append(m.above, m.name)
	m.started, m.counts = false, false
}
