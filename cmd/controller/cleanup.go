package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/operator"
)

func newCleanup(version string) *cobra.Command {
	options, grace := operator.Options{}, time.Duration(0)
	command := &cobra.Command{
		Use:   "cleanup",
		Short: "Take back what the controller has written on Nodes and NodeClaims, before it is uninstalled",
		Long: "cleanup pauses all repairs, waits until the controller has let go of those that can be let go, takes its lease\n" +
			"away, and removes fences and guards from Nodes, and conditions and protection from NodeClaims. The Helm chart runs\n" +
			"it as a hook of helm uninstall. RepairPolicies, NodeHealths and the history of repairs stay.",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return operator.Cleanup(command.Context(), options, grace, version)
		},
	}
	options.AddFlags(command.Flags())
	for _, other := range []string{
		"leader-elect", "metrics-bind-address", "health-probe-bind-address", "karpenter-version", "karpenter-node-repair",
		"reboot-providers", "node-conditions-config",
	} {
		_ = command.Flags().MarkHidden(other) // the controller's alone
	}
	command.Flags().DurationVar(&grace, "grace", time.Minute, "how long the controller is given to let go of repairs")
	return command
}
