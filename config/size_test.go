package config

import "testing"

func TestSize(t *testing.T) {
	tests := []struct {
		text string
		want Size // -1: refused
		back string
	}{
		{"0", 0, "0"}, {"4096", 4096, "4096"}, {"1000", 1000, "1KB"}, {"7B", 7, "7"}, {"1025", 1025, "1025"},
		{"10kB", 10e3, "10KB"}, {"10KB", 10e3, "10KB"}, {"10MB", 10e6, "10MB"}, {"2GB", 2e9, "2GB"}, {"1TB", 1e12, "1TB"},
		{"32MiB", 32 << 20, "32MiB"}, {"2 GiB", 2 << 30, "2GiB"}, {"1024MiB", 1 << 30, "1GiB"}, {"8388607TiB", 8388607 << 40, "8388607TiB"},
		{"", -1, ""}, {"MiB", -1, ""}, {"32M", -1, ""}, {"32mb", -1, ""}, {"1.5GiB", -1, ""}, {"8388608TiB", -1, ""}, {"99999999999999999999", -1, ""},
	}
	for _, test := range tests {
		var got Size
		err := got.UnmarshalText([]byte(test.text))
		switch {
		case test.want < 0:
			if err == nil {
				t.Errorf("%q: %d, want an error", test.text, got)
			}
		case err != nil || got != test.want || got.String() != test.back:
			t.Errorf("%q: %d (%s), %v, want %d (%s)", test.text, got, got, err, test.want, test.back)
		}
	}
}
