package cluster

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
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
	var bound client.Object
	if o.node != nil {
		bound = o.node
	}
	token, err := c.Token(ctx, account, bound)
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

// Token gives one of the ServiceAccount, as the API server signs it: bound to a Node or to a Pod, or with nil to nothing.
func (c *Cluster) Token(ctx context.Context, key client.ObjectKey, bound client.Object) (string, error) {
	account := &corev1.ServiceAccount{}
	if err := c.Client.Get(ctx, key, account); err != nil {
		return "", fmt.Errorf("reading the ServiceAccount %s, %w", key, err)
	}
	seconds := int64(24 * 60 * 60)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if bound != nil {
		kind, err := c.Client.GroupVersionKindFor(bound)
		if err != nil {
			return "", fmt.Errorf("finding what to bind a token to, %w", err)
		}
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{
			APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Name: bound.GetName(), UID: bound.GetUID(),
		}
	}
	if err := c.Client.SubResource("token").Create(ctx, account, request); err != nil {
		return "", fmt.Errorf("asking for a token of %s, %w", key, err)
	}
	return request.Status.Token, nil
}

// ClientWith is a client that bears the token, and impersonates somebody where that is asked for.
func (c *Cluster) ClientWith(token string, as rest.ImpersonationConfig) (client.Client, error) {
	config := rest.AnonymousClientConfig(c.Config)
	config.BearerToken, config.Impersonate = token, as
	built, err := client.New(config, client.Options{Scheme: c.Client.Scheme(), Mapper: c.Client.RESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("building a client, %w", err)
	}
	return built, nil
}

// Address is the host and port at which the API server listens.
func (c *Cluster) Address() string { return strings.TrimPrefix(c.Config.Host, "https://") }
