// Command controller runs the controller beside an unmodified Karpenter.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	controllerruntime "sigs.k8s.io/controller-runtime"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/operator"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/version"
)

func main() {
	if err := newCommand().ExecuteContext(controllerruntime.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	options := operator.Options{}
	command := &cobra.Command{
		Use:   "controller",
		Short: "Find broken nodes and replace them through Karpenter",
		Long: "controller runs beside an unmodified Karpenter. It finds broken nodes, says on their NodeClaims what is wrong,\n" +
			"and replaces them by RepairPolicies and within the disruption budgets of their NodePools.",
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			return operator.Run(command.Context(), options, command.Version)
		},
	}
	options.AddFlags(command.Flags())
	command.AddCommand(newCleanup(command.Version))
	return command
}
