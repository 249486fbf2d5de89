package upstream

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// challenge is one scheme of Www-Authenticate with its parameters, by their names in
// lower case.
type challenge struct {
	scheme string // in lower case
	params map[string]string
}

// maxChallenges bounds the challenges that are looked at. Each takes a hundred times its
// shortest form.
const maxChallenges = 32

// challenges returns all challenges of a header (RFC 9110, section 11.6.1): several may be
// in one line and one may have several parameters, both after commas. It is lenient:
// what it cannot read is left out.
func challenges(lines []string) (all []challenge) {
	for _, line := range lines {
		for _, item := range splitUnquoted(line) {
			name, rest := tokenOf(item)
			if rest = strings.TrimLeft(rest, " \t"); name != "" && !strings.HasPrefix(rest, "=") {
				if len(all) == maxChallenges {
					return all
				}
				all = append(all, challenge{strings.ToLower(name), map[string]string{}})
				item = rest
			}
			if len(all) > 0 {
				addParams(all[len(all)-1].params, item)
			}
		}
	}
	return all
}

// addParams adds parameters, most often one. Some registries forget the commas. The
// first one of a name counts.
func addParams(params map[string]string, text string) {
	for {
		name, rest := tokenOf(strings.TrimLeft(text, " \t"))
		rest = strings.TrimLeft(rest, " \t")
		if name == "" || !strings.HasPrefix(rest, "=") || strings.HasPrefix(rest, "==") { // the end of a token68
			return
		}
		value, rest := valueOf(strings.TrimLeft(rest[1:], " \t"))
		name = strings.ToLower(name)
		if _, twice := params[name]; !twice && value != "" {
			params[name] = value
		}
		text = rest
	}
}

// valueOf reads a token or a quoted string, which may lack its end.
func valueOf(text string) (value, rest string) {
	if !strings.HasPrefix(text, `"`) { // some registries leave a URL unquoted
		if i := strings.IndexAny(text, " \t"); i >= 0 {
			return text[:i], text[i:]
		}
		return text, ""
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return b.String(), text[i+1:]
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String(), ""
}

// tokenOf reads up to the next character that ends the name of a scheme or parameter.
func tokenOf(text string) (token, rest string) {
	i := strings.IndexAny(text, " \t,=\"")
	if i < 0 {
		return text, ""
	}
	return text[:i], text[i:]
}

// splitUnquoted splits at the commas that are not in quoted strings.
func splitUnquoted(line string) (items []string) {
	begin, quoted := 0, false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && quoted:
			i++
		case line[i] == '"':
			quoted = !quoted
		case line[i] == ',' && !quoted:
			items = append(items, strings.TrimSpace(line[begin:i]))
			begin = i + 1
		}
	}
	return append(items, strings.TrimSpace(line[min(begin, len(line)):]))
}

// choose leaves one challenge in the header of a registry's 401, in the form that oras
// reads: it looks at the first one only. Bearer goes before Basic, because with a token
// the password goes to the token service alone; Basic is what is left when Bearer failed.
// Schemes that containers' registries do not have are passed over. A header without a
// usable challenge stays as it is.
func (c *call) choose(h http.Header) {
	var bearer, basic *challenge
	for _, found := range challenges(h.Values("Www-Authenticate")) {
		switch {
		case found.scheme == "basic" && basic == nil:
			basic = &found
		case found.scheme == "bearer" && (bearer == nil || !hasRealm(*bearer) && hasRealm(found)):
			bearer = &found
		}
	}
	switch {
	case basic != nil && (bearer == nil || c.basic || !hasRealm(*bearer)):
		h.Set("Www-Authenticate", "Basic")
	case bearer != nil:
		c.fallback = basic != nil
		h.Set("Www-Authenticate", bearer.bearer())
	}
}

// hasRealm reports whether a Bearer challenge says where to log in.
func hasRealm(c challenge) bool {
	u, err := url.Parse(c.params["realm"])
	return err == nil && isPlain(u)
}

// bearer returns a Bearer challenge as oras reads it, which unquotes as Go does.
func (c challenge) bearer() string {
	var params []string
	for _, name := range []string{"realm", "service", "scope"} {
		if value, ok := c.params[name]; ok {
			params = append(params, name+"="+strconv.Quote(value))
		}
	}
	return strings.TrimSpace("Bearer " + strings.Join(params, ","))
}
