package augment

import (
	"strings"
	"testing"
)

// TestWorkingDirOfWindows: an absolute path of Windows is one for images of Windows alone.
func TestWorkingDirOfWindows(t *testing.T) {
	for dir, ok := range map[string]bool{`C:\data`: true, `d:/x y`: true, `Z:\`: true, "/data": true, "data": false, `C:`: false, `C:data`: false, `\data`: false, `CC:\data`: false} {
		if err := (Recipe{WorkingDir: dir}).Validate(); (err == nil) != ok {
			t.Errorf("%s: %v", dir, err)
		}
	}
	for _, test := range []struct{ config, dir, says string }{
		{`{"os":"windows","config":{}}`, `C:\data`, ""},
		{`{"os":"windows"}`, "/data", ""},
		{`{"os":"linux","config":{}}`, "/data", ""},
		{`{"os":"linux","config":{}}`, `C:\data`, "is for Windows, and the image is for linux"},
		{`{"config":{}}`, `D:/x`, "is for Windows, and the image is for linux"},
		{`{"os":"freebsd"}`, `C:\data`, "is for Windows, and the image is for freebsd"},
	} {
		m, err := parseMembers([]byte(test.config))
		if err != nil {
			t.Fatal(err)
		}
		err = rewriteRuntime(&m, Recipe{WorkingDir: test.dir}, false)
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s with %s: %v", test.config, test.dir, err)
		}
	}
}
