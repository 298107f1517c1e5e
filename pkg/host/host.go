// Package host reads the machine that the agent runs on: its files, logs, kernel records, mounts and links.
package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Host is the machine as it is seen below a root: "/" where the agent runs on the host itself, for example "/host"
// where a container mounts parts of it there, a folder of recorded files in tests.
type Host struct {
	root string
}

// New gives the host that is seen below root; empty is "/".
func New(root string) Host {
	if root == "" {
		root = "/"
	}
	return Host{root: filepath.Clean(root)}
}

// Path of a file of the host as this process reaches it, for example Path("var/log/messages").
func (h Host) Path(elements ...string) string {
	return filepath.Join(append([]string{h.root}, elements...)...)
}

// BootID of the running kernel, which changes with each boot.
func (h Host) BootID() (string, error) {
	text, err := os.ReadFile(h.Path("proc/sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("reading the boot ID, %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
