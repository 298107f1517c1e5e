// Package cluster starts, watches and ends the processes of one local cluster.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/binaries"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/credentials"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/layout"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/lock"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/process"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/progress"
)

// ErrNotUp says that there is no cluster in the directory.
var ErrNotUp = errors.New(`no cluster here, start one with "localcluster up"`)

// Cluster is one local cluster and its directory. Its methods may be called
// from one goroutine at a time; other processes are kept out by a lock.
type Cluster struct {
	// Directory holds all that the cluster needs, absolute.
	Directory string
	// Repository is the checkout from which binaries are built.
	Repository string
	// Progress tells what is going on.
	Progress *progress.Printer

	state    state
	binaries map[string]string
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() (string, error) {
	if err := c.load(); err != nil {
		return "", err
	}
	if c.state.Phase == phaseNone {
		return "", fmt.Errorf("%s: %w", c.Directory, ErrNotUp)
	}
	return c.adminKubeconfig(), nil
}

// LogFile is the path of the log of a part.
func (c *Cluster) LogFile(name string) (string, error) {
	if _, err := findPart(name); err != nil {
		return "", err
	}
	return c.logPath(name), nil
}

func (c *Cluster) credentials() credentials.Files {
	return credentials.In(filepath.Join(c.Directory, "credentials"))
}

func (c *Cluster) adminKubeconfig() string   { return filepath.Join(c.Directory, "kubeconfig") }
func (c *Cluster) etcdDirectory() string     { return filepath.Join(c.Directory, "etcd") }
func (c *Cluster) logDirectory() string      { return filepath.Join(c.Directory, "logs") }
func (c *Cluster) kwokConfiguration() string { return filepath.Join(c.Directory, "kwok.yaml") }

func (c *Cluster) logPath(part string) string { return filepath.Join(c.logDirectory(), part+".log") }

func (c *Cluster) owner(part string) process.Owner {
	return process.Owner{Directory: c.Directory, Part: part}
}

// exclusively runs do under the cluster's lock, with its state loaded.
func (c *Cluster) exclusively(ctx context.Context, do func() error) error {
	if err := os.MkdirAll(c.Directory, 0o700); err != nil {
		return fmt.Errorf("creating the cluster's directory, %w", err)
	}
	release, err := lock.Acquire(ctx, filepath.Join(c.Directory, "lock"), func() {
		c.Progress.Say("waiting, another localcluster command works on %s", c.Directory)
	})
	if err != nil {
		return err
	}
	defer release()
	if err := c.load(); err != nil {
		return err
	}
	return do()
}

// binary returns the program of a part, built if it must be.
func (c *Cluster) binary(ctx context.Context, p part) (string, error) {
	if path, ok := c.binaries[p.name]; ok {
		return path, nil
	}
	path, err := c.findBinary(ctx, p)
	if err != nil {
		return "", err
	}
	if c.binaries == nil {
		c.binaries = map[string]string{}
	}
	c.binaries[p.name] = path
	return path, nil
}

func (c *Cluster) findBinary(ctx context.Context, p part) (string, error) {
	if c.isLinked(p) {
		path, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("finding this binary, %w", err)
		}
		return path, nil
	}
	if p.name == Karpenter && c.state.Karpenter.Binary != "" {
		if _, err := os.Stat(c.state.Karpenter.Binary); err != nil {
			return "", fmt.Errorf("finding --karpenter-binary, %w", err)
		}
		return c.state.Karpenter.Binary, nil
	}
	if c.Repository == "" {
		return "", layout.ErrNoRepository
	}
	program := binaries.Kwok
	if p.name == Karpenter {
		program = binaries.Karpenter
	}
	builder := binaries.Builder{
		Source:   layout.SourceDirectory(c.Repository),
		Target:   layout.BinaryDirectory(c.Repository),
		Progress: c.Progress,
	}
	return builder.Ensure(ctx, program)
}
