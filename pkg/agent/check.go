package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/node"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// Check runs every detector for some time, at least until each has looked once, and gives what they see. Nothing is
// written anywhere.
func Check(ctx context.Context, h host.Host, configFile string, clk clock.WithTicker, wait time.Duration) ([]v1alpha1.Source, []v1alpha1.Finding, error) {
	config, err := LoadConfig(configFile)
	if err != nil {
		return nil, nil, err
	}
	detectors, err := node.All(h, clk, config.Detectors, config.Catalogue)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // names the option that is wrong
	}
	board := NewBoard()
	e := newEngine(engineOptions{
		engineParts: engineParts{detectors: detectors, catalogue: config.Catalogue}, clock: clk, board: board,
		metrics: NewMetrics(prometheus.NewRegistry()), log: slog.New(slog.DiscardHandler),
	}, State{}, "")
	looking, cancel := context.WithCancel(ctx)
	defer cancel()
	e.start(looking)
	select {
	case <-clk.After(wait):
	case <-ctx.Done():
	}
	select {
	case <-e.complete:
	case <-ctx.Done():
	}
	sources, findings := board.Read()
	return sources, findings, ctx.Err() //nolint:wrapcheck // only that it was interrupted
}
