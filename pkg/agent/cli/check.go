package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

func newCheck() *cobra.Command {
	var root, config, output string
	var wait time.Duration
	command := &cobra.Command{
		Use:   "check",
		Short: "Run every detector once on this machine and show what it sees",
		Long: "check runs every detector on this machine, gives those that follow logs a moment to read them since the boot,\n" +
			"and shows what each sees. It needs no cluster and changes nothing. What an agent has to see several times or for\n" +
			"a while before it counts is shown as a Warning that is not confirmed yet.",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("--output=%q: write table or json", output)
			}
			fmt.Fprintf(command.ErrOrStderr(), "looking for %s ...\n", wait)
			sources, findings, err := agent.Check(command.Context(), host.New(root), config, clock.RealClock{}, wait)
			if err != nil {
				return err //nolint:wrapcheck // says what it did
			}
			if output == "json" {
				return printJSON(command.OutOrStdout(), sources, findings)
			}
			return printTable(command.OutOrStdout(), sources, findings)
		},
	}
	flags := command.Flags()
	flags.StringVar(&root, "host-root", "/", "where the host's files are")
	flags.StringVar(&config, "config", "", "configuration file; empty for the defaults")
	flags.StringVarP(&output, "output", "o", "table", "table or json")
	flags.DurationVar(&wait, "wait", 3*time.Second, "how long to look")
	return command
}

func printJSON(out io.Writer, sources []v1alpha1.Source, findings []v1alpha1.Finding) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(map[string]any{"sources": orEmpty(sources), "findings": orEmpty(findings)}) //nolint:wrapcheck // nothing to add
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func printTable(out io.Writer, sources []v1alpha1.Source, findings []v1alpha1.Finding) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SOURCE\tSTATE\tCATEGORIES\tFINDINGS\tWHY")
	for _, s := range sources {
		n := 0
		for _, f := range findings {
			if f.Source == s.Name {
				n++
			}
		}
		categories := make([]string, 0, len(s.Categories))
		for _, c := range s.Categories {
			categories = append(categories, string(c))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", s.Name, s.State, strings.Join(categories, ","), n, s.Message)
	}
	if len(findings) > 0 {
		fmt.Fprintln(table, "\nSEVERITY\tREASON\tSUBJECT\tSINCE\tCOUNT\tMESSAGE")
	}
	for _, f := range findings {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\n", f.Severity, f.Reason, f.Subject, f.Since.UTC().Format(time.RFC3339), f.Count, f.Message)
	}
	return table.Flush() //nolint:wrapcheck // nothing to add
}
