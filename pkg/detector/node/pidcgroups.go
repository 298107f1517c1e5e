package node

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// pidCgroups are the cgroups that the node itself lives in, with systemd's names and with those that the kubelet
// gives without it. What one pod may have is its own affair, and not among them.
var pidCgroups = []string{
	"kubepods.slice", "kubepods",
	"system.slice", "system.slice/kubelet.service", "system.slice/containerd.service", "system.slice/docker.service",
	"runtime.slice", "runtime.slice/kubelet.service", "runtime.slice/containerd.service",
	"podruntime/runtime", "podruntime/kubelet", "podruntime.slice", "podruntime.slice/kubelet.service",
	"podruntime.slice/containerd.service", "kube.slice", "system.slice/k3s.service", "system.slice/rke2-server.service",
	"system.slice/rke2-agent.service",
}

// pidRoots are where the cgroups with the pids controller are: v1, v2 beside v1, and v2.
var pidRoots = []string{"sys/fs/cgroup/pids", "sys/fs/cgroup/unified", "sys/fs/cgroup"}

// cgroups compares the processes and threads of the node's own cgroups with their limits. A cgroup that is not there,
// or has no limit, says nothing.
func (p *Processes) cgroups(look *tracking.Look) error {
	for _, group := range pidCgroups {
		for _, root := range pidRoots {
			used, limit, err := p.pids(path.Join(root, group))
			if err != nil {
				return fmt.Errorf("reading the limit of processes of %s, %w", group, err)
			}
			if limit == 0 {
				continue
			}
			p.judge(look, processesLimit{subject: group, what: "The cgroup " + group, of: "its pids.max", used: used, limit: limit})
			break
		}
	}
	return nil
}

// pids gives the count and the limit of a cgroup; a limit of 0 where there is none.
func (p *Processes) pids(group string) (used, limit int64, err error) {
	text, err := disksText(p.host.Path(group, "pids.max"))
	// A cgroup may go while it is read.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return 0, 0, nil
	}
	if err != nil || text == "max" {
		return 0, 0, err
	}
	if limit, err = strconv.ParseInt(text, 10, 64); err != nil {
		return 0, 0, err
	}
	text, err = disksText(p.host.Path(group, "pids.current"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	used, err = strconv.ParseInt(text, 10, 64)
	return used, limit, err
}
