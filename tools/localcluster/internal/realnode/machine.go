package realnode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const groupsRoot = "/sys/fs/cgroup"

// group of all pods of the node, in every hierarchy.
func (n Node) group() string { return "/localcluster-" + n.mark() }

// groups are the node's in each hierarchy.
func (n Node) groups() ([]string, error) {
	hierarchies, err := os.ReadDir(groupsRoot)
	if err != nil {
		return nil, fmt.Errorf("listing control groups, %w", err)
	}
	if _, err := os.Stat(filepath.Join(groupsRoot, "cgroup.controllers")); err == nil {
		return []string{filepath.Join(groupsRoot, n.group())}, nil
	}
	var groups []string
	for _, h := range hierarchies {
		if h.IsDir() { // not the links that name a hierarchy twice
			groups = append(groups, filepath.Join(groupsRoot, h.Name(), n.group()))
		}
	}
	return groups, nil
}

func (n Node) makeGroups() error {
	groups, err := n.groups()
	if err != nil {
		return err
	}
	for _, group := range groups {
		if err := os.MkdirAll(group, 0o755); err != nil {
			return fmt.Errorf("making a control group, %w", err)
		}
	}
	return nil
}

// KillPods ends every process of the node's pods, and returns when all are gone.
func (n Node) KillPods(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		left, err := n.signalPods(syscall.SIGKILL)
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ending the pods of the real node, %d processes are left, %w", left, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (n Node) signalPods(signal syscall.Signal) (int, error) {
	groups, err := n.groups()
	if err != nil {
		return 0, err
	}
	pids := map[int]bool{}
	for _, group := range groups {
		err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.Name() != "cgroup.procs" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil // gone in the meantime
			}
			for field := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
					pids[pid] = true
				}
			}
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("listing the node's processes, %w", err)
		}
	}
	for pid := range pids {
		_ = syscall.Kill(pid, signal) // gone is what it is to be
	}
	return len(pids), nil
}

// Remove takes away what of the node is outside of its directory, and that. It is called when its processes have ended.
func (n Node) Remove() error {
	if _, err := os.Stat(n.Directory); errors.Is(err, fs.ErrNotExist) && !n.isOurs(link) {
		return nil
	}
	if err := n.removeGroups(); err != nil {
		return err
	}
	if n.isOurs(link) {
		for _, each := range []string{bridge, link} {
			if linkExists(each) {
				if err := ip("link", "delete", each); err != nil {
					return err
				}
			}
		}
	}
	n.removePlaces()
	if err := os.RemoveAll(n.Directory); err != nil {
		return fmt.Errorf("removing the real node's files, %w", err)
	}
	return nil
}

func (n Node) removeGroups() error {
	groups, err := n.groups()
	if err != nil {
		return err
	}
	for _, group := range groups {
		var inside []string
		_ = filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				inside = append(inside, path)
			}
			return nil
		})
		for i := len(inside) - 1; i >= 0; i-- { // children first
			if err := removeGroup(inside[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeGroup waits for the kernel to have forgotten the last process, which takes it a moment.
func removeGroup(group string) error {
	var err error
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = syscall.Rmdir(group); err == nil || errors.Is(err, syscall.ENOENT) {
			return nil
		}
	}
	return fmt.Errorf("removing the control group %s, %w", group, err)
}

// Claim says where another cluster has a real node: the names and addresses of its links there are but once on a machine.
func (n Node) Claim() error {
	if !linkExists(link) || n.isOurs(link) {
		return nil
	}
	return fmt.Errorf("another local cluster has a real node on this machine, in %s: end it with localcluster --dir %[1]s down", alias(link))
}

// makeLinks makes the link with the node's addresses.
func (n Node) makeLinks() error {
	if linkExists(link) {
		return nil
	}
	for _, args := range [][]string{
		// A bridge without ports: every kernel that pods can be bridged on has one, and not all have dummies.
		{"link", "add", link, "type", "bridge"},
		{"link", "set", link, "alias", n.Owner},
		{"address", "add", Address + "/32", "dev", link},
		{"address", "add", ServiceAddress + "/32", "dev", link},
		{"link", "set", link, "up"},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

func linkExists(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name))
	return err == nil
}

// alias of a link: the directory of the cluster that it belongs to.
func alias(name string) string {
	text, err := os.ReadFile(filepath.Join("/sys/class/net", name, "ifalias"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func (n Node) isOurs(name string) bool { return linkExists(name) && alias(name) == n.Owner }

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("running ip %s, %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
