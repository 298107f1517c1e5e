package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// scrape gives what the metrics endpoint answers; roots nil: whoever it may be.
func scrape(ctx context.Context, url, token string, roots *x509.CertPool) (int, string, error) {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, InsecureSkipVerify: roots == nil}} //nolint:gosec // its certificate is of its own making
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err //nolint:wrapcheck // a test's
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(request)
	if err != nil {
		return 0, "", err //nolint:wrapcheck // a test's
	}
	defer response.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err //nolint:wrapcheck // a test's
}

// reader makes a ServiceAccount, lets it read metrics where that is wanted, and gives its token.
func reader(t *testing.T, name string, bound bool) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	require.NoError(t, shared.Create(t.Context(), account))
	t.Cleanup(func() { _ = shared.Client.Delete(context.Background(), account) })
	if bound {
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "autorepair-metrics-reader"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: name}},
		}
		require.NoError(t, shared.Create(t.Context(), binding))
		t.Cleanup(func() { _ = shared.Client.Delete(context.Background(), binding) })
	}
	token, err := shared.Token(t.Context(), client.ObjectKeyFromObject(account), nil)
	require.NoError(t, err)
	return token
}

func TestMetricsAreForThoseWhoMayReadThemAlone(t *testing.T) {
	suite.Need(t)
	may, mayNot := reader(t, "metrics-reader", true), reader(t, "metrics-stranger", false)
	// The right is in force a moment after it has been given; what was refused is refused for half a minute more.
	suite.Within(t.Context(), t, 90*time.Second, "who may read the metrics reads them", func() error {
		code, text, err := scrape(t.Context(), controller.Metrics, may, nil)
		if err != nil || code != http.StatusOK || !strings.Contains(text, "\nautorepair_") {
			return fmt.Errorf("it was answered %d %.200s, %w", code, text, err)
		}
		return nil
	})
	for name, test := range map[string]struct {
		url, token string
		want       int
	}{
		"without a token": {url: controller.Metrics, want: http.StatusUnauthorized},
		// The filter takes it for an error that the API server says what is wrong with the token.
		"with an invented token":         {url: controller.Metrics, token: "invented", want: http.StatusInternalServerError},
		"with a token without the right": {url: controller.Metrics, token: mayNot, want: http.StatusForbidden},
		"another path":                   {url: strings.TrimSuffix(controller.Metrics, "metrics") + "debug/pprof/", token: may, want: http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			code, text, err := scrape(t.Context(), test.url, test.token, nil)
			require.NoError(t, err)
			require.Equal(t, test.want, code, text)
			require.NotContains(t, text, "autorepair_")
		})
	}
	t.Run("over plain HTTP", func(t *testing.T) {
		// 400, or a connection that is cut before all of the request has been read.
		code, text, err := scrape(t.Context(), strings.Replace(controller.Metrics, "https://", "http://", 1), may, nil)
		require.True(t, err != nil || code == http.StatusBadRequest, "it was answered %d %s", code, text)
		require.NotContains(t, text, "autorepair_")
	})
}

func TestMetricsBearTheCertificateThatTheyAreGiven(t *testing.T) {
	suite.Need(t)
	dir := t.TempDir()
	roots := certificate(t, dir)
	// It waits for the lease of the other, and serves its metrics all the same.
	c, err := shared.StartController(t.Context(), "--metrics-cert-dir="+dir)
	require.NoError(t, err)
	defer c.Stop() //nolint:errcheck // it has nothing to leave behind
	code, _, err := scrape(t.Context(), c.Metrics, "", roots)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, code)
	_, _, err = scrape(t.Context(), controller.Metrics, "", roots)
	require.ErrorContains(t, err, "certificate", "the other has made one itself")
}

func TestMetricsAreShownToEverybodyWhereThatIsWanted(t *testing.T) {
	suite.Need(t)
	c, err := shared.StartController(t.Context(), "--metrics-secure=false")
	require.NoError(t, err)
	defer c.Stop() //nolint:errcheck // it has nothing to leave behind
	code, text, err := scrape(t.Context(), c.Metrics, "", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, text, "\nautorepair_")
}

// certificate writes one for this machine into the folder, and gives who trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	text, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text}), 0o600))
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(cert))
	return roots
}
