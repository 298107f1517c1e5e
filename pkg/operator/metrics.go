package operator

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
)

const (
	// metricsPath is what a reader of the metrics needs the right to get.
	metricsPath = "/metrics"
	// Each token that is new to us costs the API server a review, whoever made it up: no more than these a second.
	reviewQPS, reviewBurst = 10, 20
)

// addMetrics adds the metrics endpoint, unless it is switched off.
func addMetrics(m manager.Manager, options Options, handler http.Handler) error {
	if options.MetricsBindAddress == "0" {
		return nil
	}
	server := &manager.Server{Name: "metrics", Server: &http.Server{
		Addr: options.MetricsBindAddress, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10,
	}}
	if options.MetricsSecure {
		var err error
		if handler, err = onlyReaders(m.GetConfig(), handler); err != nil {
			return err
		}
		if server.Listener, err = listenTLS(m, options); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.Handle(metricsPath, handler)
	server.Server.Handler = mux
	if err := m.Add(server); err != nil {
		return fmt.Errorf("adding the metrics endpoint, %w", err)
	}
	return nil
}

// onlyReaders asks the API server who asks, and whether RBAC lets them get the path.
func onlyReaders(config *rest.Config, handler http.Handler) (http.Handler, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = reviewQPS, reviewBurst
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making the client of the metrics endpoint, %w", err)
	}
	filter, err := filters.WithAuthenticationAndAuthorization(config, client)
	if err != nil {
		return nil, fmt.Errorf("making the filter of the metrics endpoint, %w", err)
	}
	handler, err = filter(log.Log.WithName("metrics"), handler)
	if err != nil {
		return nil, fmt.Errorf("making the filter of the metrics endpoint, %w", err)
	}
	return handler, nil
}

// listenTLS listens with the certificate of --metrics-cert-dir, taken in again when it changes, or with one of our own
// making, which keeps what is read from others but cannot tell a reader who we are.
func listenTLS(m manager.Manager, options Options) (net.Listener, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// HTTP/2 is nothing to a scrape, and has cost servers dear: CVE-2023-44487.
		NextProtos: []string{"http/1.1"},
	}
	if options.MetricsCertDir == "" {
		certificate, err := selfSigned()
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	} else {
		watcher, err := certwatcher.New(filepath.Join(options.MetricsCertDir, "tls.crt"), filepath.Join(options.MetricsCertDir, "tls.key"))
		if err != nil {
			return nil, fmt.Errorf("reading the certificate of the metrics endpoint, %w", err)
		}
		if err := m.Add(watcher); err != nil {
			return nil, fmt.Errorf("watching the certificate of the metrics endpoint, %w", err)
		}
		config.GetCertificate = watcher.GetCertificate
	}
	listener, err := tls.Listen("tcp", options.MetricsBindAddress, config)
	if err != nil {
		return nil, fmt.Errorf("listening for the metrics endpoint, %w", err)
	}
	return listener, nil
}

func selfSigned() (tls.Certificate, error) {
	cert, key, err := certutil.GenerateSelfSignedCertKeyWithFixtures("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil, "")
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the certificate of the metrics endpoint, %w", err)
	}
	certificate, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading the certificate of the metrics endpoint, %w", err)
	}
	return certificate, nil
}
