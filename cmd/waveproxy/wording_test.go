package main

import "testing"

// TestWording: refusals name the options that were typed.
func TestWording(t *testing.T) {
	w := wording{layers: []string{"--layer ./bin:/opt", "--layer https://host/a(1).tar", "container config c.json, layer 1"}}
	for message, want := range map[string]string{
		`containerConfig.layers[0] (wave --layer, a module's resources, a pipeline's bin): layer entry "x" contains ".."`: `--layer ./bin:/opt: layer entry "x" contains ".."`,
		`containerConfig.layers[1] (https://host/a(1).tar): layer is empty`:                                               `--layer https://host/a(1).tar: layer is empty`,
		`containerConfig.layers[0]: as older servers say it`:                                                              `--layer ./bin:/opt: as older servers say it`,
		`containerConfig.layers[2].gzipDigest "sha256:1": want sha256: and 64 hexadecimal digits`:                         `container config c.json, layer 1: gzipDigest "sha256:1": want sha256: and 64 hexadecimal digits`,
		`containerConfig.layers[3]: there is no such layer`:                                                               `containerConfig.layers[3]: there is no such layer`,
		`containerConfig.layers has 1001 layers`:                                                                          `containerConfig.layers has 1001 layers`,
		`containerConfig (wave --config-env): env[0]: want KEY=VALUE`:                                                     `--env: env[0]: want KEY=VALUE`,
		`containerConfig (wave --config-working-dir): working directory "x" is not an absolute path`:                      `--workdir: working directory "x" is not an absolute path`,
		`containerConfig: something else`:                                                                                 `containerConfig: something else`,
		`ttl "soon": want a duration such as 12h`:                                                                         `--ttl "soon": want a duration such as 12h`,
		`docker.io/library/a:1 was not found`:                                                                             `docker.io/library/a:1 was not found`,
	} {
		if got := w.spell(message); got != want {
			t.Errorf("%s\nis %s\nwant %s", message, got, want)
		}
	}
}
