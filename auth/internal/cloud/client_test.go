package cloud

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// TestMetadataIsDirect: services of the machine itself are never asked through a proxy,
// which would tell who the proxy's machine is.
func TestMetadataIsDirect(t *testing.T) {
	proxy := &url.URL{Scheme: "http", Host: "proxy:3128"}
	through := Transport(func(*http.Request) (*url.URL, error) { return proxy, nil })
	t.Setenv("HTTPS_PROXY", proxy.String())
	t.Setenv("HTTP_PROXY", proxy.String())
	for host, direct := range map[string]bool{
		"169.254.169.254": true, "169.254.170.2": true, "[fd00:ec2::254]": true, "metadata.google.internal": true, "[fe80::1]": true,
		"sts.amazonaws.com": false, "oauth2.googleapis.com": false, "8.8.8.8": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "http://"+host+"/latest", nil)
		if got, err := through.Proxy(r); err != nil || (got == nil) != direct {
			t.Errorf("%s: %v, %v", host, got, err)
		}
		if got, err := Transport(nil).Proxy(r); err != nil || got != nil {
			t.Errorf("%s: a proxy of the environment is used: %v, %v", host, got, err)
		}
	}
}
