package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/install"
)

// makeNodes has Karpenter make nodes by giving it as many pods, each of which
// fills one, and waits until they are Ready.
func (c *Cluster) makeNodes(ctx context.Context, count int) error {
	if c.state.Karpenter.Mode == KarpenterNone {
		return errors.New("--nodes needs Karpenter, which makes the nodes; use --karpenter=stock or drop --nodes")
	}
	client, err := install.NewClient(c.adminKubeconfig())
	if err != nil {
		return err
	}
	step := c.Progress.Begin("nodes", fmt.Sprintf("asking Karpenter for %d", count))
	if err := client.AskForNodes(ctx, count); err != nil {
		step.Failed()
		return err
	}
	err = client.WaitNodes(ctx, count, func(ready int) { step.Update("%d of %d Ready", ready, count) })
	if err != nil {
		step.Failed()
		return errors.Join(fmt.Errorf("%w, Karpenter's log is %s", err, c.logPath(Karpenter)), c.checkAlive(PartNames()...))
	}
	step.Done("%d Ready", count)
	return nil
}
