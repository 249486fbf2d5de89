package api

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
)

const container = "/v1alpha2/container"

// TestSubmitShape: the answer has the members that Nextflow and the wave CLI
// read.
func TestSubmitShape(t *testing.T) {
	for _, path := range []string{container, "/container-token"} {
		_, h := newAPI()
		checkJSON(t, call(h, "POST", path, `{"containerImage": "ubuntu", "ttl": "1h"}`), fmt.Sprintf(`{
			"requestId": %[1]q, "containerToken": %[1]q, "succeeded": true, "freeze": false, "mirror": false,
			"targetImage": "proxy.test:9090/wt/%[1]s/library/ubuntu:latest",
			"expiration": "2026-01-03T16:00:00Z", "containerImage": "docker.io/library/ubuntu:latest",
			"sourceDigest": %[2]q, "targetDigest": %[3]q}`, string(token), digest.FromString("base"), digest.FromString("root")))
	}
}

// TestFixtures replays captured requests of the real clients.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	type want struct {
		status   int
		says     string // of an error
		platform string
		layers   int
		recipe   augment.Recipe // without layers
	}
	wants := map[string]want{
		"nextflow-plain":          {platform: "linux/amd64"},
		"nextflow-platform-arm64": {platform: "linux/arm64"},
		"nextflow-bundle":         {platform: "linux/amd64", layers: 2},
		"nextflow-fusion":         {status: 400, says: `containerConfig.layers[2].gzipDigest "sha256:1"`}, // as it was sent
		"nextflow-conda":          {status: 501, says: "conda (packages; a process's conda directive"},
		"nextflow-freeze":         {status: 501, says: "freeze (wave.freeze, wave --freeze): "},
		"wavecli-containerfile":   {status: 501, says: "a Dockerfile (containerFile; "},
		"wavecli-image":           {},
		"wavecli-layer":           {layers: 1},
		"wavecli-config": {platform: "linux/arm64", recipe: augment.Recipe{
			Entrypoint: []string{"/e"}, Cmd: []string{"sh -c x"}, Env: []string{"A=b", "C=d e"}, WorkingDir: "/w"}},
		"wavecli-inspect": {}, // is a valid submission, too
	}
	if len(files) != len(wants) {
		t.Errorf("%d files, %d expectations", len(files), len(wants))
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			f, h := newAPI()
			want := wants[name]
			w := call(h, "POST", container, string(body), "Content-Type", "application/json", "Authorization", "Bearer x")
			if want.status != 0 {
				checkError(t, w, want.status, want.says)
				if len(f.calls) != 0 {
					t.Errorf("the request went on after it was refused: %q", f.calls)
				}
				return
			}
			if w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			req := f.resolved[0]
			if got := platforms(req); got != want.platform || len(req.Recipe.Layers) != want.layers {
				t.Errorf("platforms %q, %d layers; want %q, %d", got, len(req.Recipe.Layers), want.platform, want.layers)
			}
			for i, data := range f.inline {
				if got := digest.FromBytes(data); got != req.Recipe.Layers[i].Digest || int64(len(data)) != req.Recipe.Layers[i].Size {
					t.Errorf("layer %d has %d bytes, %s; want %+v", i, len(data), got, req.Recipe.Layers[i])
				}
			}
			req.Recipe.Layers = nil
			if diff := cmp.Diff(want.recipe, req.Recipe); diff != "" {
				t.Errorf("recipe (-want +got):\n%s", diff)
			}
		})
	}
}

func platforms(req assemble.ImageRequest) string {
	var list []string
	for _, p := range req.Platforms {
		list = append(list, augment.FormatPlatform(p))
	}
	return strings.Join(list, " ")
}

