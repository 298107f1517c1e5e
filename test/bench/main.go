// Command bench measures speed and size on the local cluster, beside stock Karpenter in the same run.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	nodes, sick, large, links int
	json                      string
	agentOptions
	only   string
	window time.Duration
}

// figures are what was measured; seconds and MiB.
type figures struct {
	Nodes int `json:"nodes"`
	Sick  int `json:"sick"`
	// Ours and Stock: from the end of the toleration until all sick nodes are gone.
	OursSeconds  float64 `json:"oursSeconds"`
	StockSeconds float64 `json:"stockSeconds"`
	Ratio        float64 `json:"oursToStock"`
	// Latency from the write of a Node condition to the NodeClaim condition, as a watcher sees it.
	LatencyP50 float64 `json:"conditionSecondsP50"`
	LatencyP99 float64 `json:"conditionSecondsP99"`
	LatencyMax float64 `json:"conditionSecondsMax"`
	// Memory is the resident size of the controller by number of nodes.
	MemoryMiB map[int]float64 `json:"memoryMiB"`
	// Links is how soon an agent tells of a link; nil where it was not measured.
	Links *linkFigures `json:"links"`
	// Agent is what an agent costs its node.
	Agent  agentFigures   `json:"agent"`
	Storms []stormFigures `json:"storms"`
}

func command() *cobra.Command {
	o := options{}
	cmd := &cobra.Command{
		Use:           "bench",
		Short:         "Measure repairs, latency, the decision and memory, beside stock Karpenter",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	cmd.Flags().IntVar(&o.nodes, "nodes", 300, "nodes of the cluster")
	cmd.Flags().IntVar(&o.sick, "sick", 60, "nodes that turn sick at the same moment; stock Karpenter stops above 20 % of the nodes")
	cmd.Flags().IntVar(&o.large, "large", 1000, "nodes for the second measure of memory; 0 leaves it out")
	cmd.Flags().IntVar(&o.links, "links", 100, "how often a link is taken down before agents; 0 leaves it out")
	cmd.Flags().StringVar(&o.only, "only", "", "measure one thing only: agent, storm, or those storms whose repairer and name (ours: ..., stock: ...) REGEXP matches, as storm=REGEXP; empty for all but the storms, which take an hour")
	cmd.Flags().DurationVar(&o.window, "window", 10*time.Minute, "how long it takes in a storm until a person could act")
	cmd.Flags().StringVar(&o.json, "json", "", "also write the figures, as JSON, to this file")
	o.agentOptions.addTo(cmd.Flags())
	return cmd
}

func run(ctx context.Context, o options) error {
	f := figures{Nodes: o.nodes, Sick: o.sick, MemoryMiB: map[int]float64{}}
	switch {
	case o.only == "" || o.only == onlyAgent:
		if err := measureAgent(ctx, o.agentOptions, &f.Agent); err != nil {
			return fmt.Errorf("measuring the agent, %w", err)
		}
		printAgent(f.Agent)
	case !strings.HasPrefix(o.only, "storm"):
		return fmt.Errorf("--only=%q: write agent, storm or storm=REGEXP, or leave it out", o.only)
	}
	if o.only == "" {
		if err := measureRepairs(ctx, o, &f); err != nil {
			return err
		}
		print(f)
	}
	if strings.HasPrefix(o.only, "storm") {
		var err error
		if f.Storms, err = measureStorms(ctx, o); err != nil {
			return fmt.Errorf("measuring storms, %w", err)
		}
	}
	return write(f, o.json)
}

// write the figures to a file; an empty path is none.
func write(f figures, path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("writing figures, %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o600) //nolint:wrapcheck // names the file
}

func measureRepairs(ctx context.Context, o options, f *figures) error {
	say("The decision core (go test -bench):")
	bench := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=Decide", "-benchmem", "./pkg/decision")
	bench.Stdout, bench.Stderr = os.Stdout, os.Stderr
	if err := bench.Run(); err != nil {
		return fmt.Errorf("measuring the decision, %w", err)
	}
	var err error
	if o.links > 0 {
		if f.Links, err = measureLinks(ctx, o); err != nil {
			return fmt.Errorf("measuring links, %w", err)
		}
	}
	if f.OursSeconds, err = measureOurs(ctx, o, f); err != nil {
		return fmt.Errorf("measuring ours, %w", err)
	}
	if f.StockSeconds, err = measureStock(ctx, o); err != nil {
		return fmt.Errorf("measuring stock Karpenter, %w", err)
	}
	f.Ratio = f.OursSeconds / f.StockSeconds
	if o.large > 0 {
		if err := measureLarge(ctx, o, f); err != nil {
			return fmt.Errorf("measuring memory, %w", err)
		}
	}
	return nil
}

var began = time.Now()

func say(format string, args ...any) {
	fmt.Printf("%6.0f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
}

func print(f figures) {
	fmt.Printf("\n%d of %d nodes sick at once, budget 100%%, from the end of the toleration until all are gone:\n", f.Sick, f.Nodes)
	fmt.Printf("  ours   %6.1f s\n  stock  %6.1f s   (Karpenter 1.15, NodeRepair=true)\n  ratio  %6.2f\n", f.OursSeconds, f.StockSeconds, f.Ratio)
	fmt.Printf("From a Node condition to the NodeClaim condition at %d nodes:\n  p50 %.3f s, p99 %.3f s, max %.3f s\n", f.Nodes, f.LatencyP50, f.LatencyP99, f.LatencyMax)
	if a := f.Links; a != nil {
		fmt.Printf("From ip link set eth1 down (%d times) to the finding in the NodeHealth:\n  p50 %.3f s, p99 %.3f s, max %.3f s\n", a.Samples, a.FindingP50, a.FindingP99, a.FindingMax)
		fmt.Printf("and to the NodeClaim condition, beyond the %.0f s that it has to stand:\n  p50 %.3f s, p99 %.3f s, max %.3f s\n", a.Confirm, a.ConditionP50, a.ConditionP99, a.ConditionMax)
	}
	fmt.Println("Memory of the controller (resident):")
	for nodes, mib := range f.MemoryMiB {
		fmt.Printf("  %5d nodes  %5.0f MiB\n", nodes, mib)
	}
}
