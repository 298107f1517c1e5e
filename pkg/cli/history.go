package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/sets"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func newHistory(o *Options) *cobra.Command {
	var since, nodePool string
	command := &cobra.Command{
		Use:   "history [NODE]",
		Short: "Show what has been repaired: cause, action, steps, outcome, evidence, and how often it helped",
		Long: "history shows the repairs that have ended, the newest first, and sums up how many succeeded and how long they took.\n" +
			"It shows what is still kept as NodeRepairs. With the name of a Node, a NodeClaim (gone ones too) or a NodeRepair it\n" +
			"tells of its repairs in full, with the evidence of the node that is gone.",
		Example: "  # everything that is kept\n  kubectl autorepair history\n\n" +
			"  # the last day of one NodePool, with the steps and evidence in brief\n  kubectl autorepair history --since 24h --nodepool default -o wide\n\n" +
			"  # why was this node replaced, and what did it look like?\n  kubectl autorepair history ip-10-0-0-1.ec2.internal",
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(command *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return o.completeNames(command.Context(), prefix, &v1alpha1.NodeRepairList{})
		},
		RunE: func(command *cobra.Command, args []string) error {
			from, err := parseSince(o.Clock.Now(), since)
			if err != nil {
				return err
			}
			cluster, err := o.Connect()
			if err != nil {
				return err
			}
			fleet, err := o.loadRepairs(command.Context(), cluster)
			if err != nil {
				return err
			}
			wanted, err := wantedRepairs(fleet.Repairs, args, nodePool)
			if err != nil {
				return err
			}
			history := historyOf(fleet.Now, fleet.Repairs, from, wanted)
			history.detailed, history.Gaps = len(args) > 0, fleet.Gaps
			o.TellGaps(fleet)
			return o.Print(history)
		},
	}
	flags := command.Flags()
	o.AddOutputFlag(flags)
	flags.StringVar(&since, "since", "", "only repairs that ended since then: a duration as 24h or 7d, or a time as 2030-01-31T18:00:00Z")
	flags.StringVar(&nodePool, "nodepool", "", "only repairs of nodes of this NodePool")
	must(command.RegisterFlagCompletionFunc("nodepool", func(command *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return o.completeNames(command.Context(), prefix, &karpv1.NodePoolList{})
	}))
	return command
}

// must ends the program for what only a mistake in it can bring about.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// parseSince reads how far back to look; zero for everything.
func parseSince(now time.Time, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	length, err := parseLength(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since=%q: write a duration as 24h or 7d, or a time as 2030-01-31T18:00:00Z", text)
	}
	return now.Add(-length), nil
}

// wantedRepairs says which repairs are asked for. A name that no repair speaks of is an error, which suggests those that
// are near.
func wantedRepairs(repairs []v1alpha1.NodeRepair, names []string, nodePool string) (func(*v1alpha1.NodeRepair) bool, error) {
	name := ""
	if len(names) > 0 {
		_, name = kindAndName(names[0])
	}
	wanted := func(r *v1alpha1.NodeRepair) bool {
		return (nodePool == "" || r.Spec.NodePool == nodePool) && (name == "" || slices.Contains(namesOfRepair(r), name))
	}
	known := sets.New[string]()
	for i := range repairs {
		known.Insert(namesOfRepair(&repairs[i])...)
	}
	if name == "" || known.Has(name) {
		return wanted, nil
	}
	return nil, fmt.Errorf("no repair is kept of it: %w", unknownName("Node, NodeClaim or NodeRepair", name, sets.List(known)))
}

// namesOfRepair are the names by which a repair is known: its own, and those of its node.
func namesOfRepair(repair *v1alpha1.NodeRepair) []string {
	out := []string{repair.Name, repair.Spec.NodeClaim.Name}
	if repair.Spec.NodeName != "" {
		out = append(out, repair.Spec.NodeName)
	}
	return out
}
