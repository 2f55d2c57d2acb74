package http

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheck is how often, at most, the certificate files are looked at. They are
// looked at when a client connects, so that no goroutine waits for a change.
const recheck = time.Second

// certificates is a certificate that follows its files: a renewed one is taken
// up at the next connection, a broken one is logged and the old one stays.
type certificates struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	version [2]time.Time // when the files that are current were written
	failed  [2]time.Time // the version that could not be read, so that it is logged once
	checked time.Time
}

// load reads the files. The error names them.
func (c *certificates) load() error {
	version, err := c.stat()
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current, c.version, c.checked = &cert, version, time.Now()
	return nil
}

func (c *certificates) stat() (version [2]time.Time, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return version, fmt.Errorf("certificate: %w", err)
		}
		version[i] = info.ModTime()
	}
	return version, nil
}

// get is tls.Config.GetCertificate.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < recheck {
		return c.current, nil
	}
	c.checked = time.Now()
	version, err := c.stat()
	if err == nil && (version == c.version || version == c.failed) {
		return c.current, nil
	}
	if err == nil {
		err = c.load()
	}
	if err != nil {
		c.failed = version
		c.log.Error("the changed certificate can't be used, the old one stays", "err", err)
		return c.current, nil
	}
	c.log.Info("certificate reloaded", "file", c.certFile)
	return c.current, nil
}
