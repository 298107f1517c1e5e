// Package periodic is the loop of controllers that look at everything once in a while.
package periodic

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// Run does a round at once, and then one each period, until the context ends. A round tells of its errors itself: the next
// one tries again.
func Run(ctx context.Context, clk clock.WithTicker, period time.Duration, round func(context.Context)) error {
	ticker := clk.NewTicker(period)
	defer ticker.Stop()
	for {
		round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}
