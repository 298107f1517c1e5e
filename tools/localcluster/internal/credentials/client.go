package credentials

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// CreateNode writes the kubeconfig of a kubelet, with a certificate that names its Node, so that it may do what the Node
// authorizer and the admission plugin NodeRestriction let the kubelet of that Node do.
func (f Files) CreateNode(kubeconfig, server, node string) error {
	certificate, key := filepath.Join(f.directory, "kubelet.crt"), filepath.Join(f.directory, "kubelet.key")
	if err := f.createClient(certificate, key, pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}); err != nil {
		return err
	}
	config := api.NewConfig()
	config.Clusters[context] = &api.Cluster{Server: server, CertificateAuthority: f.CertificateAuthority}
	config.AuthInfos["kubelet"] = &api.AuthInfo{ClientCertificate: certificate, ClientKey: key}
	config.Contexts[context] = &api.Context{Cluster: context, AuthInfo: "kubelet"}
	config.CurrentContext = context
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		return fmt.Errorf("writing the kubelet's kubeconfig, %w", err)
	}
	return nil
}

func (f Files) createClient(certificate, key string, subject pkix.Name) error {
	authority, err := tls.LoadX509KeyPair(f.CertificateAuthority, f.authorityKey)
	if err != nil {
		return fmt.Errorf("reading the certificate authority, %w", err)
	}
	private, err := createKey(key)
	if err != nil {
		return fmt.Errorf("creating the key of %s, %w", subject.CommonName, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return fmt.Errorf("choosing a serial number, %w", err)
	}
	if authority.Leaf == nil {
		return errors.New("reading the certificate authority, it has no certificate")
	}
	now := time.Now()
	pem, err := sign(&x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, authority.Leaf, &private.PublicKey, authority.PrivateKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certificate, pem, 0o600); err != nil {
		return fmt.Errorf("writing the certificate of %s, %w", subject.CommonName, err)
	}
	return nil
}