// TestSubmitAccepts: nulls, empty objects, numbers as strings and unknown members
// are accepted, because clients send them.
func TestSubmitAccepts(t *testing.T) {
	for name, test := range map[string]struct {
		body      string
		platforms string
		layers    int
	}{
		"all null":        {`{"containerImage":"a","containerConfig":{"entrypoint":null,"cmd":null,"env":null,"workingDir":null,"layers":null},"packages":null,"containerFile":null,"scanMode":null}`, "", 0},
		"config null":     {`{"containerImage":"a","containerConfig":null,"containerPlatform":null}`, "", 0},
		"config empty":    {`{"containerImage":"a","containerConfig":{"entrypoint":[],"env":[],"layers":[]},"containerIncludes":[]}`, "", 0},
		"null elsewhere":  {`{"containerImage":"a","containerIncludes":null,"dryRun":null,"freeze":null,"towerWorkspaceId":null,"scanLevels":null,"buildCompression":null,"buildContext":null,"ttl":null}`, "", 0},
		"unknown members": {`{"containerImage":"a","spackFile":"x","future":{"a":[1]},"towerWorkspaceId":"42","timestamp":"2026-11-23T08:02Z"}`, "", 0},
		"harmless":        {`{"containerImage":"a","scanMode":"async","scanLevels":["LOW"],"nameStrategy":"none","buildRepository":"r","cacheRepository":"c","dryRun":true,"buildCompression":{"mode":"zstd"},"buildTemplate":"t"}`, "", 0},
		"size as string":  {`{"containerImage":"a","containerConfig":{"layers":[{"location":"data:AAAA","gzipSize":"3","skipHashing":null}]}}`, "", 1},
		"platform lists":  {`{"containerImage":"a","containerPlatform":"x86_64,arm64v8, linux/arm/v7"}`, "linux/amd64 linux/arm64 linux/arm/v7", 0},
		"zlib":            {`{"containerImage":"a","containerConfig":{"layers":[{"location":"gzip:eJwrSKzMyU9MAQAL3QLr"}]}}`, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f, h := newAPI()
			if w := call(h, "POST", container, test.body, "Content-Type", "application/json; charset=utf-8"); w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			req := f.resolved[0]
			if got := platforms(req); got != test.platforms || len(req.Recipe.Layers) != test.layers {
				t.Errorf("platforms %q, %d layers; want %q, %d", got, len(req.Recipe.Layers), test.platforms, test.layers)
			}
			if test.layers == 0 && !req.Recipe.IsZero() {
				t.Errorf("recipe %+v, want none", req.Recipe)
			}
			if name == "zlib" && string(f.inline[0]) != "payload" {
				t.Errorf("layer %q, want the zlib stream's content", f.inline[0])
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	layer := func(members string) string {
		return `{"containerImage":"a","containerConfig":{"layers":[{"location":"data:AAAA"},{` + members + `}]}}`
	}
	for name, test := range map[string]struct {
		body   string
		status int
		says   string
		header []string
	}{
		"form":              {"a=b", 415, "application/json", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		"too large":         {strings.Repeat(" ", 1<<20+1), 413, "api.max_body", nil},
		"array":             {`[]`, 400, "object", nil},
		"empty":             {``, 400, "JSON", nil},
		"scan mode":         {`{"containerImage":"a","scanMode":"REQUIRED"}`, 400, "want none, async, required", nil},
		"scan level":        {`{"containerImage":"a","scanLevels":["LOW","low"]}`, 400, "want LOW, MEDIUM, HIGH, CRITICAL", nil},
		"name strategy":     {`{"containerImage":"a","nameStrategy":"tagprefix"}`, 400, "want none, tagPrefix, imageSuffix", nil},
		"compression":       {`{"containerImage":"a","buildCompression":{"mode":"xz"}}`, 400, "want gzip, estargz, zstd", nil},
		"format of images":  {`{"containerImage":"a","freeze":true,"format":"oci"}`, 400, "want sif", nil},
		"cran":              {`{"packages":{"type":"CRAN","entries":["dplyr"]}}`, 501, "cran (packages; wave --cran-package)", nil},
		"no image":          {`{}`, 400, "containerImage is missing", nil},
		"bad image":         {`{"containerImage":"docker://a"}`, 400, "containerImage", nil},
		"boolean as string": {`{"containerImage":"a","freeze":"no"}`, 400, "freeze", nil},
		"workspace":         {`{"containerImage":"a","towerWorkspaceId":"hunter2"}`, 400, "towerWorkspaceId: a JSON value does not belong there, want a number", nil},
		"packages":          {`{"packages":{"type":"CONDA"}}`, 501, "packages", nil},
		"conda file":        {`{"containerImage":"a","condaFile":"x"}`, 501, "condaFile", nil},
		"mirror":            {`{"containerImage":"a","mirror":true}`, 501, "mirror", nil},
		"sif":               {`{"containerImage":"a","format":"sif"}`, 501, "sif", nil},
		"scan":              {`{"containerImage":"a","scanMode":"required"}`, 501, "scan", nil},
		"too many includes": {`{"containerImage":"a","containerIncludes":["b"` + strings.Repeat(`,"b"`, 10) + `]}`, 400, "11 images, and at most 10", nil},
		"bad include":       {`{"containerImage":"a","containerIncludes":["B"]}`, 400, `containerIncludes[0] (wave --include) "B"`, nil},
		"empty include":     {`{"containerImage":"a","containerIncludes":[""]}`, 400, "containerIncludes", nil},
		"platform":          {`{"containerImage":"a","containerPlatform":"a b"}`, 400, "a b", nil},
		"environment":       {`{"containerImage":"a","containerConfig":{"env":["x"]}}`, 400, "containerConfig (wave --config-env): env[0]: want KEY=VALUE", nil},
		"directory":         {`{"containerImage":"a","containerConfig":{"workingDir":"x"}}`, 400, "containerConfig (wave --config-working-dir): working directory", nil},
		"command":           {`{"containerImage":"a","containerConfig":{"cmd":["a","b\u0000"]}}`, 400, "containerConfig (wave --config-cmd): cmd[1]", nil},
		"ttl":               {`{"containerImage":"a","ttl":"soon"}`, 400, "12h", nil},
		"long ttl":          {`{"containerImage":"a","ttl":"37h"}`, 400, "too long", nil},
		"too long a name":   {`{"containerImage":"` + strings.Repeat("a/", 110) + `a"}`, 400, "255", nil},
		"negative size":     {layer(`"location":"data:AAAA","gzipSize":-1`), 400, "gzipSize", nil},
		"size":              {layer(`"location":"data:AAAA","gzipSize":"1 KB"`), 400, "gzipSize", nil},
		"size on lines":     {layer("\"location\":\"data:AAAA\",\"gzipSize\":{\r\n}"), 400, "gzipSize { }", nil},
		"digest":            {layer(`"location":"data:AAAA","tarDigest":"sha512:00"`), 400, "containerConfig.layers[1].tarDigest", nil},
		"location":          {layer(`"location":"ftp://host/layer"`), 400, "containerConfig.layers[1].location", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, h := newAPI()
			w := call(h, "POST", container, test.body, test.header...)
			checkError(t, w, test.status, test.says)
			if strings.Contains(w.Body.String(), "hunter2") {
				t.Error("the message quotes a value that may be a secret")
			}
			if len(f.calls) != 0 {
				t.Errorf("the request went on after it was refused: %q", f.calls)
			}
		})
	}
}

// TestOrder gives every request one more fault, later in the order that the
// package comment promises, and expects the first one to be named.
func TestOrder(t *testing.T) {
	faults := []struct{ member, says string }{
		{`"freeze":true`, "freeze"},
		{`"containerImage":"A"`, "containerImage"},
		{`"containerIncludes":["B"]`, "containerIncludes"},
		{`"containerPlatform":"/"`, "platform"},
		{`"containerConfig":{"env":["x"],"layers":[{"location":"ftp:"}]}`, "KEY=VALUE"},
		{`"containerConfig":{"layers":[{"location":"ftp:"}]}`, "location"},
		{`"ttl":"soon"`, "ttl"},
		{`"containerConfig":{"layers":[{"location":"data:!"}]}`, "base64"},
	}
	for i := range faults {
		members := []string{`"containerImage":"a"`}
		seen := map[string]bool{}
		for _, f := range faults[i:] {
			if name, _, _ := strings.Cut(f.member, ":"); !seen[name] {
				seen[name] = true
				members = append(members, f.member)
			}
		}
		_, h := newAPI()
		if w := call(h, "POST", container, "{"+strings.Join(members, ",")+"}"); !strings.Contains(w.Body.String(), faults[i].says) {
			t.Errorf("%s: %s, want %s", members, w.Body, faults[i].says)
		}
	}
}

// TestWork checks the order of the slow steps: the layers in the request's order,
// then the layers of the included images, then the base image.
func TestWork(t *testing.T) {
	f, h := newAPI()
	blob := "docker://quay.io/v2/org/tool/blobs/" + digest.FromString("blob").String()
	w := call(h, "POST", container, `{"containerImage":"a:1","containerPlatform":"arm64","containerIncludes":["b","quay.io/c/d:2"],
		"containerConfig":{"layers":[{"location":"https://host/l.tar.gz"},{"location":"data:AAAA"},{"location":"`+blob+`"}]},"towerAccessToken":"tok"}`)
	if w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	const identity = "platform:1a7674eb4ee78df7" // sha256 of tok
	want := []string{
		"remote https://host/l.tar.gz", "inline", "image " + identity + " " + blob,
		"include " + identity + " docker.io/library/b linux/arm64", "include " + identity + " quay.io/c/d:2 linux/arm64",
		"resolve " + identity + " docker.io/library/a:1", "mint",
	}
	if diff := cmp.Diff(want, f.calls); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	layers := f.resolved[0].Recipe.Layers
	if len(layers) != 5 || layers[3].Digest != digest.FromString("docker.io/library/b") {
		t.Errorf("layers %+v", layers)
	}
}

// TestIdentity: a caller's name is derived from its token. The body's token comes
// first.
func TestIdentity(t *testing.T) {
	for _, test := range []struct{ body, authorization, want string }{
		{"", "", ""},
		{"tok", "", "platform:1a7674eb4ee78df7"},
		{"", "Bearer tok", "platform:1a7674eb4ee78df7"},
		{"", "bearer tok", "platform:1a7674eb4ee78df7"},
		{"tok", "Bearer other", "platform:1a7674eb4ee78df7"},
		{"", "Bearer ", ""},
		{"", "Basic dG9rOnRvaw==", ""},
		{"other", "", "platform:d9298a10d1b07358"},
	} {
		f, h := newAPI()
		w := call(h, "POST", container, `{"containerImage":"a","towerAccessToken":"`+test.body+`"}`, "Authorization", test.authorization)
		if w.Code != http.StatusOK || f.resolved[0].Identity != test.want {
			t.Errorf("%+v: status %d, identity %q", test, w.Code, f.resolved[0].Identity)
		}
	}
}
