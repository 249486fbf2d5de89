package config

import (
	"embed"
	"fmt"
	"reflect"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/yamlstrict"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// sources have the comments of the keys.
//
//go:embed config.go bucket.go limits.go registries.go proxy.go login.go clouds.go recipes.go api.go
var sources embed.FS

// Schema returns the JSON schema (draft 7) of the configuration file. It describes
// single values; what must hold between them, and of the files they name, Load
// alone checks.
func Schema() (yamlstrict.Schema, error) {
	describe, err := yamlstrict.Comments(sources)
	if err != nil {
		return nil, fmt.Errorf("describe the configuration: %w", err)
	}
	return yamlstrict.Schemas{Describe: describe, Types: textSchemas()}.Of(reflect.TypeFor[Config]()), nil
}

// textSchemas returns the schemas of types that take only some texts. Where "" is
// not set, it is allowed, because "config check" prints it.
func textSchemas() map[reflect.Type]yamlstrict.Schema {
	const base = `https?://[^/?#@]+`
	return map[reflect.Type]yamlstrict.Schema{
		reflect.TypeFor[Level]():          oneOf(levels),
		reflect.TypeFor[LogFormat]():      oneOf(logFormats),
		reflect.TypeFor[APIAuth]():        oneOf(apiAuths),
		reflect.TypeFor[PullAuth]():       oneOf(pullAuths),
		reflect.TypeFor[Delivery]():       oneOf(append([]Delivery{""}, deliveries...)),
		reflect.TypeFor[Addr]():           matching(`^$|:[0-9]{1,5}$`),
		reflect.TypeFor[URL]():            matching(`^$|^` + base + `/?$`),
		reflect.TypeFor[ProxyURL]():       matching(`^$|^direct$|^environment$|^(https?|socks5h?)://[^/?#@]+/?$`),
		reflect.TypeFor[Exception]():      matching(`^[^ ,@/?#]+(/[0-9]{1,3})?$`),
		reflect.TypeFor[Issuer]():         matching(`^$|^` + base),
		reflect.TypeFor[Network]():        matching(`^[0-9a-fA-F:.]+(/[0-9]{1,3})?$`),
		reflect.TypeFor[Platform]():       matching(`^$|^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}$`),
		reflect.TypeFor[Switch]():         {"enum": []any{"", true, false, "true", "false", nil}},
		reflect.TypeFor[Digest]():         matching(`^$|^sha256:[0-9a-f]{64}$`),
		reflect.TypeFor[auth.Pattern]():   matching(`^[^/@?{}\[\]\\ A-Z]+(/[^:@?{}\[\]\\ A-Z]+)?$`),
		reflect.TypeFor[Size]():           number(`^[0-9]+ *([TGMK]iB|[TGMKk]B|B)?$`),
		reflect.TypeFor[ratelimit.Rate](): {"type": []string{"string", "integer", "null"}, "pattern": `^0$|^[1-9][0-9]*/[smhd]$`, "maximum": 0, "minimum": 0},
	}
}

// oneOf has null for a key without a value.
func oneOf[T ~string](words []T) yamlstrict.Schema {
	allowed := []any{}
	for _, w := range words {
		allowed = append(allowed, string(w))
	}
	return yamlstrict.Schema{"enum": append(allowed, nil)}
}

func matching(pattern string) yamlstrict.Schema {
	return yamlstrict.Schema{"type": []string{"string", "null"}, "pattern": pattern}
}

// number is a text that can be a number without a unit.
func number(pattern string) yamlstrict.Schema {
	return yamlstrict.Schema{"type": []string{"string", "integer", "null"}, "pattern": pattern, "minimum": 0}
}
