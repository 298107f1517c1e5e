package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// karpenterAWS is the module of Karpenter for AWS, with its chart.
const karpenterAWS = "github.com/aws/karpenter-provider-aws"

// karpenterAccount is what Karpenter's chart names everything after.
var karpenterAccount = client.ObjectKey{Namespace: "kube-system", Name: "karpenter"}

// StartKarpenterAWS runs bin/karpenter-aws as Karpenter's own chart would with these values (a file): with the rights and
// the environment that it gives the pod, and with env besides, which is to keep it from AWS. It waits until it is ready.
func (c *Cluster) StartKarpenterAWS(ctx context.Context, values string, env ...string) (*Program, error) {
	rendered, err := karpenterChart(ctx, values)
	if err != nil {
		return nil, err
	}
	if err := c.applyThose(ctx, rendered, func(o *unstructured.Unstructured) bool { return slices.Contains(installed, o.GetKind()) }); err != nil {
		return nil, err
	}
	if err := c.allowOwnerReferences(ctx); err != nil {
		return nil, err
	}
	deployment := &appsv1.Deployment{}
	if err := rendered.Into("Deployment", karpenterAccount.Name, deployment); err != nil {
		return nil, err
	}
	kubeconfig, err := c.kubeconfigOf(ctx, karpenterAccount, kubeconfigOptions{path: filepath.Join(c.Dir, "karpenter-aws.kubeconfig")})
	if err != nil {
		return nil, err
	}
	binary, err := Binary("karpenter-aws")
	if err != nil {
		return nil, err
	}
	metrics, probes, err := twoFreePorts()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary) //nolint:gosec // our own program
	cmd.Env = slices.Concat(os.Environ(), plainEnv(deployment.Spec.Template.Spec.Containers[0]), env, []string{
		"KUBECONFIG=" + kubeconfig, "SYSTEM_NAMESPACE=" + karpenterAccount.Namespace, "LEADER_ELECTION_NAMESPACE=" + karpenterAccount.Namespace,
		fmt.Sprintf("METRICS_PORT=%d", metrics), fmt.Sprintf("HEALTH_PROBE_PORT=%d", probes),
	})
	return startProgram(ctx, "karpenter-aws", filepath.Join(c.Dir, "logs", "karpenter-aws.log"), cmd, here, isReady(probes))
}

func karpenterChart(ctx context.Context, values string) (Rendered, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", karpenterAWS)
	cmd.Dir = root
	dir, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("finding the module %s, %w", karpenterAWS, err)
	}
	text, err := Helm(ctx, "template", karpenterAccount.Name, filepath.Join(string(bytes.TrimSpace(dir)), "charts", "karpenter"),
		"--namespace="+karpenterAccount.Namespace, "--values="+values)
	if err != nil {
		return nil, err
	}
	return readObjects(strings.NewReader(text))
}

// plainEnv are the variables of a container that do not depend on its pod.
func plainEnv(container corev1.Container) []string {
	var out []string
	for _, variable := range container.Env {
		if variable.ValueFrom == nil {
			out = append(out, variable.Name+"="+variable.Value)
		}
	}
	return out
}

// allowOwnerReferences gives Karpenter what its chart leaves out and the local cluster asks for, by an admission plugin
// that EKS does not run: the right to make objects that hold up the deletion of their owner.
func (c *Cluster) allowOwnerReferences(ctx context.Context) error {
	name := metav1.ObjectMeta{Name: "karpenter-owner-references"}
	for _, object := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: name, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{"karpenter.sh"}, Resources: []string{"nodepools/finalizers", "nodeclaims/finalizers"}, Verbs: []string{"update"},
		}}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: name, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name.Name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: karpenterAccount.Namespace, Name: karpenterAccount.Name}},
		},
	} {
		if err := c.Client.Create(ctx, object); client.IgnoreAlreadyExists(err) != nil {
			return fmt.Errorf("making %T %s, %w", object, name.Name, err)
		}
	}
	return nil
}
