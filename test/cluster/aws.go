package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// AWSServiceAccount is that of controller-aws.
var AWSServiceAccount = client.ObjectKey{Namespace: ServiceAccount.Namespace, Name: ServiceAccount.Name + "-aws"}

// StartControllerAWS runs bin/controller-aws with the rights that the chart gives it, and with env, which is to keep it
// from AWS; it waits until it is ready.
func (c *Cluster) StartControllerAWS(ctx context.Context, env []string, args ...string) (*Program, error) {
	account := AWSServiceAccount
	rendered, err := RenderChart(ctx, "--set=aws.enabled=true", "--set=aws.clusterARN=arn:aws:eks:us-east-1:111122223333:cluster/mine")
	if err != nil {
		return nil, err
	}
	if err := c.applyThose(ctx, rendered, func(o *unstructured.Unstructured) bool {
		return o.GetName() == account.Name && o.GetKind() != "Deployment"
	}); err != nil {
		return nil, err
	}
	kubeconfig, err := c.kubeconfigOf(ctx, account, kubeconfigOptions{path: filepath.Join(c.Dir, "controller-aws.kubeconfig")})
	if err != nil {
		return nil, err
	}
	binary, err := Binary("controller-aws")
	if err != nil {
		return nil, err
	}
	_, probes, err := twoFreePorts()
	if err != nil {
		return nil, err
	}
	args = append([]string{
		fmt.Sprintf("--health-probe-bind-address=127.0.0.1:%d", probes), "--leader-election-namespace=" + account.Namespace,
	}, args...)
	cmd := exec.Command(binary, args...) //nolint:gosec // our own program
	cmd.Env = append(append(os.Environ(), env...), "KUBECONFIG="+kubeconfig)
	return startProgram(ctx, "controller-aws", filepath.Join(c.Dir, "logs", "controller-aws.log"), cmd, here, isReady(probes))
}
