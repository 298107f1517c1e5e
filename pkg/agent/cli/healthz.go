package cli

import (
	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
)

func newHealthz() *cobra.Command {
	var socket string
	command := &cobra.Command{
		Use:   "healthz",
		Short: "Ask the agent that runs here whether it lives; for the liveness probe",
		Long: "healthz asks over a unix socket, so that it answers also where the node's network is down to the loopback.\n" +
			"It exits with 0 where the agent lives, with 1 where it does not.",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return agent.Probe(command.Context(), socket) //nolint:wrapcheck // says what it did
		},
	}
	command.Flags().StringVar(&socket, "liveness-socket", defaultSocket, "the socket of agent run --liveness-socket")
	return command
}
