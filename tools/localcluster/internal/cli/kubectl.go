package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/linked"
)

func newKubectl(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [arguments of kubectl]",
		Short: "Run kubectl against the cluster",
		Long: `kubectl runs the kubectl that is linked into localcluster, with the cluster's kubeconfig.
All arguments are kubectl's own, except --name and --dir directly after "kubectl" or before it.`,
		Example:            `  localcluster --name bench kubectl get nodes -o wide`,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			args, err := p.takeOwnFlags(args)
			if err != nil {
				return err
			}
			target, err := p.cluster()
			if err != nil {
				return err
			}
			kubeconfig, err := target.Kubeconfig()
			if err != nil {
				return err
			}
			if err := os.Setenv("KUBECONFIG", kubeconfig); err != nil {
				return fmt.Errorf("setting KUBECONFIG, %w", err)
			}
			linked.Kubectl(args)
			return nil
		},
	}
}

// takeOwnFlags takes --name and --dir from the front of kubectl's arguments.
func (p *program) takeOwnFlags(args []string) ([]string, error) {
	for len(args) > 0 {
		flag, value, joined := strings.Cut(args[0], "=")
		var target *string
		switch flag {
		case "--name":
			target = &p.name
		case "--dir":
			target = &p.dir
		default:
			return args, nil
		}
		args = args[1:]
		if !joined {
			if len(args) == 0 {
				return nil, fmt.Errorf("%s needs a value", flag)
			}
			value, args = args[0], args[1:]
		}
		*target = value
	}
	return args, nil
}

func newKubeconfig(p *program) *cobra.Command {
	var raw bool
	command := &cobra.Command{
		Use:     "kubeconfig",
		Short:   "Print the path of the administrator's kubeconfig",
		Example: `  export KUBECONFIG=$(localcluster kubeconfig)`,
		Args:    cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			target, err := p.cluster()
			if err != nil {
				return err
			}
			path, err := target.Kubeconfig()
			if err != nil {
				return err
			}
			if !raw {
				fmt.Fprintln(p.out, path)
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("reading kubeconfig, %w", err)
			}
			fmt.Fprint(p.out, string(text))
			return nil
		},
	}
	command.Flags().BoolVar(&raw, "raw", false, "print its content in place of its path")
	return command
}
