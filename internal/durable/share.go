package durable

import (
	"os"
	"path/filepath"
	"sync"
)

// Syncs shares the syncs of directories among concurrent callers, because each costs a
// commit of the file system's journal. The zero value is ready. It is safe for concurrent
// use.
type Syncs struct {
	mu   sync.Mutex
	dirs map[string]*rounds // with a sync under way
}

// rounds are the sync of a directory that runs, and the one after it.
type rounds struct{ now, next *round }

type round struct {
	done chan struct{}
	err  error // once done
}

func newRound() *round { return &round{done: make(chan struct{})} }

// Replace is like the function Replace.
func (s *Syncs) Replace(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := rename(f, path); err != nil {
		return err
	}
	return s.Dir(filepath.Dir(path))
}

// Dir is like SyncDir. It returns when a sync has ended that began after the call: one
// that runs already may have missed the caller's name.
func (s *Syncs) Dir(path string) error {
	s.mu.Lock()
	r := s.dirs[path]
	if r == nil {
		if s.dirs == nil {
			s.dirs = map[string]*rounds{}
		}
		r = &rounds{now: newRound()}
		s.dirs[path] = r
		s.mu.Unlock()
		return s.run(path, r)
	}
	mine, before, first := r.next, r.now, r.next == nil
	if first {
		mine = newRound()
		r.next = mine
	}
	s.mu.Unlock()
	if !first {
		<-mine.done
		return mine.err
	}
	<-before.done
	s.mu.Lock()
	r.now, r.next = mine, nil
	s.mu.Unlock()
	return s.run(path, r)
}

// run is the round r.now.
func (s *Syncs) run(path string, r *rounds) error {
	now := r.now // only this call changes it
	now.err = syncDir(path)
	s.mu.Lock()
	if r.next == nil {
		delete(s.dirs, path)
	}
	s.mu.Unlock()
	close(now.done)
	return now.err
}

// syncDir is a variable for tests.
var syncDir = SyncDir
