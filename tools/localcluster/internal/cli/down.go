package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newDown(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the cluster and remove its data; its logs stay",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			target, err := p.cluster()
			if err != nil {
				return err
			}
			if err := target.Down(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintf(p.err, "%s is down\n", target.Directory)
			return nil
		},
	}
}
