package install

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	karpenterv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"
)

const (
	nodePoolName = "default"

	nodeInterval = 250 * time.Millisecond
	// nodePatience is how long no further node may become Ready.
	nodePatience = 2 * time.Minute
)

//go:embed nodes.yaml
var nodesManifest []byte

var nodeResources = map[string]schema.GroupVersionResource{
	"KWOKNodeClass": {Group: "karpenter.kwok.sh", Version: "v1alpha1", Resource: "kwoknodeclasses"},
	"NodePool":      {Group: "karpenter.sh", Version: "v1", Resource: "nodepools"},
	"Deployment":    deploymentResource,
}

// AskForNodes gives Karpenter the reason and the means to make the given number
// of nodes: the NodePool and KWOKNodeClass "default", and the Deployment
// "inflate", of whose pods each fills a node.
func (c *Client) AskForNodes(ctx context.Context, count int) error {
	for document := range bytes.SplitSeq(nodesManifest, []byte("\n---\n")) {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			return fmt.Errorf("parsing nodes.yaml, %w", err)
		}
		if object.GetKind() == "Deployment" {
			// Karpenter skips a NodePool that is not ready, and looks at the pods
			// that it could not place only ten seconds later again.
			if err := c.waitNodePool(ctx); err != nil {
				return err
			}
			if err := unstructured.SetNestedField(object.Object, int64(count), "spec", "replicas"); err != nil {
				return fmt.Errorf("setting replicas, %w", err)
			}
		}
		if err := c.apply(ctx, nodeResources[object.GetKind()], object); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) waitNodePool(ctx context.Context) error {
	return wait(ctx, "the NodePool "+nodePoolName+" to be ready", func(ctx context.Context) (bool, error) {
		object, err := c.dynamic.Resource(nodeResources["NodePool"]).Get(ctx, nodePoolName, metav1.GetOptions{})
		if err != nil {
			return false, fmt.Errorf("reading, %w", err)
		}
		conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
		if err != nil {
			return false, fmt.Errorf("reading conditions, %w", err)
		}
		for _, each := range conditions {
			condition, ok := each.(map[string]any)
			if ok && condition["type"] == "Ready" {
				return condition["status"] == "True", nil
			}
		}
		return false, nil
	})
}

// WaitNodes waits until at least count nodes of that NodePool are initialized
// by Karpenter and Ready, and tells how many there are so far.
func (c *Client) WaitNodes(ctx context.Context, count int, tell func(ready int)) error {
	most, since := -1, time.Now()
	for {
		ready, err := c.readyNodes(ctx)
		if err != nil {
			return err
		}
		if ready >= count {
			return nil
		}
		if ready > most {
			most, since = ready, time.Now()
			tell(ready)
		}
		if time.Since(since) > nodePatience {
			return fmt.Errorf("waiting for %d nodes, no more than %d were Ready and none came in %s", count, most, nodePatience)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d nodes, %w", count, ctx.Err())
		case <-time.After(nodeInterval):
		}
	}
}

func (c *Client) readyNodes(ctx context.Context) (int, error) {
	nodes, err := c.kubernetes.CoreV1().Nodes().List(ctx, metav1.ListOptions{
		LabelSelector:   karpenterv1.NodePoolLabelKey + "=" + nodePoolName + "," + karpenterv1.NodeInitializedLabelKey + "=true",
		ResourceVersion: "0", // as of the API server's cache, which is cheaper
	})
	if err != nil {
		return 0, fmt.Errorf("listing nodes, %w", err)
	}
	ready := 0
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	return ready, nil
}
