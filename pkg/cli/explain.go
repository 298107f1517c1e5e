package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/explain"
)

func newExplain(o *Options) *cobra.Command {
	from := &source{}
	command := &cobra.Command{
		Use:   "explain NODE|NODECLAIM",
		Short: "Say why a node is repaired or not: what is wrong, what will be done when, and who can lift what stands in the way",
		Long: "explain says all that there is to say about one node and its NodeClaim: the findings with their age and evidence, the\n" +
			"facts that they make, the policy and the rule that match, how long the fault is still tolerated, everything that stands\n" +
			"in the way of the repair with who can lift it and how, what is known to happen next, and what has happened so far. It\n" +
			"thinks as the controller does, by the same code, and says where the controller has written something else on the\n" +
			"NodeClaim.\n\n" +
			"With --filename it explains a node of a recording (" + commandName + " simulate --record FILE), without a cluster.",
		Example: "  # why is this node not repaired?\n  kubectl autorepair explain ip-10-0-1-17.ec2.internal\n\n" +
			"  # the same by its NodeClaim, with what each finding means and what to do about it\n  kubectl autorepair explain default-x7k2p -o wide\n\n" +
			"  # which blockers, for a program\n  kubectl autorepair explain default-x7k2p -o json | jq -r '.blockers[].reason'\n\n" +
			"  # a node of a recording, at the time of the recording\n  kubectl autorepair explain default-x7k2p -f recording.json --now 2030-01-31T18:00:00Z",
		Args:              exactlyOne("a Node or NodeClaim"),
		ValidArgsFunction: o.completeMachine,
		RunE: func(command *cobra.Command, args []string) error {
			p, err := o.look(command.Context(), from)
			if err != nil {
				return err
			}
			explanation, err := p.explain(command.Context(), args[0])
			if err != nil {
				return err
			}
			o.tell(p)
			return o.Print(explanationView{Explanation: explanation, width: o.width()})
		},
	}
	flags := command.Flags()
	o.AddOutputFlag(flags)
	from.addFlags(flags)
	return command
}

// exactlyOne says what is wanted where cobra only counts.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		switch len(args) {
		case 1:
			return nil
		case 0:
			return fmt.Errorf("%s needs the name of %s: see %s %s --help", command.Name(), what, commandName, command.Name())
		default:
			return fmt.Errorf("%s takes one name, of %s, not %d", command.Name(), what, len(args))
		}
	}
}

// explain explains the machine of a name.
func (p *picture) explain(ctx context.Context, name string) (explain.Explanation, error) {
	if err := p.enough(); err != nil {
		return explain.Explanation{}, err
	}
	machine, err := p.Find(name)
	if err != nil {
		return explain.Explanation{}, err
	}
	if machine.NodeClaim == nil {
		return explain.Explanation{}, fmt.Errorf("node %s has no NodeClaim: it is none of Karpenter's, so nothing is done about it", machine.NodeName())
	}
	in, err := p.input(ctx)
	if err != nil {
		return explain.Explanation{}, err
	}
	about := explain.About{NodeClaim: machine.NodeClaim, Node: machine.Node, Repairs: p.Repairs}
	if c := p.Controller; c != nil {
		about.Controller = &explain.Controller{Namespace: c.Namespace, Holder: c.Holder, Renewed: c.Renewed.Time}
	}
	for i := range in.Nodes {
		if in.Nodes[i].NodeClaimUID == machine.NodeClaim.UID {
			about.Entry = in.Nodes[i]
		}
	}
	about.Decision = decisionOf(decision.Decide(in), machine.NodeClaim.UID)
	about.Health = p.healthOf(machine.NodeClaim.Status.NodeName)
	about.Diagnosis = diagnosis.Compile(p.Policies).Diagnose(p.Now, diagnosis.Subject{
		Name: machine.NodeClaim.Name, Labels: machine.NodeClaim.Labels, Health: about.Health,
	})
	return explain.Explain(p.Now, about), nil
}

// healthOf gives the NodeHealth of a Node; nil where there is none.
func (p *picture) healthOf(node string) *v1alpha1.NodeHealth {
	for i := range p.Health {
		if p.Health[i].Name == node {
			return &p.Health[i]
		}
	}
	return nil
}

func decisionOf(result decision.Result, nodeClaim types.UID) *decision.Decision {
	for i := range result.Decisions {
		if result.Decisions[i].Node.NodeClaimUID == nodeClaim {
			return &result.Decisions[i]
		}
	}
	return nil
}
