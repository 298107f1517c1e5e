package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Down ends the cluster's processes and removes its data; the logs stay until
// the next fresh start. Nothing to do is success.
func (c *Cluster) Down(ctx context.Context) error {
	if _, err := os.Stat(c.Directory); errors.Is(err, os.ErrNotExist) {
		// The directory may have been removed under running processes.
		return errors.Join(c.removeNode(ctx), c.end(c.briefly(ctx), parts...))
	}
	return c.exclusively(ctx, func() error {
		if err := c.removeNode(ctx); err != nil {
			return err
		}
		if err := c.end(c.briefly(ctx), parts...); err != nil {
			return err
		}
		return c.discard()
	})
}

// discard removes all but the logs, and the lock that is being held.
func (c *Cluster) discard() error {
	for _, path := range []string{
		c.etcdDirectory(), c.credentials().Directory(), c.kwokConfiguration(), c.auditPolicy(), c.adminKubeconfig(), c.statePath(),
	} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing the cluster's data, %w", err)
		}
	}
	c.state = state{}
	return nil
}
