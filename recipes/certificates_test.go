package recipes

import (
	"os"
	"strings"
	"testing"
)

// TestCertificatesOfFiles: a recipe has each certificate of its files once, and a file
// that is no such is a problem of its key.
func TestCertificatesOfFiles(t *testing.T) {
	h := newFixture(t, newSite(t))
	text, err := os.ReadFile("../internal/truststore/testdata/authorities.pem")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	all := writeFile(t, dir+"/all.pem", text)
	one := writeFile(t, dir+"/one.pem", text[:strings.Index(string(text), "-----END CERTIFICATE-----")+len("-----END CERTIFICATE-----\n")])
	book := h.load(t, map[string]Definition{"a": {Certificates: []string{one, all}, Env: []string{"A=${B}"}, ExtendEnv: []string{"PATH=/a:${PATH}"}}})
	r, ok := book.Recipe("a")
	if got := r.Certificates; !ok || len(got) != 3 || strings.Join(got, "") != string(text) || len(r.Env) != 1 || len(r.ExtendEnv) != 1 {
		t.Errorf("%d certificates: %+v", len(got), r)
	}
	bad := writeFile(t, dir+"/bad.pem", []byte("secret"))
	_, err = h.Load(t.Context(), map[string]Definition{"a": {Certificates: []string{one, bad, dir + "/none.pem"}}})
	if err == nil || !strings.HasPrefix(err.Error(), "recipes.a.certificates[1]: "+bad+": is not a certificate in PEM") || !strings.Contains(err.Error(), "\nrecipes.a.certificates[2]: ") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
