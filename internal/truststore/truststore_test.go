package truststore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func authorities(t *testing.T) []Certificate {
	t.Helper()
	all, err := Parse(read(t, "authorities.pem"))
	if err != nil || len(all) != 3 {
		t.Fatalf("%d certificates: %v", len(all), err)
	}
	return all
}

// made returns a certificate with a key, both in PEM.
func made(t *testing.T, template x509.Certificate) (certificate, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// TestNames: a certificate's files have names that tell it apart, and OpenSSL's names are
// what "openssl x509 -hash" prints.
func TestNames(t *testing.T) {
	var names, hashes []string
	for _, c := range authorities(t) {
		h, err := c.Hash()
		if err != nil {
			t.Fatal(err)
		}
		names, hashes = append(names, c.Name[:len(c.Name)-12]), append(hashes, h)
	}
	if diff := cmp.Diff([]string{"acme-root-ca-", "n-versal-ca-", "noname-org-"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"430f8f96", "7febc7ad", "381fb460"}, hashes); diff != "" {
		t.Errorf("hashes (-want +got):\n%s", diff)
	}
}

// TestParse: what is no certificate of an authority is refused, and nothing secret is shown.
func TestParse(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	template := x509.Certificate{Subject: pkix.Name{CommonName: "A"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true}
	good, key := made(t, template)
	template.IsCA = false
	leaf, _ := made(t, template)
	template.BasicConstraintsValid = false
	old, _ := made(t, template) // of version 1's kind, which says nothing of what it is for
	joined := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, test := range map[string]struct {
		text []byte
		n    int
		says string
	}{
		"one":           {good, 1, ""},
		"twice":         {joined(good, good), 1, ""},
		"comments":      {joined([]byte("# our authority\nsubject=A\n"), good, []byte("\nthe end")), 1, ""},
		"DOS":           {bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), 1, ""},
		"old":           {old, 1, ""},
		"several":       {joined(good, old), 2, ""},
		"empty":         {nil, 0, "is not a certificate in PEM"},
		"text":          {[]byte("hunter2"), 0, "is not a certificate in PEM"},
		"DER":           {authorities(t)[0].Raw, 0, "is not a certificate in PEM"},
		"cut":           {joined(good, good[:len(good)/2]), 0, "is not a certificate in PEM"},
		"BOM":           {joined([]byte("\xef\xbb\xbf"), good, old), 2, ""},
		"spaces before": {joined(good, []byte("  "), old), 0, "is not a certificate in PEM throughout: of 2 that begin, 1"},
		"bad letter":    {joined(bytes.Replace(good, []byte("\nMI"), []byte("\n*I"), 1), old), 0, "is not a certificate in PEM throughout"},
		"in one line":   {joined(bytes.TrimSpace(good), old), 0, "is not a certificate in PEM"},
		"BOM within":    {joined(old, []byte("\xef\xbb\xbf"), good), 0, "is not a certificate in PEM throughout"},
		"key":           {key, 0, "has a private key"},
		"key beside":    {joined(good, key), 0, "has a private key"},
		"encrypted key": {[]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n"), 0, "has a private key"},
		"RSA key":       {[]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: A,B\n\naHVudGVyMg==\n-----END RSA PRIVATE KEY-----\n"), 0, "has a private key"},
		"request":       {[]byte("-----BEGIN CERTIFICATE REQUEST-----\naHVudGVyMg==\n-----END CERTIFICATE REQUEST-----\n"), 0, `has a block "CERTIFICATE REQUEST"`},
		"no ASN.1":      {[]byte("-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n"), 0, "certificate 1 cannot be read"},
		"leaf":          {joined(good, leaf), 0, `certificate 2, "CN=A", is not of an authority`},
	} {
		found, err := Parse(test.text)
		if test.says == "" && (err != nil || len(found) != test.n) || test.says != "" && (err == nil || !strings.HasPrefix(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %d certificates, error %v", name, len(found), err)
		}
	}
	found, err := Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	for when, says := range map[time.Time]string{now.AddDate(0, 1, 0): "", now.AddDate(-1, 0, 0): `"CN=A" is not valid before 2026-11-01`, now.AddDate(2, 0, 0): `"CN=A" has expired on 2027-11-01`} {
		if err := Valid(found, when); says == "" && err != nil || says != "" && (err == nil || !strings.HasSuffix(err.Error(), says)) {
			t.Errorf("at %s: %v", when, err)
		}
	}
}

func TestAppendPEM(t *testing.T) {
	all := authorities(t)
	one, two := string(all[0].PEM()), string(all[1].PEM())
	for name, test := range map[string]struct{ bundle, want string }{
		"empty":        {"", one + two},
		"other text":   {"# roots\n", "# roots\n" + one + two},
		"no last line": {"# roots", "# roots\n" + one + two},
		"has one":      {"# x\n" + two, "# x\n" + two + one},
		"has both":     {two + "\n# x" + "\n" + one, two + "\n# x" + "\n" + one},
		"garbage":      {"\x00-----BEGIN", "\x00-----BEGIN\n" + one + two},
	} {
		if got := string(AppendPEM([]byte(test.bundle), all[:2])); got != test.want {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

// TestAppendJKS: a store that keytool made has what it had, and more.
func TestAppendJKS(t *testing.T) {
	all, store := authorities(t), read(t, "one.jks")
	grown, err := AppendJKS(store, all)
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.BigEndian.Uint32(grown[8:]); n != 3 || !bytes.HasPrefix(grown[12:], store[12:len(store)-20]) {
		t.Errorf("%d entries, or the previous ones have changed", n)
	}
	for _, c := range all {
		if bytes.Count(grown, c.Raw) != 1 {
			t.Errorf("%s is in it %d times", c.Name, bytes.Count(grown, c.Raw))
		}
	}
	if again, err := AppendJKS(grown, all); err != nil || !bytes.Equal(again, grown) {
		t.Errorf("a second time it changes, or %v", err)
	}
	if dir := os.Getenv("TRUSTSTORE_OUT"); dir != "" { // for keytool -list
		if err := os.WriteFile(dir+"/grown.jks", grown, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damaged := bytes.Clone(store)
	damaged[20] ^= 1
	for name, bad := range map[string][]byte{"empty": nil, "magic alone": store[:4], "cut": store[:len(store)-1], "damaged": damaged, "PEM": all[0].PEM(), "longer": append(bytes.Clone(store), 0)} {
		if got, err := AppendJKS(bad, all); err == nil {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
}

// TestAppendPKCS12: the stores are keytool's: with a password, without one, of the form
// before Java 17, and with another password.
func TestAppendPKCS12(t *testing.T) {
	all := authorities(t)
	for name, plain := range map[string]bool{"pw.p12": false, "none.p12": true, "old.p12": false} {
		store := read(t, name)
		grown, err := AppendJava(store, all)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, c := range all {
			if n := bytes.Count(grown, c.Raw); n != 1 {
				t.Errorf("%s: certificate %d is in it %d times", name, i, n)
			}
		}
		if plain && bytes.Contains(grown, bmp(all[0].Name)) || !plain && !bytes.Contains(grown, bmp(all[0].Name)) {
			t.Errorf("%s: the certificate that it has is added again, or one that may be there is not", name)
		}
		if again, err := AppendJava(grown, all); err != nil || !bytes.Equal(again, grown) {
			t.Errorf("%s: a second time it changes, or %v", name, err)
		}
		if dir := os.Getenv("TRUSTSTORE_OUT"); dir != "" { // for keytool -list
			if err := os.WriteFile(dir+"/grown-"+name, grown, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		changed := bytes.Clone(store)
		changed[len(changed)-1] ^= 1 // of the iterations or an attribute
		if got, err := AppendJava(changed, all); err == nil && !plain {
			t.Errorf("%s, damaged: %d bytes", name, len(got))
		}
		if got, err := AppendJava(store[:len(store)-3], all); err == nil {
			t.Errorf("%s, cut: %d bytes", name, len(got))
		}
	}
	for name, test := range map[string]struct {
		store []byte
		says  string
	}{
		"another password": {read(t, "other.p12"), "is damaged, or has another password than changeit"},
		"empty":            {nil, "is not a Java key store"},
		"a certificate":    {all[0].Raw, "is not a Java key store"},
		"text":             {[]byte("0123456789"), "is not a Java key store"},
	} {
		if _, err := AppendJava(test.store, all); err == nil || !strings.HasPrefix(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
