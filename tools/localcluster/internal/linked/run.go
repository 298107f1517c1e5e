// Package linked holds the programs that are part of this binary: etcd, the
// Kubernetes control plane and kubectl.
package linked

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	// What the Kubernetes commands themselves link beside their app packages.
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// The names under which Run knows the programs.
const (
	Etcd              = "etcd"
	APIServer         = "apiserver"
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
	Kubelet           = "kubelet"
	// InNode becomes another program, in the mount namespace of the real node.
	InNode = "in-node"
	// Service stands for the Service kubernetes.
	Service = "service"
)

// Run becomes one of the programs, with its own command line, and returns its
// exit code.
func Run(program string, args []string) int {
	if become, ok := ofNode[program]; ok {
		if err := become(args); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "Error:", err)
			return 1
		}
		return 0
	}
	var command *cobra.Command
	switch program {
	case Etcd:
		command = newEtcdCommand()
	case APIServer:
		command = apiserver.NewAPIServerCommand()
	case ControllerManager:
		command = controllermanager.NewControllerManagerCommand()
	case Scheduler:
		command = scheduler.NewSchedulerCommand()
	case Kubelet:
		command = kubelet.NewKubeletCommand(context.Background())
	default:
		_, _ = fmt.Fprintf(os.Stderr, "no program %q is linked in, use one of %s\n", program,
			strings.Join([]string{Etcd, APIServer, ControllerManager, Scheduler, Kubelet, InNode, Service}, ", "))
		return 2
	}
	command.SetArgs(args)
	return cli.Run(command)
}

// Kubectl becomes kubectl. It does not return if kubectl ends with an error.
func Kubectl(args []string) {
	// kubectl reads os.Args itself, to find its plugins.
	os.Args = slices.Concat([]string{"kubectl"}, args)
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}
