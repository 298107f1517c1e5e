package cluster

import (
	"context"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/binaries"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/install"
)

// recordKarpenter writes the Deployment that tells what runs as a process, and
// returns Karpenter's version.
func (c *Cluster) recordKarpenter(ctx context.Context, client *install.Client) (string, error) {
	p, err := findPart(Karpenter)
	if err != nil {
		return "", err
	}
	path, err := c.binary(ctx, p)
	if err != nil {
		return "", err
	}
	version := binaries.ModuleVersion(path, binaries.Karpenter.Module)
	if version == "" {
		version = "v0.0.0"
	}
	return version, client.RecordKarpenterDeployment(ctx, install.KarpenterDeployment{
		Namespace:   karpenterNamespace,
		Version:     version,
		Environment: karpenterEnvironment(c),
	})
}
