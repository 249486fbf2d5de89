package augment

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// envOf returns the environment of a config after a recipe, one variable a line.
func envOf(t *testing.T, config string, r Recipe) (string, error) {
	t.Helper()
	if err := r.Validate(); err != nil {
		return "", err
	}
	m, err := parseMembers([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	if err := rewriteRuntime(&m, r, false); err != nil {
		return "", err
	}
	var is struct {
		Config struct{ Env []string } `json:"config"`
	}
	if err := json.Unmarshal(m.encode(), &is); err != nil {
		t.Fatal(err)
	}
	env := slices.DeleteFunc(is.Config.Env, func(e string) bool { return strings.HasPrefix(e, entryChain+"=") })
	return strings.Join(env, "\n"), nil
}

// config returns an image config with an environment.
func configWith(os string, env ...string) string {
	return string(encodeJSON(map[string]any{"os": os, "config": map[string]any{"Env": env}}))
}

// TestExtendEnv: values are made of the image's, and nothing else is changed.
func TestExtendEnv(t *testing.T) {
	long := strings.Repeat("/d:", 20000)
	for name, test := range map[string]struct {
		os   string
		base []string
		r    Recipe
		want []string
	}{
		"before":            {"linux", []string{"PATH=/bin", "A=1"}, Recipe{ExtendEnv: []string{"PATH=/opt/x:${PATH}"}}, []string{"PATH=/opt/x:/bin", "A=1"}},
		"after":             {"linux", []string{"GOPATH=/go"}, Recipe{ExtendEnv: []string{"GOPATH=${GOPATH}:/more"}}, []string{"GOPATH=/go:/more"}},
		"both sides":        {"linux", []string{"JAVA_OPTS=-Xmx1g"}, Recipe{ExtendEnv: []string{"JAVA_OPTS=-Da ${JAVA_OPTS} -Db"}}, []string{"JAVA_OPTS=-Da -Xmx1g -Db"}},
		"another variable":  {"linux", []string{"HOME=/root"}, Recipe{ExtendEnv: []string{"CACHE=${HOME}/.cache"}}, []string{"HOME=/root", "CACHE=/root/.cache"}},
		"twice":             {"linux", []string{"X=a$b"}, Recipe{ExtendEnv: []string{"X=${X}${X}"}}, []string{"X=a$ba$b"}},
		"dollars":           {"linux", nil, Recipe{ExtendEnv: []string{"P=$$HOME $$$${A}$$"}}, []string{"P=$HOME $${A}$"}},
		"braces":            {"linux", nil, Recipe{ExtendEnv: []string{"P={A}$${PATH}}"}}, []string{"P={A}${PATH}}"}},
		"values stay":       {"linux", []string{"A=${B}", "B=$$"}, Recipe{ExtendEnv: []string{"C=${A}${B}"}}, []string{"A=${B}", "B=$$", "C=${B}$$"}},
		"literal env":       {"linux", nil, Recipe{Env: []string{"A=${B}", "P=/x:$PATH"}}, []string{"A=${B}", "P=/x:$PATH"}},
		"env comes first":   {"linux", []string{"T=/old", "PATH=/bin"}, Recipe{Env: []string{"T=/opt"}, ExtendEnv: []string{"PATH=${T}/bin:${PATH}"}}, []string{"T=/opt", "PATH=/opt/bin:/bin"}},
		"same in env":       {"linux", []string{"PATH=/bin"}, Recipe{Env: []string{"PATH=/fusion"}, ExtendEnv: []string{"PATH=/opt:${PATH}"}}, []string{"PATH=/opt:/fusion"}},
		"last of equals":    {"linux", []string{"A=1", "A=2"}, Recipe{ExtendEnv: []string{"A=${A}3"}}, []string{"A=23"}},
		"not a variable":    {"linux", []string{"A"}, Recipe{ExtendEnv: []string{"B=${A}."}}, []string{"A", "B=."}},
		"equals signs":      {"linux", []string{"A=x=y"}, Recipe{ExtendEnv: []string{"B=${A}=z"}}, []string{"A=x=y", "B=x=y=z"}},
		"no PATH":           {"linux", nil, Recipe{ExtendEnv: []string{"PATH=/opt/x:${PATH}"}}, []string{"PATH=/opt/x:" + defaultPath}},
		"no PATH elsewhere": {"linux", nil, Recipe{ExtendEnv: []string{"X=${PATH}"}}, []string{"X=" + defaultPath}},
		"empty PATH":        {"linux", []string{"PATH="}, Recipe{ExtendEnv: []string{"PATH=/opt/x:${PATH}"}}, []string{"PATH=/opt/x"}},
		"absent, last":      {"linux", nil, Recipe{ExtendEnv: []string{"LD_LIBRARY_PATH=/opt/lib:${LD_LIBRARY_PATH}"}}, []string{"LD_LIBRARY_PATH=/opt/lib"}},
		"absent, first":     {"linux", nil, Recipe{ExtendEnv: []string{"PYTHONPATH=${PYTHONPATH}:/opt/py"}}, []string{"PYTHONPATH=/opt/py"}},
		"absent, between":   {"linux", nil, Recipe{ExtendEnv: []string{"L=/a:${M}:/b"}}, []string{"L=/a:/b"}},
		"absent, alone":     {"linux", nil, Recipe{ExtendEnv: []string{"L=${M}"}}, []string{"L="}},
		"absent, all":       {"linux", nil, Recipe{ExtendEnv: []string{"L=${M}:${N}:${O}"}}, []string{"L="}},
		"absent, two first": {"linux", nil, Recipe{ExtendEnv: []string{"L=${M}:${N}:/c"}}, []string{"L=/c"}},
		"absent, two ends":  {"linux", nil, Recipe{ExtendEnv: []string{"L=${M}:/c:${N}"}}, []string{"L=/c"}},
		"absent, two last":  {"linux", nil, Recipe{ExtendEnv: []string{"L=/c:${M}:${N}"}}, []string{"L=/c"}},
		"absent, two in":    {"linux", nil, Recipe{ExtendEnv: []string{"L=/c:${M}:${N}:/d"}}, []string{"L=/c:/d"}},
		"absent, joined":    {"linux", nil, Recipe{ExtendEnv: []string{"L=${M}${N}:/c"}}, []string{"L=/c"}},
		"absent, in a word": {"linux", nil, Recipe{ExtendEnv: []string{"L=/a${M}:/b/${M}:${M}c"}}, []string{"L=/a:/b/:c"}},
		"absent, a suffix":  {"linux", []string{"A=/a"}, Recipe{ExtendEnv: []string{"L=${A}${M}:/b"}}, []string{"A=/a", "L=/a:/b"}},
		"own colons":        {"linux", []string{"A=/a:"}, Recipe{ExtendEnv: []string{"L=:${A}:"}}, []string{"A=/a:", "L=:/a::"}},
		"own last colon":    {"linux", []string{"A=/a:"}, Recipe{ExtendEnv: []string{"L=${A}${M}"}}, []string{"A=/a:", "L=/a:"}},
		"a long value":      {"linux", []string{"L=" + long}, Recipe{ExtendEnv: []string{"L=${L}e"}}, []string{"L=" + long + "e"}},
		"cases":             {"linux", []string{"Path=/a"}, Recipe{ExtendEnv: []string{"PATH=/b:${Path}"}}, []string{"Path=/a", "PATH=/b:/a"}},
		"Windows":           {"windows", []string{`Path=C:\a`, "B=1"}, Recipe{ExtendEnv: []string{`PATH=C:\b;${PATH}`}}, []string{`PATH=C:\b;C:\a`, "B=1"}},
		"Windows' case":     {"windows", []string{"Temp=T"}, Recipe{ExtendEnv: []string{"x=${TEMP}${temp}"}}, []string{"Temp=T", "x=TT"}},
		"Windows, no Path":  {"windows", nil, Recipe{ExtendEnv: []string{`Path=C:\b;${path}`}}, []string{`Path=C:\b;` + windowsPath}},
		"Windows, absent":   {"windows", nil, Recipe{ExtendEnv: []string{`L=C:\b;${M}`}}, []string{`L=C:\b`}},
		"below": {"linux", []string{"PATH=/bin"}, Recipe{ExtendEnv: []string{"PATH=/b:${PATH}"}, Below: &Recipe{ExtendEnv: []string{"PATH=/a:${PATH}", "X=${HOME}"}}},
			[]string{"PATH=/b:/a:/bin", "X="}},
		"chain of our own": {"linux", []string{entryChain + "=/e"}, Recipe{ExtendEnv: []string{"X=${" + entryChain + "}"}}, []string{"X=/e"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := envOf(t, configWith(test.os, test.base...), test.r)
			if diff := cmp.Diff(strings.Join(test.want, "\n"), got); diff != "" || err != nil {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestExtendEnvRefused: what is not understood is refused with the right spelling, and
// without the value.
func TestExtendEnvRefused(t *testing.T) {
	for name, test := range map[string]struct {
		entries []string
		says    string
	}{
		"bare name":     {[]string{"P=/x:$PATH"}, "extendEnv[0]: P: the dollar at byte 4 has neither braces nor a dollar after it: write ${NAME}"},
		"in a password": {[]string{"A=1", "P=secret$!"}, "extendEnv[1]: P: the dollar at byte 7 has neither"},
		"at the end":    {[]string{"P=secret$"}, "byte 7 has neither"},
		"odd dollars":   {[]string{"P=$$$"}, "byte 3 has neither"},
		"default":       {[]string{"P=${A:-secret}"}, "byte 1 has no name alone in braces after it: write ${NAME}"},
		"dash":          {[]string{"P=${A-secret}"}, "no name alone in braces"},
		"alternative":   {[]string{"P=x${A:+secret}"}, "byte 2 has no name alone"},
		"nested":        {[]string{"P=${A${B}}"}, "no name alone in braces"},
		"open":          {[]string{"P=${A"}, "no name alone in braces"},
		"empty":         {[]string{"P=${}"}, "no name alone in braces"},
		"a space":       {[]string{"P=${ A }"}, "no name alone in braces"},
		"a digit":       {[]string{"P=${1}"}, "no name alone in braces"},
		"Kubernetes":    {[]string{"P=$(A)"}, "neither braces nor a dollar"},
		"backslash":     {[]string{`P=\${A}`}, "byte 2 has a backslash before it: write"},
		"each other":    {[]string{"T=/opt", "P=${T}/bin"}, "extendEnv[1]: P refers to T, which extendEnv[0] sets"},
		"later":         {[]string{"P=${T}/bin", "T=/opt"}, "extendEnv[0]: P refers to T, which extendEnv[1] sets"},
		"two values":    {[]string{"P=/a:${P}", "Q=", "P=/b:${P}"}, "extendEnv[2]: P is also set by extendEnv[0]"},
		"no key":        {[]string{"=${A}"}, "extendEnv[0]: want KEY=VALUE"},
		"no value":      {[]string{"secret"}, "extendEnv[0]: want KEY=VALUE"},
		"NUL":           {[]string{"A=\x00"}, "extendEnv[0] contains a NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Recipe{ExtendEnv: test.entries}.Validate()
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %s", err, test.says)
			}
			if err := (Recipe{Below: &Recipe{ExtendEnv: test.entries}}).Validate(); err == nil {
				t.Error("below another recipe it is taken")
			}
		})
	}
}

// TestExtendEnvBounds: references cannot make much of little.
func TestExtendEnvBounds(t *testing.T) {
	refs := func(n int) string { return strings.Repeat("${X}", n) }
	kib := "X=" + strings.Repeat("x", 1<<10)
	var many []string
	for _, key := range strings.Fields("A B C D E") {
		many = append(many, key+"="+refs(64))
	}
	deep := Recipe{ExtendEnv: []string{"X=" + refs(4)}}
	for range maxBelow - 1 {
		below := deep
		deep = Recipe{ExtendEnv: deep.ExtendEnv, Below: &below}
	}
	for name, test := range map[string]struct {
		r    Recipe
		says string
	}{
		"one":      {Recipe{ExtendEnv: []string{"A=" + refs(128)}}, "the variable A would have more than 131071 bytes"},
		"the rest": {Recipe{ExtendEnv: []string{"A=" + refs(127) + strings.Repeat("y", 1<<10-2)}}, "the variable A would have more"},
		"together": {Recipe{ExtendEnv: many}, "have more than 262144 bytes together"},
		"deep":     {deep, "the variable X would have more"},
	} {
		if _, err := envOf(t, configWith("linux", kib), test.r); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, want %s", name, err, test.says)
		}
	}
	for name, r := range map[string]Recipe{
		"one":      {ExtendEnv: []string{"A=" + refs(127) + strings.Repeat("y", 1<<10-3)}},
		"together": {ExtendEnv: many[:3]},
	} {
		if _, err := envOf(t, configWith("linux", kib), r); err != nil {
			t.Errorf("%s within bounds: %v", name, err)
		}
	}
}

// TestExtendEnvIsIdentity: recipes that differ in it are different, also those that
// differ in nothing but where a variable is.
func TestExtendEnvIsIdentity(t *testing.T) {
	literal, extended := Recipe{Env: []string{"P=/x:${P}"}}, Recipe{ExtendEnv: []string{"P=/x:${P}"}}
	data, err := json.Marshal(literal)
	if err != nil || string(data) != `{"env":["P=/x:${P}"]}` {
		t.Errorf("the JSON of a literal environment is %s, %v", data, err)
	}
	if literal.Equal(extended) || extended.IsZero() || !(Recipe{}).IsZero() {
		t.Error("opting in is not seen")
	}
	if got := extended.Upon(extended); !got.Equal(extended) {
		t.Errorf("a recipe upon itself is %+v", got)
	}
	if got := extended.Upon(literal); got.Below == nil || len(got.Flat().ExtendEnv) != 1 || len(got.Flat().Env) != 1 {
		t.Errorf("upon a literal one it is %+v", got)
	}
}
