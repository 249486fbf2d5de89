package containerconfig

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestExpand(t *testing.T) {
	var got []string
	for _, d := range Expand([]string{"file:a.json", "https://h/{arch}/{arch}.json"}, Architectures) {
		got = append(got, d.Arch+" "+d.Name)
	}
	want := []string{" file:a.json", "amd64 https://h/amd64/amd64.json", "arm64 https://h/arm64/arm64.json"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRead(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		text  string
		err   error // of the open document
		fails string
	}{
		"all members": {text: `{"entrypoint":["e"],"layers":[{"location":"data:","gzipSize":"7"}],"more":{}}`},
		"directory":   {text: `{"workingDir":"/"}`},
		"largest":     {text: `{"env":["A=1"]}` + strings.Repeat(" ", MaxDocument-15)},
		"too large":   {text: `{"env":["A=1"]}` + strings.Repeat(" ", MaxDocument-14), fails: "https://h/d.json is not a container config: it is larger than 1048576 bytes"},
		"empty":       {text: `{"layers":null,"env":[]}`, fails: "https://h/d.json is not a container config: it adds nothing"},
		"a page":      {text: "<html>", fails: "https://h/d.json is not a container config: invalid character '<' looking for beginning of value"},
		"a size":      {text: `{"layers":[{"gzipSize":-1}]}`, fails: "https://h/d.json is not a container config: gzipSize -1: want a number of bytes"},
		"cut off":     {err: broken, fails: "read https://h/d.json: broken"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Document{Name: "https://h/d.json?secret=1"}
			err := d.Read(t.Context(), func(_ context.Context, name string) (io.ReadCloser, error) {
				if name != d.Name {
					t.Errorf("%s is opened", name)
				}
				if test.err != nil {
					return io.NopCloser(iotest.ErrReader(test.err)), nil
				}
				return io.NopCloser(strings.NewReader(test.text)), nil
			})
			switch {
			case test.fails == "" && (err != nil || string(d.Text) != test.text):
				t.Errorf("error %v, text of %d bytes", err, len(d.Text))
			case test.fails != "" && (err == nil || err.Error() != test.fails || d.Text != nil):
				t.Errorf("error %v, want %s", err, test.fails)
			}
		})
	}
	closed := errors.New("closed")
	d := Document{Name: "file:a"}
	if err := d.Read(t.Context(), func(context.Context, string) (io.ReadCloser, error) { return nil, closed }); err != closed {
		t.Errorf("error %v, want that of the opener", err)
	}
}

// TestLayerPath: a document from the network names no file of this machine.
func TestLayerPath(t *testing.T) {
	for name, test := range map[string]struct {
		document, location string
		path               string // empty: not a file
		fails              string
	}{
		"relative":  {"file:/etc/recipes/a.json", "file:layers/l.tar.gz", "/etc/recipes/layers/l.tar.gz", ""},
		"absolute":  {"file:a.json", "file:/srv/l.tar.gz", "/srv/l.tar.gz", ""},
		"a URL":     {"file:a.json", "https://h/l.tar.gz", "", ""},
		"the other": {"https://h/a.json", "file:/etc/passwd", "", "only a document that is a file itself may do"},
		"nearly":    {"https://h/a.json?file:", "file:passwd", "", "only a document that is a file itself may do"},
	} {
		t.Run(name, func(t *testing.T) {
			path, ok, err := Document{Name: test.document}.LayerPath(Layer{Location: test.location})
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) || path != "" {
					t.Errorf("path %q, error %v, want %s", path, err, test.fails)
				}
				return
			}
			if err != nil || path != test.path || ok != (test.path != "") {
				t.Errorf("path %q, %v, error %v, want %q", path, ok, err, test.path)
			}
		})
	}
}
