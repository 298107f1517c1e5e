package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func newPause(o *Options) *cobra.Command {
	var length, until, reason string
	var consent Consent
	command := &cobra.Command{
		Use:   "pause (node NAME | nodepool NAME | policy NAME | everything)",
		Short: "Let no repair start: of a node, of a NodePool, under a RepairPolicy, or at all",
		Long: "pause stops repairs. Nothing new starts, and what has been fenced but not yet deleted is let go; findings and conditions\n" +
			"are written as before, and every NodeClaim that waits says who paused it and until when. With --for or --until the pause\n" +
			"lifts itself. A node is named by its Node or NodeClaim.",
		Example: "  # a node, for two hours\n  kubectl autorepair pause node ip-10-0-0-1.ec2.internal --for 2h\n\n" +
			"  # a NodePool, until a time\n  kubectl autorepair pause nodepool default --until 2030-01-31T18:00:00Z\n\n" +
			"  # a policy, until it is resumed\n  kubectl autorepair pause policy default\n\n" +
			"  # everything, and say why\n  kubectl autorepair pause everything --for 30m --reason 'network maintenance, ask @netops'",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: o.completeTarget,
		RunE: func(command *cobra.Command, args []string) error {
			target, err := parseTarget(args)
			if err != nil {
				return err
			}
			end, err := parseEnd(o.Clock.Now(), length, until)
			if err != nil {
				return err
			}
			cluster, fleet, err := o.lookBefore(command.Context(), consent, Wanted{})
			if err != nil {
				return err
			}
			change, err := planPause(command.Context(), fleet, pause{target: target, until: end, reason: reason})
			if err != nil {
				return err
			}
			return o.carryOut(command.Context(), cluster, change, consent)
		},
	}
	flags := command.Flags()
	o.AddOutputFlag(flags)
	consent.addFlags(flags)
	flags.StringVar(&length, "for", "", "how long it holds: a duration as 30m, 2h or 7d; without it and --until, until it is resumed")
	flags.StringVar(&until, "until", "", "when it ends: a time as 2030-01-31T18:00:00Z")
	flags.StringVar(&reason, "reason", "", "for those who find their nodes unrepaired (up to 256 characters; for everything only)")
	command.MarkFlagsMutuallyExclusive("for", "until")
	return command
}

// parseEnd reads when a pause ends, to the second; zero for never.
func parseEnd(now time.Time, length, until string) (time.Time, error) {
	switch {
	case length != "":
		d, err := parseLength(length)
		if err != nil {
			return time.Time{}, fmt.Errorf("--for: %w", err)
		}
		end := now.Add(d).UTC().Truncate(time.Second)
		if !end.After(now) {
			return time.Time{}, errors.New("--for: write at least 1s")
		}
		return end, nil
	case until != "":
		end, err := time.Parse(time.RFC3339, until)
		if err != nil {
			return time.Time{}, fmt.Errorf("--until=%q: write a time with its zone, for example 2030-01-31T18:00:00Z", until)
		}
		if !end.After(now) {
			return time.Time{}, fmt.Errorf("--until=%s has passed: it is %s", until, stamp(now))
		}
		return end.UTC().Truncate(time.Second), nil
	default:
		return time.Time{}, nil
	}
}
