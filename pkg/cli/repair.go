package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func newRepair(o *Options) *cobra.Command {
	var action string
	var consent Consent
	command := &cobra.Command{
		Use:   "repair NODE",
		Short: "Ask for a node to be replaced or rebooted, whether or not it is sick",
		Long: "repair asks for the repair of one node, by the annotation " + v1alpha1.RepairRequestAnnotation + " on it. The controller carries it out as it\n" +
			"does any other repair: within the disruption budget of the NodePool, unless somebody has paused it, and with a\n" +
			"replacement standing first. Tolerations, and the slow start of suspect domains, do not apply. NODE is the name of a Node\n" +
			"or of a NodeClaim. What stands in the way is told before anything is written.",
		Example: "  # replace it, and say first what that means\n  kubectl autorepair repair ip-10-0-0-1.ec2.internal\n\n" +
			"  # reboot it where Karpenter and its provider can\n  kubectl autorepair repair default-abcde --action Reboot\n\n" +
			"  # in a script\n  kubectl autorepair repair ip-10-0-0-1.ec2.internal --yes\n\n" +
			"  # would it be done, and what stands in the way?\n  kubectl autorepair repair ip-10-0-0-1.ec2.internal --dry-run=server",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeMachine,
		RunE: func(command *cobra.Command, args []string) error {
			wanted, err := parseAction(action)
			if err != nil {
				return err
			}
			cluster, fleet, err := o.lookBefore(command.Context(), consent, Wanted{Pods: true, PodsOf: args[0], Karpenter: true})
			if err != nil {
				return err
			}
			machine, err := fleet.Find(args[0])
			if err != nil {
				return err
			}
			change, err := planRepair(command.Context(), fleet, machine, wanted)
			if err != nil {
				return err
			}
			return o.carryOut(command.Context(), cluster, change, consent)
		},
	}
	flags := command.Flags()
	o.AddOutputFlag(flags)
	consent.addFlags(flags)
	flags.StringVar(&action, "action", string(v1alpha1.ActionReplace), "Replace or Reboot")
	must(command.RegisterFlagCompletionFunc("action", cobra.FixedCompletions(
		[]cobra.Completion{string(v1alpha1.ActionReplace), string(v1alpha1.ActionReboot)}, cobra.ShellCompDirectiveNoFileComp)))
	return command
}

func parseAction(text string) (v1alpha1.Action, error) {
	switch action := v1alpha1.Action(text); action {
	case v1alpha1.ActionReplace, v1alpha1.ActionReboot:
		return action, nil
	default:
		return "", fmt.Errorf("--action=%q: write %s or %s", text, v1alpha1.ActionReplace, v1alpha1.ActionReboot)
	}
}
