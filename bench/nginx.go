//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// The upstream listens here. It has the namespace to itself.
const (
	plainUpstream   = "http://127.0.0.1:8000"
	countedUpstream = "http://127.0.0.1:8001" // keeps a log of what it sent
	tlsUpstream     = "https://127.0.0.1:8443"
)

// startNginx runs nginx with the servers given. Its workers stay root, so that
// they can read the run's directory.
func (l *lab) startNginx(name, servers string) (*process, error) {
	dir, err := os.MkdirTemp(l.dir, "nginx-")
	if err != nil {
		return nil, err
	}
	var temporary strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "\t%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`user root;
daemon off;
pid %s;
worker_processes auto;
worker_rlimit_nofile %d;
events { worker_connections 4096; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000;
%s%s}
`, filepath.Join(dir, "pid"), files.Max, temporary.String(), servers)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		return nil, err
	}
	return launch(name, filepath.Join(dir, "log"), nil, nginx, "-p", dir, "-e", "stderr", "-c", config)
}

// nginxTLS is the certificate, and the cipher that Go would choose as well.
func (l *lab) nginxTLS() string {
	return fmt.Sprintf(`
		ssl_certificate %s;
		ssl_certificate_key %s;
		ssl_protocols TLSv1.3;
		ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
`, l.certificate, l.key)
}

// startUpstream serves the tree with sendfile, with the parts of a registry's API that
// pulls need.
func (l *lab) startUpstream(ctx context.Context) (*process, error) {
	var locations strings.Builder
	fmt.Fprintf(&locations, `
		default_type application/octet-stream;
		add_header Docker-Distribution-Api-Version registry/2.0;
		location = /v2/ { default_type application/json; return 200 '{}'; }
		location ~ ^/v2/.+/blobs/(sha256:[0-9a-f]+)$ {
			add_header Docker-Content-Digest $1;
			alias %s/$1;
		}
`, l.images.tree)
	manifest := l.images.typical
	file := l.images.path(manifest.Digest)
	if err := os.WriteFile(file, manifest.data, 0o644); err != nil {
		return nil, err
	}
	fmt.Fprintf(&locations, `
		location ~ ^/v2/.+/manifests/(latest|%s)$ {
			default_type %s;
			add_header Docker-Content-Digest %s;
			alias %s;
		}
`, manifest.Digest, manifest.MediaType, manifest.Digest, file)
	if err := os.Truncate(l.upstreamLog, 0); err != nil {
		return nil, err
	}
	p, err := l.startNginx("upstream", fmt.Sprintf(`
	log_format sent '$request_method $uri $status $body_bytes_sent';
	server { listen 127.0.0.1:8000; %[1]s }
	server { listen 127.0.0.1:8001; access_log %[2]s sent; %[1]s }
	server { listen 127.0.0.1:8443 ssl; %[3]s %[1]s }
`, locations.String(), l.upstreamLog, l.nginxTLS()))
	if err != nil {
		return nil, err
	}
	return p, l.ready(ctx, p, plainUpstream)
}

// reverseProxy is an nginx that listens on addr and passes everything on, with
// buffers that let it read as much as Go programs do.
func (l *lab) reverseProxy(in setup, addr, more string) (*process, error) {
	scheme, host, _ := strings.Cut(in.upstream, "://")
	listen, tls := addr, ""
	if in.tls {
		listen += " ssl"
		tls = l.nginxTLS() + fmt.Sprintf(`
		proxy_ssl_protocols TLSv1.3;
		proxy_ssl_verify on;
		proxy_ssl_trusted_certificate %s;
		proxy_ssl_name localhost;
		proxy_ssl_server_name on;
`, l.certificate)
	}
	cache, use, _ := strings.Cut(more, "\n")
	return l.startNginx("nginx", fmt.Sprintf(`
	%s
	upstream registry { server %s; keepalive 512; keepalive_requests 1000000; }
	server {
		listen %s;%s
		location / {
			proxy_pass %s://registry;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_buffer_size 64k;
			proxy_buffers 8 128k;
			proxy_busy_buffers_size 512k;
			proxy_max_temp_file_size 0;
			%s
		}
	}
`, cache, host, listen, tls, scheme, use))
}

// nginxCache is the configuration of a cache: a line for all servers, the rest
// for the location.
func nginxCache(dir string) string {
	return fmt.Sprintf(`proxy_cache_path %s levels=1:2 keys_zone=blobs:10m max_size=20g inactive=24h use_temp_path=off;
			proxy_cache blobs;
			proxy_cache_key $uri;
			proxy_cache_valid 200 24h;
			proxy_cache_lock on;
			proxy_cache_lock_timeout 10m;
			proxy_cache_lock_age 10m;`, dir)
}
