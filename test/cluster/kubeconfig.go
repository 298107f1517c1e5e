package cluster

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type kubeconfigOptions struct {
	// path of the file that is written.
	path string
	// apiServer is the URL of a way to the API server; empty: straight.
	apiServer string
	// ca is the certificate authority of that way; nil: the API server's.
	ca []byte
	// node that the token is bound to, as that of a pod on it is; nil: none.
	node *corev1.Node
}

// kubeconfigOf writes a kubeconfig with a token of the ServiceAccount, and gives its path.
func (c *Cluster) kubeconfigOf(ctx context.Context, account client.ObjectKey, o kubeconfigOptions) (string, error) {
	token, err := c.tokenOf(ctx, account, o.node)
	if err != nil {
		return "", err
	}
	config, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig, %w", err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	}
	if o.apiServer != "" {
		for _, server := range config.Clusters {
			straight, err := url.Parse(server.Server)
			if err != nil {
				return "", fmt.Errorf("reading the kubeconfig, %w", err)
			}
			// The certificate is for the address that the API server knows itself by.
			server.Server, server.TLSServerName = o.apiServer, straight.Hostname()
			if o.ca != nil {
				server.CertificateAuthority, server.CertificateAuthorityData = "", o.ca
			}
		}
	}
	if err := clientcmd.WriteToFile(*config, o.path); err != nil {
		return "", fmt.Errorf("writing the kubeconfig of %s, %w", account.Name, err)
	}
	return o.path, nil
}

func (c *Cluster) tokenOf(ctx context.Context, key client.ObjectKey, node *corev1.Node) (string, error) {
	account := &corev1.ServiceAccount{}
	if err := c.Client.Get(ctx, key, account); err != nil {
		return "", fmt.Errorf("reading the ServiceAccount %s, %w", key, err)
	}
	seconds := int64(24 * 60 * 60)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if node != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
	}
	if err := c.Client.SubResource("token").Create(ctx, account, request); err != nil {
		return "", fmt.Errorf("asking for a token of %s, %w", key, err)
	}
	return request.Status.Token, nil
}

// Address is the host and port at which the API server listens.
func (c *Cluster) Address() string { return strings.TrimPrefix(c.Config.Host, "https://") }
