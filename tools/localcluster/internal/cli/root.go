// Package cli is the command line of localcluster.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/layout"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/linked"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/progress"
)

const (
	nameVariable = "LOCALCLUSTER_NAME"
	dirVariable  = "LOCALCLUSTER_DIR"

	runPart = "run-part"
)

// errIncomplete ends "status" with exit code 1 and no further words.
var errIncomplete = errors.New("the cluster is not complete")

// program is what all commands share.
type program struct {
	name, dir string
	out, err  io.Writer
}

// Main runs a command line and returns its exit code.
func Main(args []string, out, errOut io.Writer) int {
	if len(args) > 1 && args[0] == runPart {
		return linked.Run(args[1], args[2:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	hideLinkedFlags()
	root := newRoot(&program{out: out, err: errOut})
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	if err := root.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errIncomplete) {
			fmt.Fprintf(errOut, "Error: %v\n", err)
		}
		return 1
	}
	return 0
}

// hideLinkedFlags keeps the flags that the linked programs register globally,
// such as --version, off our own commands.
func hideLinkedFlags() {
	pflag.CommandLine = pflag.NewFlagSet("localcluster", pflag.ContinueOnError)
}

func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "localcluster",
		Short: "A real Kubernetes control plane with Karpenter and kwok, as processes on loopback",
		Long: `localcluster runs etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok
and an unmodified Karpenter with its kwok provider as plain processes on loopback.

All that a cluster needs is kept in one directory, ` + layout.StateDirectory + `/NAME under the repository
root, so that several clusters run side by side.`,
		Example: `  localcluster up --nodes 10
  localcluster kubectl get nodes
  export KUBECONFIG=$(localcluster kubeconfig)
  localcluster down`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&p.name, "name", os.Getenv(nameVariable),
		"which cluster, "+layout.DefaultName+" if not given (also "+nameVariable+")")
	root.PersistentFlags().StringVar(&p.dir, "dir", os.Getenv(dirVariable),
		"the cluster's directory, in place of a name (also "+dirVariable+")")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf(`%w; "%s --help" lists the flags`, err, cmd.CommandPath())
	})
	root.AddCommand(
		newUp(p), newDown(p), newStatus(p), newKubeconfig(p), newKubectl(p),
		newStart(p), newStop(p), newRestart(p), newKill(p), newLogs(p),
	)
	return root
}

// cluster returns the cluster that the flags name.
func (p *program) cluster() (*cluster.Cluster, error) {
	repository, err := layout.FindRepository()
	if err != nil && p.dir == "" {
		return nil, err
	}
	dir, err := layout.ClusterDirectory(repository, p.dir, p.name)
	if err != nil {
		return nil, err
	}
	return &cluster.Cluster{Directory: dir, Repository: repository, Progress: progress.New(p.err)}, nil
}
