package install

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"runtime"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	karpenterv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"
)

//go:embed realnode.yaml
var realNodeManifest []byte

var nodeClaimResource = schema.GroupVersionResource{Group: "karpenter.sh", Version: "v1", Resource: "nodeclaims"}

// providerPrefix is how the provider IDs of Karpenter's kwok provider begin; the name of the Node follows.
const providerPrefix = "kwok://"

// AskForRealNode creates the NodeClaim of the given name, for an instance that a real kubelet is to play, and gives the
// provider ID that Karpenter's kwok provider has for it and the name that the Node is to have.
//
// The provider would make the Node itself; its KWOKNodeClass has it wait for a year before it does, so that the kubelet
// is first, as it is on an instance of a cloud. And the provider marks the NodeClaim, and thereby the Node, as one that
// kwok is to play; that mark is taken away before there is a Node.
func (c *Client) AskForRealNode(ctx context.Context, name string) (node, providerID string, err error) {
	text := strings.NewReplacer("NAME", name, "ARCH", runtime.GOARCH).Replace(string(realNodeManifest))
	for document := range bytes.SplitSeq([]byte(text), []byte("\n---\n")) {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			return "", "", fmt.Errorf("parsing realnode.yaml, %w", err)
		}
		resource, ok := nodeResources[object.GetKind()]
		if !ok {
			resource = nodeClaimResource
		}
		if err := c.apply(ctx, resource, object); err != nil {
			return "", "", err
		}
	}
	claims := c.dynamic.Resource(nodeClaimResource)
	err = wait(ctx, "Karpenter to launch NodeClaim "+name, func(ctx context.Context) (bool, error) {
		claim, err := claims.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, fmt.Errorf("reading, %w", err)
		}
		providerID, _, err = unstructured.NestedString(claim.Object, "status", "providerID")
		return providerID != "" && claim.GetAnnotations()["kwok.x-k8s.io/node"] != "", err
	})
	if err != nil {
		return "", "", err
	}
	patch := []byte(`{"metadata":{"annotations":{"kwok.x-k8s.io/node":null}}}`)
	if _, err := claims.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return "", "", fmt.Errorf("taking the NodeClaim from kwok, %w", err)
	}
	return strings.TrimPrefix(providerID, providerPrefix), providerID, nil
}

// WaitRealNode waits until the Node is Ready, and initialized by Karpenter where that is asked for.
func (c *Client) WaitRealNode(ctx context.Context, name string, initialized bool) error {
	const patience = 4 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := "it is not there"
	for {
		node, err := c.kubernetes.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			return fmt.Errorf("reading Node %s, %w", name, err)
		}
		if err == nil {
			ready, why := readiness(node)
			if !ready {
				last = why
			} else if !initialized || node.Labels[karpenterv1.NodeInitializedLabelKey] == "true" {
				return nil
			} else {
				last = "Karpenter has not initialized it"
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for Node %s, %w: %s", name, ctx.Err(), last)
		case <-time.After(nodeInterval):
		}
	}
}

func readiness(node *corev1.Node) (bool, string) {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue, "not Ready: " + condition.Message
		}
	}
	return false, "it has no condition Ready"
}
