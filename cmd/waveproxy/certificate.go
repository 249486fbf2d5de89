package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// certificate is read again when its files change, because Kubernetes and tools
// that renew certificates change them under running servers. It is safe for
// concurrent use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	watch   fileWatch
	looked  time.Time
}

// lookInterval is how long a changed file may go unnoticed. Tests shorten it.
var lookInterval = 10 * time.Second

func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, watch: fileWatch{}}
	c.changed(time.Now())
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("http.tls: %w", err)
	}
	return c, nil
}

// get returns the certificate, for tls.Config. It never fails: files that do not
// fit each other, as while they are being replaced, are logged, and the previous
// certificate stays.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= lookInterval {
		c.looked = now
		if c.changed(now) {
			if err := c.load(); err != nil {
				c.log.Error("certificate reload failed, keeping the previous one", "error", err)
			} else {
				c.log.Info("new certificate", "file", c.certFile)
			}
		}
	}
	return c.current, nil
}

// check returns an error if the certificate has expired. A nil certificate has not.
func (c *certificate) check() error {
	if c == nil {
		return nil
	}
	pair, err := c.get(nil)
	if err != nil {
		return err
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		return fmt.Errorf("the certificate has expired at %s", end.UTC().Format(time.RFC3339))
	}
	return nil
}

// changed reports whether one of the files has changed since its last call.
func (c *certificate) changed(now time.Time) bool {
	return len(c.watch.changed([]string{c.certFile, c.keyFile}, now)) > 0
}

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current = &pair
	return nil
}
