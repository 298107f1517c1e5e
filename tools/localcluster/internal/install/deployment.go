package install

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const karpenterName = "karpenter"

// deploymentAnnotation explains the Deployment to whoever finds it.
const deploymentAnnotation = "localcluster/note"

var deploymentResource = appsv1.SchemeGroupVersion.WithResource("deployments")

// KarpenterDeployment says which Karpenter runs as a process.
type KarpenterDeployment struct {
	Namespace string
	// Version with its leading v.
	Version string
	// Environment as KEY=VALUE.
	Environment []string
}

// RecordKarpenterDeployment writes the Deployment from which others learn
// Karpenter's version and feature gates, as Karpenter's chart would name it. It
// has no replicas: Karpenter runs as a process beside the cluster.
func (c *Client) RecordKarpenterDeployment(ctx context.Context, karpenter KarpenterDeployment) error {
	selector := map[string]string{"app.kubernetes.io/name": karpenterName, "app.kubernetes.io/instance": karpenterName}
	labels := map[string]string{"app.kubernetes.io/version": strings.TrimPrefix(karpenter.Version, "v")}
	for key, value := range selector {
		labels[key] = value
	}
	container := corev1.Container{Name: "controller", Image: karpenterName + ":" + karpenter.Version}
	for _, entry := range karpenter.Environment {
		name, value, _ := strings.Cut(entry, "=")
		if name == "KUBECONFIG" {
			continue // a path of this machine
		}
		container.Env = append(container.Env, corev1.EnvVar{Name: name, Value: value})
	}
	return c.apply(ctx, deploymentResource, &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        karpenterName,
			Namespace:   karpenter.Namespace,
			Labels:      labels,
			Annotations: map[string]string{deploymentAnnotation: "a record only, Karpenter runs as a process outside the cluster"},
		},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(0)),
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{container}},
			},
		},
	})
}

// RemoveKarpenterDeployment removes the record.
func (c *Client) RemoveKarpenterDeployment(ctx context.Context, namespace string) error {
	err := c.kubernetes.AppsV1().Deployments(namespace).Delete(ctx, karpenterName, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("removing the record of Karpenter, %w", err)
	}
	return nil
}
