// Package cli is kubectl autorepair: one file for each command. A command gathers (fleet.go), turns what it has gathered
// into a view, which is a pure function, and prints the view (print.go).
package cli

import (
	"github.com/spf13/cobra"
)

// commandName is how people call the program: kubectl finds the plugin kubectl-autorepair by it.
const commandName = "kubectl autorepair"

// commands are the makers of all commands, in the order in which the help lists them.
var commands = []func(*Options) *cobra.Command{newStatus, newExplain, newHistory, newSimulate, newRepair, newPause, newResume}

// NewRoot makes the command with all its subcommands.
func NewRoot(o *Options) *cobra.Command {
	root := &cobra.Command{
		Use:   "kubectl-autorepair",
		Short: "See which nodes are broken, what is done about them and why not, and have a say in it",
		Long: "kubectl autorepair shows which nodes Karpenter is asked to replace or reboot because they are broken, what stands in\n" +
			"the way of the others, and what has been repaired. With it repairs are asked for, paused and resumed.\n\n" +
			"To look it needs to read NodePools, NodeClaims, Nodes and the kinds of autorepair.sh; what it may not read it names.",
		Example: "  # the fleet in one screen\n  kubectl autorepair status\n\n" +
			"  # why is this node not repaired?\n  kubectl autorepair explain ip-10-0-0-1.ec2.internal\n\n" +
			"  # what has been repaired today, and how often it helped\n  kubectl autorepair history --since 24h\n\n" +
			"  # replace a node\n  kubectl autorepair repair ip-10-0-0-1.ec2.internal\n\n" +
			"  # no repairs for an hour\n  kubectl autorepair pause everything --for 1h",
		Version:           o.Version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: commandName},
		PersistentPreRunE: func(*cobra.Command, []string) error { return o.checkOutput() },
	}
	root.SetIn(o.In)
	root.SetOut(o.Out)
	root.SetErr(o.ErrOut)
	o.Config.AddFlags(root.PersistentFlags())
	for _, command := range commands {
		made := command(o)
		root.AddCommand(made)
		if made.Flags().Lookup("output") != nil {
			must(made.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(Formats, cobra.ShellCompDirectiveNoFileComp)))
		}
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	explainCompletion(root)
	return root
}
