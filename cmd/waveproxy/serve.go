package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/metrics"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: "Run the proxy. Without a configuration file it listens on :9090, keeps its data\n" +
			"in ./waveproxy-data and reaches Docker Hub and every public registry anonymously.",
		Args: cobra.NoArgs,
	}
	load := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		log := newLogger(cfg, cmd.ErrOrStderr())
		return serve(cmd.Context(), cfg, load, log, func(string) {})
	}
	return cmd
}

// serve runs the server until ctx ends. It calls ready with the base URL once
// requests are accepted. SIGHUP applies the recipes that load returns; a signal
// during the start waits. A nil load leaves the signal alone.
func serve(ctx context.Context, cfg *config.Config, load func() (*config.Config, error), log *slog.Logger, ready func(baseURL string)) error {
	if runtime.GOOS == "windows" {
		return errors.New("the server needs Linux, macOS or another Unix, for locks on files and names that outlive a crash; the commands for clients work on Windows")
	}
	hangups := make(chan os.Signal, 1)
	if load != nil {
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	listener, err := net.Listen("tcp", string(cfg.HTTP.Addr))
	if err != nil {
		return fmt.Errorf("http.addr: %w", err)
	}
	defer listener.Close()
	base := cfg.BaseURL(listener.Addr())
	counts := metrics.New(version)
	proxy, err := newService(ctx, cfg, base, log, counts.Observe)
	defer func() { proxy.close() }()
	if err != nil {
		return err
	}
	server := newServer(proxy.handler, log)
	server.ConnState = newConnections(proxies(cfg)).changed
	failed := make(chan error, 2)
	if cfg.HTTP.Debug.Addr != "" {
		debug, err := net.Listen("tcp", string(cfg.HTTP.Debug.Addr))
		if err != nil {
			return fmt.Errorf("http.debug.addr: %w", err)
		}
		operator := newServer(debugHandler(counts), log)
		defer operator.Close()
		go func() { failed <- operator.Serve(debug) }()
		log.Info("serving metrics", "addr", debug.Addr().String())
	}
	if files := cfg.HTTP.TLS; files.Certificate != "" {
		pair, err := newCertificate(files.Certificate, files.Key, log)
		if err != nil {
			return err
		}
		go func() { failed <- serveTLS(server, listener, pair, !cfg.HTTP.HTTP2.Disabled) }()
	} else {
		go func() { failed <- server.Serve(&headListener{Listener: listener}) }()
	}
	log.Info("serving", "addr", listener.Addr().String(), "host", base.String(), "storage", cfg.Storage.Dir, "version", version)
	ready(base.String())
	reloading, stop := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	reloads.Go(func() { proxy.recipes.follow(reloading, hangups, load) })
	defer reloads.Wait()
	defer stop()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.Info("shutting down", "timeout", cfg.HTTP.DrainTimeout)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.HTTP.DrainTimeout)
	defer cancel()
	if err := server.Shutdown(deadline); err != nil {
		_ = server.Close()
		return fmt.Errorf("shut down: %w", err)
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// serveTLS is the server's Serve, over TLS.
func serveTLS(server *http.Server, listener net.Listener, pair *certificate, http2 bool) error {
	server.TLSConfig = &tls.Config{GetCertificate: pair.get, GetConfigForClient: greeted}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(http2)
	heads := &headListener{Listener: listener, tls: server.TLSConfig, http2: http2}
	if http2 {
		return server.ServeTLS(heads, "", "")
	}
	server.TLSConfig.NextProtos = []string{"http/1.1"}
	return server.Serve(heads)
}

func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler,
		// Clients that send one byte a second must not hold connections. There is no
		// WriteTimeout, because large blobs on slow links take their time.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10, // the tokens of large organisations are 16 KiB
		// Over HTTP/2, what a handler does not read is kept in memory. The default is a
		// megabyte of each connection.
		// A connection keeps room for its largest frame.
		HTTP2:    &http.HTTP2Config{MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 64 << 10, MaxReadFrameSize: 16 << 10},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// debugHandler returns the metrics and profiles for the operator.
func debugHandler(counts *metrics.Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", counts.Handler())
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
