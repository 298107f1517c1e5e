package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/cluster"
)

func newStatus(p *program) *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster's parts; exit code 1 if one is not ready",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("--output=%s is unknown, use table or json", output)
			}
			target, err := p.cluster()
			if err != nil {
				return err
			}
			status, err := target.Status(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				err = writeStatusJSON(p.out, status)
			} else {
				err = writeStatusTable(p.out, status)
			}
			if err == nil && !status.Complete {
				return errIncomplete
			}
			return err
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return command
}

func writeStatusJSON(out io.Writer, status cluster.Status) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(status); err != nil {
		return fmt.Errorf("writing status, %w", err)
	}
	return nil
}

func writeStatusTable(out io.Writer, status cluster.Status) error {
	const mebibyte = 1 << 20
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PART\tSTATE\tPID\tMEMORY\tADDRESS")
	var total int64
	for _, part := range status.Parts {
		pid, memory, address := "-", "-", "-"
		if part.PID != 0 {
			pid = fmt.Sprint(part.PID)
			memory = fmt.Sprintf("%d MiB", part.ResidentBytes/mebibyte)
			total += part.ResidentBytes
		}
		if part.Address != "" {
			address = part.Address
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", part.Name, part.State, pid, memory, address)
	}
	fmt.Fprintf(table, "all\t%s\t\t%d MiB\t\n", completeness(status), total/mebibyte)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing status, %w", err)
	}
	return nil
}

func completeness(status cluster.Status) string {
	if status.Complete {
		return "up"
	}
	for _, part := range status.Parts {
		if part.State != cluster.StateDown {
			return "incomplete"
		}
	}
	return "down"
}
