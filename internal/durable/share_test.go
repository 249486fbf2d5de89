package durable

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowSyncs makes each sync of a directory take a second and counts them.
func slowSyncs(t *testing.T, err error) *atomic.Int64 {
	var n atomic.Int64
	old := syncDir
	t.Cleanup(func() { syncDir = old })
	syncDir = func(string) error {
		n.Add(1)
		time.Sleep(time.Second)
		return err
	}
	return &n
}

func TestSharedSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := slowSyncs(t, nil)
		var s Syncs
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				began := time.Since(start)
				if err := s.Dir("d"); err != nil {
					t.Error(err)
				}
				// A sync takes a second, and they begin at 0, 1 s and so on.
				if i > 0 && (time.Since(start) < 2*time.Second || began > time.Second) {
					t.Errorf("caller %d shared a sync that had begun before its call", i)
				}
			})
		}
		wg.Wait()
		if n.Load() != 2 || len(s.dirs) != 0 {
			t.Errorf("%d syncs for 20 callers, want 2; %d directories left", n.Load(), len(s.dirs))
		}
	})
}

func TestSharedSyncFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("the disk is gone")
		slowSyncs(t, broken)
		var s Syncs
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := s.Dir("d"); !errors.Is(err, broken) {
					t.Errorf("error %v, want the sync's", err)
				}
			})
		}
		wg.Wait()
	})
}

func TestSharedReplace(t *testing.T) {
	dir := t.TempDir()
	var s Syncs
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			f, err := CreateTemp(dir)
			if err == nil {
				defer f.Close()
				err = s.Replace(f, filepath.Join(dir, string(rune('A'+i))))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if files, err := os.ReadDir(dir); err != nil || len(files) != 30 {
		t.Errorf("%d files, %v", len(files), err)
	}
}
