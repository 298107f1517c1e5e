// Command demo shows the main job on an embedded local cluster. In the first act two nodes break in different ways, the
// NodeClaims say so, the disruption budget admits one repair at a time, and an unmodified Karpenter replaces both. In
// the second, which needs root, an agent looks at a machine of its own whose network interface is taken down.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	o := options{}
	cmd := &cobra.Command{
		Use:           "demo",
		Short:         "Break two nodes of a local cluster and watch Karpenter replace them within the budget",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o, os.Stdout) },
	}
	cmd.Flags().StringVar(&o.json, "json", "", "also write what was seen, as JSON, to this file")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "leave the cluster up, and say how to look around in it; end it with: bin/localcluster --name=demo down")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up after this long, the start of the cluster not counted")
	return cmd
}

type options struct {
	json    string
	keep    bool
	timeout time.Duration
}
