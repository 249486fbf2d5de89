package truststore

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// jksOf returns a store with these entries.
func jksOf(entries ...[]byte) []byte {
	body := binary.BigEndian.AppendUint32([]byte(jksMagic), jksVersion)
	body = binary.BigEndian.AppendUint32(body, uint32(len(entries)))
	body = append(body, slices.Concat(entries...)...)
	return append(body, jksSum(body)...)
}

// privateKey is an entry with a chain of certificates.
func privateKey(chain ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = appendText(b, "key")
	b = append(b, make([]byte, 8)...)
	b = binary.BigEndian.AppendUint32(b, 3)
	b = append(b, "key"...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(chain)))
	for _, raw := range chain {
		b = appendText(b, jksType)
		b = binary.BigEndian.AppendUint32(b, uint32(len(raw)))
		b = append(b, raw...)
	}
	return b
}

// TestChainsAreNotTrusted: a certificate that a JKS has in the chain of a private key alone
// is added, and entries that end too early or too late are refused.
func TestChainsAreNotTrusted(t *testing.T) {
	all := authorities(t)
	for name, store := range map[string][]byte{
		"first in a chain": jksOf(privateKey(all[0].Raw)),
		"last in a chain":  jksOf(privateKey(all[1].Raw, all[0].Raw), privateKey()),
		"within the key":   jksOf(privateKey(slices.Concat([]byte("x"), all[0].Raw))),
	} {
		grown, err := AppendJava(store, all[:1])
		if err != nil || bytes.Count(grown, all[0].Raw) != 2 {
			t.Errorf("%s: %d times, %v", name, bytes.Count(grown, all[0].Raw), err)
			continue
		}
		if again, err := AppendJava(grown, all[:1]); err != nil || !bytes.Equal(again, grown) {
			t.Errorf("%s: a second time it changes, or %v", name, err)
		}
	}
	good := privateKey(all[0].Raw)
	for name, entry := range map[string][]byte{"short": good[:len(good)-1], "long": append(bytes.Clone(good), 0), "empty": {}} {
		if got, err := AppendJava(jksOf(entry), all); err == nil || !strings.HasPrefix(err.Error(), "has entries that cannot be read") {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// pkcs12Of returns a store without a password.
func pkcs12Of(t *testing.T, contents ...[]byte) []byte {
	t.Helper()
	store, err := pkcs12{Version: 3, Safe: content{Type: oidData}}.with(slices.Concat(contents...))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// TestMarksOfTrust: a certificate that a PKCS#12 store has without Java's mark is added.
func TestMarksOfTrust(t *testing.T) {
	all := authorities(t)
	marked, err := bagOf(all[0])
	if err != nil {
		t.Fatal(err)
	}
	bare, named := marked, marked
	bare.Attributes, named.Attributes = nil, marked.Attributes[:1]
	for name, test := range map[string]struct {
		bags []bag
		n    int
	}{"marked": {[]bag{marked}, 1}, "bare": {[]bag{bare}, 2}, "named": {[]bag{named}, 2}, "bare, then marked": {[]bag{bare, marked}, 2}} {
		part, err := contentOf(test.bags)
		if err != nil {
			t.Fatal(err)
		}
		grown, err := AppendJava(pkcs12Of(t, part), all[:1])
		if err != nil || bytes.Count(grown, all[0].Raw) != test.n {
			t.Errorf("%s: %d times, want %d: %v", name, bytes.Count(grown, all[0].Raw), test.n, err)
			continue
		}
		if again, err := AppendJava(grown, all[:1]); err != nil || !bytes.Equal(again, grown) {
			t.Errorf("%s: a second time it changes, or %v", name, err)
		}
	}
}

// TestWorkOfStores: a store of a million parts is refused without being decoded, and rounds
// are told before they are made.
func TestWorkOfStores(t *testing.T) {
	all := authorities(t)
	many := pkcs12Of(t, bytes.Repeat([]byte{5, 0}, 1<<20))
	if n := testing.AllocsPerRun(1, func() {
		if _, err := AppendJava(many, all); err == nil || !strings.Contains(err.Error(), "more than 1000 parts") {
			t.Error(err)
		}
	}); n > 20*maxContents {
		t.Errorf("%v allocations", n)
	}
	store := read(t, "pw.p12")
	var p pkcs12
	if _, err := asn1.Unmarshal(store, &p); err != nil {
		t.Fatal(err)
	}
	if work := Work(store); p.MAC.Iterations < 1000 || work < 2*64*int64(p.MAC.Iterations) {
		t.Errorf("%d bytes for %d rounds", work, p.MAC.Iterations)
	}
	p.MAC.Iterations = maxIterations + 1
	over, err := asn1.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AppendJava(over, all); err == nil || !strings.Contains(err.Error(), "at most 100000") {
		t.Error(err)
	}
	if a, b := Work(read(t, "one.jks")), Work([]byte("text")); a <= 0 || b != 0 {
		t.Errorf("a JKS is %d bytes, no store %d", a, b)
	}
}
