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

// serve runs the server until ctx ends. It calls ready with the base URL once all
// requests can be served. SIGHUP applies what load returns; a signal during the start
// waits. A nil load leaves the signal alone.
func serve(ctx context.Context, cfg *config.Config, load func() (*config.Config, error), log *slog.Logger, ready func(baseURL string)) error {
	if runtime.GOOS == "windows" {
		return errors.New("the server needs Linux, macOS or another Unix, for locks on files and names that outlive a crash; the commands for clients work on Windows")
	}
	hangups := make(chan os.Signal, 1)
	if load != nil {
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	l := listening{gate: new(gate), state: new(readiness), counts: metrics.New(version), failed: make(chan error, 2), log: log}
	defer l.close()
	base, err := l.listen(cfg)
	if err != nil {
		return err
	}
	proxy, err := newService(ctx, cfg, base, log, l.counts, l.state)
	defer func() {
		_ = l.server.Close() // no request may use what is closed; none is left after a drain
		proxy.close()
	}()
	if err != nil {
		return err
	}
	l.gate.open(proxy.handler)
	if err := proxy.recipes.start(ctx); err != nil {
		if ctx.Err() != nil {
			log.Info("ended during the start")
			return nil
		}
		return err
	}
	l.state.started.Store(true)
	log.Info("serving", "addr", l.addr.String(), "host", base.String(), "storage", storageOf(cfg), "version", version)
	notifyReady(log)
	ready(base.String())
	reloading, stop := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	reloads.Go(func() { proxy.recipes.follow(reloading, hangups, load) })
	reloads.Go(func() { proxy.recipes.renewals.follow(reloading) })
	reloads.Go(func() { proxy.collect(reloading) })
	defer reloads.Wait()
	defer stop()
	select {
	case err := <-l.failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	notifyStopping(log)
	return l.drain(context.WithoutCancel(ctx), cfg)
}

// listening is a server with its listeners. Requests pass the gate.
type listening struct {
	gate     *gate
	state    *readiness
	counts   *metrics.Metrics
	log      *slog.Logger
	addr     net.Addr
	server   *http.Server
	operator *http.Server // nil without http.debug.addr
	failed   chan error   // of each server that has ended
}

// listen begins to answer /healthz, and returns the URL that clients are told.
func (l *listening) listen(cfg *config.Config) (base config.URL, err error) {
	l.server = newServer(l.gate, l.log)
	l.server.ConnState = newConnections(proxies(cfg)).changed
	if files := cfg.HTTP.TLS; files.Certificate != "" {
		if l.state.certificate, err = newCertificate(files.Certificate, files.Key, l.log); err != nil {
			return base, err
		}
	}
	listener, err := net.Listen("tcp", string(cfg.HTTP.Addr))
	if err != nil {
		return base, fmt.Errorf("http.addr: %w", err)
	}
	if cfg.HTTP.Debug.Addr != "" {
		debug, err := net.Listen("tcp", string(cfg.HTTP.Debug.Addr))
		if err != nil {
			listener.Close()
			return base, fmt.Errorf("http.debug.addr: %w", err)
		}
		l.operator = newServer(debugHandler(l.counts), l.log)
		go func() { l.failed <- l.operator.Serve(debug) }()
		l.log.Info("serving metrics", "addr", debug.Addr().String())
	}
	if l.state.certificate != nil {
		go func() { l.failed <- serveTLS(l.server, listener, l.state.certificate, !cfg.HTTP.HTTP2.Disabled) }()
	} else {
		go func() { l.failed <- l.server.Serve(&headListener{Listener: listener}) }()
	}
	l.addr = listener.Addr()
	l.log.Info("listening, pulls are answered when the server is put together", "addr", l.addr.String())
	return cfg.BaseURL(l.addr), nil
}

// close ends what listen has begun.
func (l *listening) close() {
	for _, s := range []*http.Server{l.server, l.operator} {
		if s != nil {
			_ = s.Close() // of listeners only, whose fault would tell nothing
		}
	}
}

// drain ends the server: readiness falls, then the listener closes, then the last
// requests end. A second signal cuts them off, as the time-out does; that is an error.
func (l *listening) drain(ctx context.Context, cfg *config.Config) error {
	l.state.draining.Store(true)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	l.log.Info("shutting down", "delay", cfg.HTTP.DrainDelay.String(), "timeout", cfg.HTTP.DrainTimeout.String(), "requests", l.gate.running.Load())
	select {
	case <-time.After(cfg.HTTP.DrainDelay):
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.HTTP.DrainTimeout)
	defer cancel()
	if err := l.server.Shutdown(ctx); err != nil {
		why := "http.draintimeout is over"
		if errors.Is(ctx.Err(), context.Canceled) {
			why = "a second signal arrived"
		}
		cut := l.gate.running.Load()
		_ = l.server.Close()
		l.log.Warn("cut the requests that had not ended", "requests", cut, "because", why)
		return fmt.Errorf("shut down: %d requests were cut off, because %s", cut, why)
	}
	if err := <-l.failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	l.log.Info("all requests have ended")
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
