// Package cli is the command line of the agent.
package cli

import (
	"github.com/spf13/cobra"
)

// New gives the agent's root command.
func New(version string) *cobra.Command {
	root := &cobra.Command{
		Use:           "agent",
		Short:         "State what is wrong with the node that it runs on",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newRun(), newCheck(), newHealthz(), newClassify(), newRules())
	return root
}
