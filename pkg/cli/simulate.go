package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/explain"
)

func newSimulate(o *Options) *cobra.Command {
	from := &source{}
	var policies []string
	var record string
	command := &cobra.Command{
		Use:   "simulate",
		Short: "Say which nodes the next pass of the controller repairs, in which order, and why not the others; for files as well",
		Long: "simulate decides as the controller does, by the same code, and changes nothing: which nodes are repaired now, in\n" +
			"which order, with which action, and everything that stands in the way of the others. It looks at the cluster, or with\n" +
			"--filename at files, which needs no cluster: Nodes, NodeClaims, NodePools, NodeHealths, RepairPolicies, NodeRepairs,\n" +
			"RepairPauses, Pods and PodDisruptionBudgets with their status, as kubectl get -o yaml prints them or --record writes\n" +
			"them. Manifests of RepairPolicies are completed and validated as by the API server.\n\n" +
			"With --policy it says what would be decided otherwise if RepairPolicies were applied: those of a name that is there take\n" +
			"the place of that one, others come beside.\n\n" +
			"With --record it writes what it looks at into a file for later: of each object only what decisions rest on, no Secret,\n" +
			"ConfigMap, environment, command or volume, and of pods only those of sick nodes.",
		Example: "  # what the next pass would do\n  kubectl autorepair simulate\n\n" +
			"  # what a new policy would change, before it is applied\n  kubectl autorepair simulate --policy new.yaml\n\n" +
			"  # record the cluster, and look at the recording as it stood then\n  kubectl autorepair simulate --record storm.json\n" +
			"  kubectl autorepair simulate -f storm.json --now 2030-01-31T18:00:00Z\n\n" +
			"  # manifests of a repository beside a recording\n  kubectl autorepair simulate -f storm.json --policy policies/ -o wide\n\n" +
			"  # recorded by kubectl\n  kubectl get nodes,nodeclaims,nodepools,nodehealths,repairpolicies,noderepairs,repairpauses -o yaml > cluster.yaml\n" +
			"  kubectl get pods,poddisruptionbudgets -A -o yaml | kubectl autorepair simulate -f cluster.yaml -f -",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, _ []string) error {
			switch {
			case record != "" && (len(from.files) > 0 || len(policies) > 0 || from.now != ""):
				return errors.New("--record writes what the cluster is now: leave out --filename, --policy and --now")
			case record != "":
				return o.record(command.Context(), record)
			case slices.Contains(from.files, stdin) && slices.Contains(policies, stdin):
				return errors.New("standard input can be read once: name a file for --filename or for --policy")
			}
			p, err := o.look(command.Context(), from)
			if err != nil {
				return err
			}
			view, err := o.simulate(command.Context(), p, policies)
			if err != nil {
				return err
			}
			o.tell(p)
			return o.Print(view)
		},
	}
	flags := command.Flags()
	o.AddOutputFlag(flags)
	from.addFlags(flags)
	flags.StringSliceVar(&policies, "policy", nil, "files or directories of RepairPolicies: say what they would change; - for standard input")
	flags.StringVar(&record, "record", "", "write what is looked at into this file, and do nothing else; - for standard output")
	return command
}

// simulate makes one pass, or with policies two, which it compares.
func (o *Options) simulate(ctx context.Context, p *picture, files []string) (View, error) {
	before, err := p.simulate(ctx)
	if err != nil || len(files) == 0 {
		return simulationView{Simulation: before, width: o.width()}, err
	}
	policies, warnings, err := o.readPolicies(files) //nolint:contextcheck // rules are reckoned, which nothing has to end
	if err != nil {
		return nil, err
	}
	p.warnings = append(p.warnings, warnings...)
	changed := p.with(policies)
	after, err := changed.simulate(ctx)
	if err != nil {
		return nil, err
	}
	return comparisonView{Comparison: explain.Compare(before, after), width: o.width()}, nil
}

func (p *picture) simulate(ctx context.Context) (explain.Simulation, error) {
	in, err := p.input(ctx)
	if err != nil {
		return explain.Simulation{}, err
	}
	return explain.Simulate(in, p.Policies), nil
}

// with gives the picture with other policies beside those that are there, or in their place.
func (p *picture) with(policies []v1alpha1.RepairPolicy) *picture {
	fleet := *p.Fleet
	fleet.Policies = slices.DeleteFunc(slices.Clone(p.Policies), func(there v1alpha1.RepairPolicy) bool {
		return slices.ContainsFunc(policies, func(policy v1alpha1.RepairPolicy) bool { return policy.Name == there.Name })
	})
	fleet.Policies = append(fleet.Policies, policies...)
	return &picture{Fleet: &fleet}
}
