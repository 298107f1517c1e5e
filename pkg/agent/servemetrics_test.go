package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestMetricsAreNotShownToOtherMachinesByMistake(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"on the loopback":                          {options: Options{MetricsBindAddress: "127.0.0.1:9464", MetricsSecure: true}},
		"on the loopback of IPv6":                  {options: Options{MetricsBindAddress: "[::1]:9464", MetricsSecure: true}},
		"on the loopback by name":                  {options: Options{MetricsBindAddress: "localhost:9464", MetricsSecure: true}},
		"everywhere, with certificates":            {options: Options{MetricsBindAddress: ":9464", MetricsSecure: true, MetricsCertDir: "/certs"}},
		"everywhere, because somebody wants it so": {options: Options{MetricsBindAddress: ":9464"}},
		"everywhere":                               {options: Options{MetricsBindAddress: ":9464", MetricsSecure: true}, want: "can be reached from other machines"},
		"on an address of the node's":              {options: Options{MetricsBindAddress: "10.0.0.7:9464", MetricsSecure: true}, want: "can be reached from other machines"},
		"under a name that may be anybody's":       {options: Options{MetricsBindAddress: "node:9464", MetricsSecure: true}, want: "can be reached from other machines"},
		"on no address":                            {options: Options{MetricsBindAddress: "9464", MetricsSecure: true}, want: "write for example 127.0.0.1:9464"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkMetricsOptions(test.options)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
		})
	}
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{certificate: certificate, key: key}
}

// sign gives a certificate and its key, as PEM, for a server or a client on this machine.
func (a authority) sign(t *testing.T, usage x509.ExtKeyUsage) (cert, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "somebody"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &own.PublicKey, a.key)
	require.NoError(t, err)
	text, err := x509.MarshalECPrivateKey(own)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text})
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

func (a authority) client(t *testing.T) tls.Certificate {
	t.Helper()
	certificate, err := tls.X509KeyPair(a.sign(t, x509.ExtKeyUsageClientAuth))
	require.NoError(t, err)
	return certificate
}

// writeCerts lays out the folder of --metrics-cert-dir.
func writeCerts(t *testing.T, dir string, server, clients authority) {
	t.Helper()
	cert, key := server.sign(t, x509.ExtKeyUsageServerAuth)
	for name, text := range map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": clients.pem()} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
}

// served starts the endpoint on a free port and gives its address.
func served(t *testing.T, o Options, clk *clocktesting.FakeClock) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	o.MetricsBindAddress = listener.Addr().String()
	require.NoError(t, listener.Close())
	registry := prometheus.NewRegistry()
	NewMetrics(registry)
	a := &Agent{o: o, clock: clk, log: slog.New(slog.DiscardHandler)}
	require.NoError(t, a.serveMetrics(registry))
	require.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", o.MetricsBindAddress)
		if err != nil {
			return false
		}
		return connection.Close() == nil
	}, 30*time.Second, 10*time.Millisecond)
	return o.MetricsBindAddress
}

// scrape gives the status and the text; an error where there was no answer.
func scrape(url string, config *tls.Config) (int, string, error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 30 * time.Second}
	response, err := client.Get(url) //nolint:noctx // has a timeout
	if err != nil {
		return 0, "", err //nolint:wrapcheck // a test's
	}
	defer response.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err //nolint:wrapcheck // a test's
}

func TestOverTLSMetricsAreForThoseWithACertificateAlone(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	writeCerts(t, dir, ours, ours)
	address := served(t, Options{MetricsSecure: true, MetricsCertDir: dir}, clocktesting.NewFakeClock(time.Now()))
	roots := x509.NewCertPool()
	roots.AddCert(ours.certificate)

	code, text, err := scrape("https://"+address+"/metrics", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{ours.client(t)}}) //nolint:gosec // the default is well
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, text, "autorepair_agent_config_rejected")

	for name, config := range map[string]*tls.Config{
		"without a certificate":           {RootCAs: roots},                                                                                                              //nolint:gosec // the default is well
		"with that of another authority":  {RootCAs: roots, Certificates: []tls.Certificate{foreign.client(t)}},                                                          //nolint:gosec // the default is well
		"with that of a server":           {RootCAs: roots, Certificates: []tls.Certificate{serverOnly(t, ours)}},                                                        //nolint:gosec // the default is well
		"with a version of TLS of before": {RootCAs: roots, Certificates: []tls.Certificate{ours.client(t)}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, //nolint:gosec // that is the point
	} {
		t.Run(name, func(t *testing.T) {
			_, text, err := scrape("https://"+address+"/metrics", config)
			require.Error(t, err)
			require.Empty(t, text)
		})
	}
	t.Run("over plain HTTP", func(t *testing.T) {
		code, text, err := scrape("http://"+address+"/metrics", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, code)
		require.NotContains(t, text, "autorepair_agent")
	})
}

func serverOnly(t *testing.T, a authority) tls.Certificate {
	t.Helper()
	certificate, err := tls.X509KeyPair(a.sign(t, x509.ExtKeyUsageServerAuth))
	require.NoError(t, err)
	return certificate
}

func TestOnTheLoopbackMetricsNeedNoCertificate(t *testing.T) {
	address := served(t, Options{MetricsSecure: true}, clocktesting.NewFakeClock(time.Now()))
	code, text, err := scrape("http://"+address+"/metrics", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, text, "autorepair_agent_config_rejected")
}

func TestCertificatesOfTheMetricsEndpointAreTakenInAgain(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	dir, clk := t.TempDir(), clocktesting.NewFakeClock(time.Now())
	writeCerts(t, dir, before, before)
	url := "https://" + served(t, Options{MetricsSecure: true, MetricsCertDir: dir}, clk) + "/metrics"
	roots := x509.NewCertPool()
	roots.AddCert(before.certificate)
	roots.AddCert(after.certificate)
	as := func(a authority) error {
		_, _, err := scrape(url, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{a.client(t)}}) //nolint:gosec // the default is well
		return err
	}
	require.NoError(t, as(before))
	require.Error(t, as(after))

	writeCerts(t, dir, after, after)
	clk.Step(reloadCertificates)
	require.NoError(t, as(after))
	require.Error(t, as(before), "who could read before and can no longer")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("half of"), 0o600))
	clk.Step(reloadCertificates)
	require.NoError(t, as(after), "files in the midst of being written change nothing")
}

func TestAMistakeInTheCertificatesEndsTheAgentAtTheStart(t *testing.T) {
	ours := newAuthority(t)
	for name, breakIt := range map[string]func(dir string) error{
		"no folder":                 os.RemoveAll,
		"no key":                    func(dir string) error { return os.Remove(filepath.Join(dir, "tls.key")) },
		"nobody's certificates":     func(dir string) error { return os.Remove(filepath.Join(dir, "ca.crt")) },
		"an authority that is none": func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("none"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeCerts(t, dir, ours, ours)
			require.NoError(t, breakIt(dir))
			a := &Agent{o: Options{MetricsBindAddress: "127.0.0.1:0", MetricsSecure: true, MetricsCertDir: dir}, clock: clocktesting.NewFakeClock(time.Now()), log: slog.New(slog.DiscardHandler)}
			require.ErrorContains(t, a.serveMetrics(prometheus.NewRegistry()), "of the metrics endpoint")
		})
	}
}
