// Package layout knows where a local cluster keeps its files.
package layout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/mod/modfile"
)

const (
	// Module is the module whose checkout holds the clusters.
	Module = "github.com/autorepair-sh/karpenter-autorepair"
	// StateDirectory is the ignored directory under the repository root.
	StateDirectory = ".localcluster"
	// DefaultName is the cluster that is meant when none is named.
	DefaultName = "default"

	// reservedName is where the built binaries are, beside the clusters.
	reservedName = "bin"
)

// clusterName matches "default", "bench-1" and "pr_42", and nothing that
// leaves the state directory.
var clusterName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,39}$`)

// ErrNoRepository says that no checkout of this module encloses a directory.
var ErrNoRepository = errors.New("no checkout of " + Module + " found here or above; run localcluster inside it")

// Repository returns the root of the checkout that encloses one of the given
// directories, tried in order.
func Repository(from ...string) (string, error) {
	for _, dir := range from {
		for dir != "" {
			if isRoot(dir) {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", ErrNoRepository
}

// FindRepository looks upward from the working directory, then from where this
// binary lies.
func FindRepository() (string, error) {
	var from []string
	if dir, err := os.Getwd(); err == nil {
		from = append(from, dir)
	}
	if exe, err := os.Executable(); err == nil {
		from = append(from, filepath.Dir(exe))
	}
	return Repository(from...)
}

func isRoot(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && modfile.ModulePath(text) == Module
}

// ClusterDirectory returns the absolute directory of a cluster: dir if one is
// given, else the one of that name under the repository.
func ClusterDirectory(repository, dir, name string) (string, error) {
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("resolving --dir %s, %w", dir, err)
		}
		if abs == repository || abs == BinaryDirectory(repository) || abs == filepath.Join(repository, StateDirectory) {
			return "", fmt.Errorf("--dir %s holds other things, name a directory of its own such as %s", dir, filepath.Join(StateDirectory, DefaultName))
		}
		return abs, nil
	}
	if name == "" {
		name = DefaultName
	}
	if name == reservedName || !clusterName.MatchString(name) {
		return "", fmt.Errorf("%q is no cluster name, use up to 40 lower-case letters, digits, - and _, other than %q", name, reservedName)
	}
	if repository == "" {
		return "", ErrNoRepository
	}
	return filepath.Join(repository, StateDirectory, name), nil
}

// BinaryDirectory is where the binaries that "up" builds are kept for all
// clusters of a checkout.
func BinaryDirectory(repository string) string {
	return filepath.Join(repository, StateDirectory, reservedName)
}

// SourceDirectory is the module of this tool, from which Karpenter and kwok
// are built.
func SourceDirectory(repository string) string {
	return filepath.Join(repository, "tools", "localcluster")
}
