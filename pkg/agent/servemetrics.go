package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"k8s.io/utils/clock"
)

const (
	// maxMetricsConnections at once; each costs some tens of kilobytes.
	maxMetricsConnections = 16
	// reloadCertificates is the longest time for which a new certificate is not used.
	reloadCertificates = time.Minute
)

// serveMetrics serves them in the background, unless they are switched off. An error says what is wrong with the
// options; an address that is taken is tried again.
func (a *Agent) serveMetrics(registry *prometheus.Registry) error {
	o := a.o
	if o.MetricsBindAddress == "" || o.MetricsBindAddress == "0" {
		return nil
	}
	if err := checkMetricsOptions(o); err != nil {
		return err
	}
	var config *tls.Config
	if o.MetricsCertDir != "" {
		certificates := &certificates{dir: o.MetricsCertDir, clock: a.clock, log: a.log}
		if err := certificates.load(); err != nil {
			return err
		}
		config = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetConfigForClient: certificates.configuration}
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2}))
	go func() {
		for {
			err := listenAndServe(o.MetricsBindAddress, config, mux)
			a.log.Error("serving metrics", "address", o.MetricsBindAddress, "error", err)
			<-a.clock.After(time.Minute)
		}
	}()
	return nil
}

// checkMetricsOptions refuses to show the metrics to other machines by mistake: with hostNetwork the agent listens on
// the node's own addresses.
func checkMetricsOptions(o Options) error {
	host, _, err := net.SplitHostPort(o.MetricsBindAddress)
	if err != nil {
		return fmt.Errorf("the address of the metrics endpoint %q is none: write for example 127.0.0.1:9464, or 0 for no endpoint", o.MetricsBindAddress)
	}
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	if o.MetricsSecure && !loopback && o.MetricsCertDir == "" {
		return fmt.Errorf("the metrics endpoint %q can be reached from other machines: give certificates with --metrics-cert-dir, listen on 127.0.0.1, or write --metrics-secure=false", o.MetricsBindAddress)
	}
	return nil
}

func listenAndServe(address string, config *tls.Config, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err //nolint:wrapcheck // the caller says what for
	}
	listener = netutil.LimitListener(listener, maxMetricsConnections)
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	server := &http.Server{Handler: handler, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	return server.Serve(listener) //nolint:wrapcheck // the caller says what for
}

// certificates of the metrics endpoint. Clients show one too, and no token: an agent needs no right to ask whose token
// it is, and one that was taken over is given none that is good for anything else.
type certificates struct {
	dir   string
	clock clock.Clock
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	config *tls.Config
	read   time.Time
}

// configuration of one handshake. Files that cannot be read leave the ones before in force.
func (c *certificates) configuration(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clock.Since(c.read) >= reloadCertificates {
		if err := c.loadLocked(); err != nil {
			c.log.Error("staying with the certificates before", "error", err)
			c.read = c.clock.Now()
		}
	}
	return c.config, nil
}

func (c *certificates) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loadLocked()
}

func (c *certificates) loadLocked() error {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(c.dir, "tls.crt"), filepath.Join(c.dir, "tls.key"))
	if err != nil {
		return fmt.Errorf("reading the certificate of the metrics endpoint, %w", err)
	}
	text, err := os.ReadFile(filepath.Join(c.dir, "ca.crt"))
	if err != nil {
		return fmt.Errorf("reading the clients of the metrics endpoint, %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(text) {
		return errors.New("reading the clients of the metrics endpoint: ca.crt holds no certificate")
	}
	c.config = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
	c.read = c.clock.Now()
	return nil
}
