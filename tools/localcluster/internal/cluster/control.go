package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/process"
)

// Start starts parts that do not run, on the ports they had, and waits until
// they are ready.
func (c *Cluster) Start(ctx context.Context, names ...string) error {
	return c.onParts(ctx, names, func([]part) error {
		err := c.startParts(ctx, names...)
		if err == nil {
			err = c.waitParts(ctx, names...)
		}
		if errors.Is(err, errPortTaken) {
			return fmt.Errorf(`%w; "localcluster up" starts a new cluster on other ports`, err)
		}
		return err
	})
}

// Stop lets parts end by themselves, and kills those that do not in time.
func (c *Cluster) Stop(ctx context.Context, names ...string) error {
	return c.onParts(ctx, names, func(which []part) error {
		return c.endAndSave(c.gently(ctx), which...)
	})
}

// Kill ends parts as a crash would.
func (c *Cluster) Kill(ctx context.Context, names ...string) error {
	return c.onParts(ctx, names, func(which []part) error {
		return c.endAndSave(c.atOnce(ctx), which...)
	})
}

func (c *Cluster) endAndSave(how func(part, process.Record) error, which ...part) error {
	if err := c.end(how, which...); err != nil {
		return err
	}
	return c.save()
}

func (c *Cluster) onParts(ctx context.Context, names []string, do func([]part) error) error {
	var which []part
	for _, name := range names {
		p, err := findPart(name)
		if err != nil {
			return err
		}
		which = append(which, p)
	}
	return c.exclusively(ctx, func() error {
		if c.state.Phase == phaseNone {
			return fmt.Errorf("%s: %w", c.Directory, ErrNotUp)
		}
		for _, p := range which {
			if p.name == Karpenter && c.state.Karpenter.Mode == KarpenterNone {
				return fmt.Errorf(`this cluster runs without Karpenter, use "localcluster up --karpenter=%s"`, KarpenterStock)
			}
			if p.ofNode && c.state.RealNode == nil {
				return errors.New(`this cluster runs without a real node, use "localcluster up --real-node"`)
			}
		}
		return do(which)
	})
}
