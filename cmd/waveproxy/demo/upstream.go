package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory" // the storage the configuration names
	"github.com/sirupsen/logrus"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// StartRegistry starts the CNCF distribution registry on a free port of
// 127.0.0.1, in memory and over plain HTTP, and pushes the demo image to it as
// Repository:Tag. The registry runs until stop is called or ctx ends; call stop
// in any case. One idle goroutine of distribution's remains, which it has no way
// to stop.
func StartRegistry(ctx context.Context) (host string, stop func(), err error) {
	silence()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("start demo registry: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	app := handlers.NewApp(ctx, &configuration.Configuration{
		Storage: configuration.Storage{
			"inmemory": {},
			// Without this a goroutine outlives the registry.
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
	})
	server := &http.Server{Handler: app, ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // ends with Close only
	context.AfterFunc(ctx, func() { _ = server.Close() })
	stop = func() {
		cancel()
		_ = server.Close()
		serving.Wait()
		_ = app.Shutdown() // of sinks for events, of which there are none
	}
	host = listener.Addr().String()
	if err := push(ctx, host); err != nil {
		stop()
		return "", nil, err
	}
	return host, stop, nil
}

func push(ctx context.Context, host string) error {
	image, err := buildImage(ctx)
	if err != nil {
		return err
	}
	to, hangUp, err := plainRepository(host + "/" + Repository)
	if err != nil {
		return err
	}
	defer hangUp()
	if _, err := oras.Copy(ctx, image, Tag, to, Tag, oras.DefaultCopyOptions); err != nil {
		return fmt.Errorf("push demo image: %w", err)
	}
	return nil
}

// plainRepository is a repository of a registry that speaks plain HTTP and is
// reached without a proxy. hangUp closes idle connections.
func plainRepository(ref string) (r *remote.Repository, hangUp func(), err error) {
	if r, err = remote.NewRepository(ref); err != nil {
		return nil, nil, fmt.Errorf("image name %q: %w", ref, err)
	}
	transport := &http.Transport{ResponseHeaderTimeout: 30 * time.Second, DisableCompression: true}
	r.Client = &auth.Client{Client: &http.Client{Transport: transport}}
	r.PlainHTTP = true
	return r, transport.CloseIdleConnections, nil
}

// silence is global because distribution logs to logrus' standard logger, and
// the package that could hand it another one is internal.
var silence = sync.OnceFunc(func() { logrus.SetOutput(io.Discard) })
