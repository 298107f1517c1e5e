// Package credentials makes the certificates, keys, tokens and kubeconfigs of
// one cluster. They are made once per cluster and kept in its directory.
package credentials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/realnode"
)

// Administrator is the user of the kubeconfig that people and tests use.
const Administrator = "admin"

const (
	lifetime = 10 * 365 * 24 * time.Hour
	// backdate is for a clock that was set back after the certificate was made.
	backdate = 24 * time.Hour
	context  = "localcluster"
)

// Files are the paths of what Create writes.
type Files struct {
	CertificateAuthority string
	ServerCertificate    string
	ServerKey            string
	ServiceAccountKey    string
	Tokens               string
	// KubeletClientCertificate and its key are with what the API server asks kubelets.
	KubeletClientCertificate string
	KubeletClientKey         string

	authorityKey string
	directory    string
}

// In returns the paths under a directory, written or not.
func In(directory string) Files {
	return Files{
		CertificateAuthority: filepath.Join(directory, "ca.crt"),
		ServerCertificate:    filepath.Join(directory, "apiserver.crt"),
		ServerKey:            filepath.Join(directory, "apiserver.key"),
		ServiceAccountKey:    filepath.Join(directory, "service-account.key"),
		Tokens:               filepath.Join(directory, "tokens.csv"),

		KubeletClientCertificate: filepath.Join(directory, "kubelet-client.crt"),
		KubeletClientKey:         filepath.Join(directory, "kubelet-client.key"),

		authorityKey: filepath.Join(directory, "ca.key"),
		directory:    directory,
	}
}

// Directory holds all the files.
func (f Files) Directory() string { return f.directory }

// Kubeconfig is the path of the kubeconfig of one of the cluster's own parts.
func (f Files) Kubeconfig(part string) string {
	return filepath.Join(f.directory, part+".kubeconfig")
}

// Create writes everything for an API server at the given port, and a
// kubeconfig for each user at the path given for it. Every user is in
// system:masters, which RBAC lets do everything; service accounts and
// impersonated users are checked as anywhere.
func (f Files) Create(port int, kubeconfigs map[string]string) error {
	if err := os.MkdirAll(f.directory, 0o700); err != nil {
		return fmt.Errorf("creating the directory of credentials, %w", err)
	}
	authority, err := f.createCertificates()
	if err != nil {
		return err
	}
	if _, err := createKey(f.ServiceAccountKey); err != nil {
		return fmt.Errorf("creating the service account key, %w", err)
	}
	var tokens strings.Builder
	server := fmt.Sprintf("https://127.0.0.1:%d", port)
	for _, user := range slices.Sorted(maps.Keys(kubeconfigs)) {
		token, err := newToken()
		if err != nil {
			return err
		}
		fmt.Fprintf(&tokens, "%s,%s,%s,\"system:masters\"\n", token, user, user)
		if err := writeKubeconfig(kubeconfigs[user], server, user, token, authority); err != nil {
			return fmt.Errorf("writing the kubeconfig of %s, %w", user, err)
		}
	}
	if err := os.WriteFile(f.Tokens, []byte(tokens.String()), 0o600); err != nil {
		return fmt.Errorf("writing tokens, %w", err)
	}
	return nil
}

func (f Files) createCertificates() ([]byte, error) {
	authorityKey, err := createKey(f.authorityKey)
	if err != nil {
		return nil, fmt.Errorf("creating the key of the certificate authority, %w", err)
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localcluster"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	authorityPEM, err := sign(authority, authority, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		return nil, fmt.Errorf("creating the certificate authority, %w", err)
	}
	serverKey, err := createKey(f.ServerKey)
	if err != nil {
		return nil, fmt.Errorf("creating the API server's key, %w", err)
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		// On loopback, and as the Service kubernetes where there is a real node.
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(realnode.ServiceAddress)},
	}
	serverPEM, err := sign(server, authority, &serverKey.PublicKey, authorityKey)
	if err != nil {
		return nil, fmt.Errorf("creating the API server's certificate, %w", err)
	}
	if err := os.WriteFile(f.CertificateAuthority, authorityPEM, 0o600); err != nil {
		return nil, fmt.Errorf("writing the certificate authority, %w", err)
	}
	if err := os.WriteFile(f.ServerCertificate, serverPEM, 0o600); err != nil {
		return nil, fmt.Errorf("writing the API server's certificate, %w", err)
	}
	if err := f.createClient(f.KubeletClientCertificate, f.KubeletClientKey, pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}}); err != nil {
		return nil, err
	}
	return authorityPEM, nil
}

func sign(certificate, parent *x509.Certificate, public *ecdsa.PublicKey, signer any) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, certificate, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("signing %s, %w", certificate.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func createKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating, %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding, %w", err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("writing, %w", err)
	}
	return key, nil
}

func newToken() (string, error) {
	bits := make([]byte, 16)
	if _, err := rand.Read(bits); err != nil {
		return "", fmt.Errorf("creating a token, %w", err)
	}
	return hex.EncodeToString(bits), nil
}

func writeKubeconfig(path, server, user, token string, authority []byte) error {
	config := api.NewConfig()
	config.Clusters[context] = &api.Cluster{Server: server, CertificateAuthorityData: authority}
	config.AuthInfos[user] = &api.AuthInfo{Token: token}
	config.Contexts[context] = &api.Context{Cluster: context, AuthInfo: user}
	config.CurrentContext = context
	return clientcmd.WriteToFile(*config, path)
}
