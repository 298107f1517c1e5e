package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// screenRows is how many rows of each table fit on one screen.
const screenRows = 12

func newStatus(o *Options) *cobra.Command {
	var watch, all bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the fleet in one screen: what is sick, what is repaired, what waits and why, what is paused",
		Long: "status shows how many nodes are sick, which are being repaired and how far that is, which wait and for what, which\n" +
			"NodePools, zones, instance types or images are suspect because many of their nodes are sick at once, and what has been\n" +
			"paused by whom and until when. Why a node waits is what the controller has written on its NodeClaim.",
		Example: "  # the fleet now\n  kubectl autorepair status\n\n" +
			"  # stay, and show every change\n  kubectl autorepair status --watch\n\n" +
			"  # everything there is to say, for a program\n  kubectl autorepair status -o json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, _ []string) error {
			cluster, err := o.Connect()
			if err != nil {
				return err
			}
			rows := screenRows
			if all {
				rows = 0
			}
			if watch {
				return o.watchStatus(command.Context(), cluster, rows)
			}
			fleet, err := o.Load(command.Context(), cluster, Wanted{Controller: true})
			if err != nil {
				return err
			}
			status, err := statusOf(command.Context(), fleet)
			if err != nil {
				return fmt.Errorf("reckoning the status, %w", err)
			}
			status.rows = rows
			o.TellGaps(fleet)
			return o.Print(status)
		},
	}
	flags := command.Flags()
	o.AddOutputFlag(flags)
	flags.BoolVarP(&watch, "watch", "w", false, "stay, and show every change")
	flags.BoolVar(&all, "all", false, fmt.Sprintf("show all rows of each table, not only the first %d", screenRows))
	return command
}
