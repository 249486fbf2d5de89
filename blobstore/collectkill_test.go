package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// kills is how often a server is killed. The days go on by one with each.
var kills = flag.Int("kills", 8, "how often TestCollectKilled kills a server")

// dayAt is noon of a day in the years that no other test uses.
func dayAt(round int) time.Time {
	return time.Date(2130, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, round)
}

// roundBlob is a large blob that every image of a round has.
func roundBlob(round int) []byte { return storetest.Bytes(70_000, fmt.Sprint("round", round)) }

// collectChild mints and collects until it is killed: the round is in the directory's
// name. What it says on standard output it has promised.
func collectChild(ctx context.Context, dir string) error {
	dir, number := filepath.Split(dir)
	var round int
	if _, err := fmt.Sscan(number, &round); err != nil {
		return err
	}
	s, err := blobstore.NewDir(filepath.Clean(dir))
	if err != nil {
		return err
	}
	s.Now = func() time.Time { return dayAt(round) }
	go func() {
		for ctx.Err() == nil {
			if _, err := s.Collect(ctx, blobstore.CollectOptions{Retention: 36 * time.Hour}); err != nil && !errors.Is(err, blobstore.ErrCollecting) {
				panic(err)
			}
		}
	}()
	for i := 0; ; i++ {
		large := roundBlob(round)
		if err := s.Put(ctx, digest.FromBytes(large), bytes.NewReader(large)); err != nil {
			return err
		}
		small := fmt.Appendf(nil, "image %d %d", round, i)
		record := fmt.Sprintf("%sgrants/%da", blobstore.Until(dayAt(round+i%3).Add(time.Hour)), i)
		if err := s.PutPack(ctx, record, small, partsOf(small, large)); err != nil {
			return err
		}
		fmt.Println(record)
	}
}

// TestCollectKilled kills servers that mint and collect. Every image that was promised
// is whole until its day, and nothing is left for ever.
func TestCollectKilled(t *testing.T) {
	dir := t.TempDir()
	promised := map[string]int{} // records, and the round that made them
	for round := range *kills {
		child := startChild(t, "collect", filepath.Join(dir, fmt.Sprint(round)))
		for range 5 + round%7 {
			promised[child.line(t)] = round
		}
		if err := child.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.cmd.Wait() // killed
		s := openDir(t, dir)
		s.Now = func() time.Time { return dayAt(round) }
		for record, made := range promised {
			day := strings.Split(record, "/")[1]
			if day <= dayAt(round).Format(time.DateOnly) {
				delete(promised, record)
				continue
			}
			wantBlob(t, s.In(record), roundBlob(made))
			if small, err := s.Record(t.Context(), record); err != nil || s.In(record).Verify(t.Context(), digest.FromBytes(small)) != nil {
				t.Errorf("%s: %q, %v", record, small, err)
			}
		}
	}
	s := openDir(t, dir)
	s.Now = func() time.Time { return dayAt(*kills + 10) }
	collect(t, s)
	s.Now = func() time.Time { return dayAt(*kills + 60) }
	collect(t, s)
	if left := below(t, dir); len(left) != 1 {
		t.Errorf("left for ever: %q", left)
	}
}
