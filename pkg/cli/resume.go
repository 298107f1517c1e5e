package cli

import (
	"context"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newResume(o *Options) *cobra.Command {
	var others bool
	var consent Consent
	command := &cobra.Command{
		Use:   "resume [node NAME | nodepool NAME | policy NAME | everything]",
		Short: "End a pause, or show what is paused",
		Long: "resume undoes what pause has done, and nothing else: a RepairPolicy gets the mode back that it had, a pause that another\n" +
			"has set by other means is named and left. Before it writes it says which repairs will start. Without arguments it shows\n" +
			"what is paused, by whom, until when, and how that is ended.",
		Example: "  # what is paused?\n  kubectl autorepair resume\n\n" +
			"  # a node\n  kubectl autorepair resume node ip-10-0-0-1.ec2.internal\n\n" +
			"  # a NodePool, and a policy\n  kubectl autorepair resume nodepool default\n  kubectl autorepair resume policy default\n\n" +
			"  # everything that was paused by kubectl autorepair pause everything\n  kubectl autorepair resume everything",
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: o.completeTarget,
		RunE: func(command *cobra.Command, args []string) error {
			var what target
			if len(args) > 0 {
				var err error
				if what, err = parseTarget(args); err != nil {
					return err
				}
			}
			cluster, fleet, err := o.lookBefore(command.Context(), consent, Wanted{Pods: len(args) > 0, Karpenter: len(args) > 0})
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return o.printPaused(command.Context(), fleet)
			}
			change, err := planResume(command.Context(), fleet, what, others)
			if err != nil {
				return err
			}
			return o.carryOut(command.Context(), cluster, change, consent)
		},
	}
	flags := command.Flags()
	o.AddOutputFlag(flags)
	consent.addFlags(flags)
	flags.BoolVar(&others, "others", false, "of everything: end every RepairPause, not only that of kubectl autorepair pause")
	return command
}

// PausedList is everything that is paused.
type PausedList struct {
	At     metav1.Time `json:"at"`
	Paused []Paused    `json:"paused"`
}

// Sections are one table.
func (l *PausedList) Sections(bool) []Section {
	if len(l.Paused) == 0 {
		return []Section{{Lines: []string{"nothing is paused"}}}
	}
	return []Section{{Table: pausedTable(l.Paused)}}
}

func (o *Options) printPaused(ctx context.Context, fleet *Fleet) error {
	in, err := fleet.Input(ctx)
	if err != nil {
		return err
	}
	return o.Print(&PausedList{At: metav1.NewTime(fleet.Now), Paused: pausedOf(in, fleet.Policies)})
}
