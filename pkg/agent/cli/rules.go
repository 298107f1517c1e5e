package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

func newRules() *cobra.Command {
	var config, output string
	command := &cobra.Command{
		Use:   "rules",
		Short: "List every reason, what fires it and what it means",
		Long: "rules lists every reason that a finding can have, with its category and severity, how often it must be seen\n" +
			"before it counts, what ends it, what it means and what to do about it, and a sample of what fires it: a log line as it\n" +
			"is, or a sentence.\n" +
			"With --config it shows them as the configuration changes them.",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("--output=%q: write table or json", output)
			}
			settings, err := agent.LoadConfig(config)
			if err != nil {
				return err //nolint:wrapcheck // says what it did
			}
			list := reasonViews(settings.Catalogue)
			if output == "json" {
				encoder := json.NewEncoder(command.OutOrStdout())
				encoder.SetIndent("", "  ")
				encoder.SetEscapeHTML(false)
				return encoder.Encode(map[string]any{"reasons": list}) //nolint:wrapcheck // nothing to add
			}
			return printReasons(command.OutOrStdout(), list)
		},
	}
	flags := command.Flags()
	flags.StringVar(&config, "config", "", "configuration file; empty for the defaults")
	flags.StringVarP(&output, "output", "o", "table", "table or json")
	return command
}

// reasonView is a reason as people read it.
type reasonView struct {
	Reason   string            `json:"reason"`
	Category v1alpha1.Category `json:"category"`
	Severity v1alpha1.Severity `json:"severity"`
	// FatalFrom is when a Warning becomes Fatal.
	FatalFrom string `json:"fatalFrom,omitempty"`
	// OfNodeFilesystem: Fatal only on a filesystem of the node itself.
	OfNodeFilesystem bool     `json:"ofNodeFilesystem,omitempty"`
	Disabled         bool     `json:"disabled,omitempty"`
	Confirm          string   `json:"confirm"`
	Clears           string   `json:"clears"`
	Sources          []string `json:"sources"`
	Sample           string   `json:"sample"`
	Explanation      string   `json:"explanation"`
	Remedy           string   `json:"remedy,omitempty"`
	Threshold        string   `json:"threshold,omitempty"`
}

func reasonViews(catalogue *rules.Catalogue) []reasonView {
	reasons := catalogue.Reasons()
	out := make([]reasonView, 0, len(reasons))
	for _, r := range reasons {
		v := reasonView{
			Reason: r.Name, Category: r.Category, Severity: r.Severity, OfNodeFilesystem: r.OfNodeFilesystem, Disabled: catalogue.Off(r.Name),
			Confirm: r.Confirm.String(), Clears: r.Clears.String(), Sources: r.Sources, Sample: r.Sample,
			Explanation: r.Explanation, Remedy: r.Remedy, Threshold: r.Threshold,
		}
		if r.FatalFrom != nil {
			v.FatalFrom = r.FatalFrom.String()
		}
		out = append(out, v)
	}
	return out
}

func printReasons(out io.Writer, list []reasonView) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REASON\tCATEGORY\tSEVERITY\tCOUNTS AFTER\tENDS\tMEANING\tWHAT TO DO\tSAMPLE")
	for _, v := range list {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Reason, v.Category, v.severity(), v.Confirm, v.Clears, v.Explanation, v.Remedy, v.Sample)
	}
	return table.Flush() //nolint:wrapcheck // nothing to add
}

func (v reasonView) severity() string {
	text := string(v.Severity)
	switch {
	case v.Disabled:
		return "disabled"
	case v.FatalFrom != "":
		text += ", Fatal from " + v.FatalFrom
	}
	if v.OfNodeFilesystem {
		text += " (node's filesystems)"
	}
	return text
}
