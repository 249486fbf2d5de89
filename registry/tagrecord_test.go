package registry

import (
	"os"
	"testing"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestNamedTagImageGone: a tag in memory whose image has lost its record, and has
// left the memory, is looked up again by the request that finds out.
func TestNamedTagImageGone(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	want := s.get(toolsApp + "1").digest()
	q, err := s.server.named.paths.parse(route{token: "tools", name: "library/app"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(recordsOf(t, net)); err != nil {
		t.Fatal(err)
	}
	s.server.named.ledger.images.Remove(ownedDigest{q.group, want})
	if got := s.get(toolsApp + "1").digest(); got != want {
		t.Errorf("the image is %s, want %s", got, want)
	}
}

// TestNamedTagRefusalLost: if the refusal of a tag cannot be recorded, the log says
// that other servers may go on serving the tag.
func TestNamedTagRefusalLost(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	s.get(toolsApp + "1")
	net.advance(tagTTL)
	net.Answer(upstreamtest.Status(404))
	net.records.fail = os.ErrPermission
	if a := s.do("GET", toolsApp+"1"); a.status != 404 {
		t.Errorf("status %d", a.status)
	}
	if s.logged("other servers may serve its last known image") != 1 || s.logged("other servers will ask the upstream") != 0 {
		t.Error("the log does not say what the lost refusal means")
	}
}
