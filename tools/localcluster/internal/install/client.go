// Package install puts into a running API server what a cluster with Karpenter
// has: Karpenter's CRDs, the Deployment that tells how Karpenter is configured,
// and, where asked for, nodes.
package install

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// fieldManager owns the fields that localcluster writes.
	fieldManager = "localcluster"

	pollInterval = 50 * time.Millisecond
	waitTimeout  = 60 * time.Second
)

// Client writes into one API server.
type Client struct {
	dynamic    dynamic.Interface
	kubernetes kubernetes.Interface
}

// NewClient connects as the user of a kubeconfig.
func NewClient(kubeconfig string) (*Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig, %w", err)
	}
	config.QPS = -1 // no limit
	config.UserAgent = fieldManager
	dynamicClient, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating client, %w", err)
	}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating client, %w", err)
	}
	return &Client{dynamic: dynamicClient, kubernetes: clientset}, nil
}

// apply writes an object with server-side apply.
func (c *Client) apply(ctx context.Context, resource schema.GroupVersionResource, object runtime.Object) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("converting object, %w", err)
	}
	intent := &unstructured.Unstructured{Object: fields}
	unstructured.RemoveNestedField(intent.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(intent.Object, "status")

	var target dynamic.ResourceInterface = c.dynamic.Resource(resource)
	if namespace := intent.GetNamespace(); namespace != "" {
		target = c.dynamic.Resource(resource).Namespace(namespace)
	}
	_, err = target.Apply(ctx, intent.GetName(), intent, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("applying %s %s, %w", intent.GetKind(), intent.GetName(), err)
	}
	return nil
}

// wait asks until the answer is yes. Errors are asked again, as an API server
// that has just started answers some questions only a moment later.
func wait(ctx context.Context, what string, ask func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	for {
		yes, err := ask(ctx)
		if err == nil && yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s, %w", what, errors.Join(ctx.Err(), err))
		case <-time.After(pollInterval):
		}
	}
}

// WaitServiceAccounts waits until the controller manager has made the default
// service accounts, without which no pod can be created.
func (c *Client) WaitServiceAccounts(ctx context.Context, namespaces ...string) error {
	for _, namespace := range namespaces {
		err := wait(ctx, "the default service account of "+namespace, func(ctx context.Context) (bool, error) {
			_, err := c.kubernetes.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
