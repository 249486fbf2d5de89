package layerindex

import (
	"errors"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/budget"
)

// TestTableEntriesAreCharged: what the decoder keeps of a large entry is charged while the
// rest of it is waited for, wherever in the table it is long.
func TestTableEntriesAreCharged(t *testing.T) {
	long := strings.Repeat("x", 900<<10)
	for name, table := range map[string]string{
		"a name": `{"entries":[{"name":"` + long, "an attribute": `{"entries":[{"xattrs":{"user.x":"` + long, "another member": `{"version":"` + long,
	} {
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: 3 << 20, Client: 3 << 20, All: 64 << 20}})
		b, err := newBuilder(budget.With(t.Context(), ledger.Open("a")))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.addTable(strings.NewReader(table)); !isExceeded(err) {
			t.Errorf("%s: %v", name, err)
		}
		b.release()
		if ledger.Held(budget.Memory) != 0 {
			t.Errorf("%s: %d bytes are held in the end", name, ledger.Held(budget.Memory))
		}
		if b, err = newBuilder(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.addTable(strings.NewReader(`{"entries":[{"name":"a","type":"dir"}]}`)); err != nil || b.order != 1 {
			t.Errorf("a small table: %v", err)
		}
	}
}

func isExceeded(err error) bool {
	_, ok := errors.AsType[*budget.Exceeded](err)
	return ok
}
