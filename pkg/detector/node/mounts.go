package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/mounts"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	mountsInterval = 5 * time.Second
	// mountsPause is the least time between two wakes: a kubelet mounts and unmounts all day.
	mountsPause = 2 * time.Second
	// mountsMaxFaults bounds how many filesystems are named.
	mountsMaxFaults = 32
)

// Mounts sees filesystems that have become read-only. What is read-only from its mounting on is meant to be so.
type Mounts struct {
	host    host.Host
	clock   clock.Clock
	devices *Devices
	wake    chan struct{}
}

var (
	_ detector.Starter = &Mounts{}
	_ detector.Waker   = &Mounts{}
	_ detector.Resumer = &Mounts{}
)

// NewMounts looks through devices, which it keeps up to date.
func NewMounts(h host.Host, clk clock.Clock, devices *Devices) *Mounts {
	return &Mounts{host: h, clock: clk, devices: devices, wake: make(chan struct{}, 1)}
}

// Spec is the same for the whole life of the detector.
func (m *Mounts) Spec() detector.Spec {
	return detector.Spec{Name: "mounts", Categories: []v1alpha1.Category{v1alpha1.CategoryStorage}, Interval: mountsInterval}
}

// Start waits for changes of the mount table. Where it cannot, the looks still come at their interval.
func (m *Mounts) Start(ctx context.Context) {
	go func() {
		_ = mounts.Watch(ctx, m.host, func() {
			select {
			case m.wake <- struct{}{}:
			default:
			}
			select {
			case <-ctx.Done():
			case <-m.clock.After(mountsPause):
			}
		})
	}()
}

// Wake holds a value after the mount table has changed.
func (m *Mounts) Wake() <-chan struct{} {
	return m.wake
}

// Cursor is what the filesystems were like.
func (m *Mounts) Cursor() json.RawMessage {
	m.devices.mu.Lock()
	defer m.devices.mu.Unlock()
	text, err := json.Marshal(&m.devices.memory)
	if err != nil {
		return nil
	}
	return text
}

// Resume goes on with what the filesystems were like in this boot.
func (m *Mounts) Resume(cursor json.RawMessage, sameBoot bool) {
	var memory fsMemory
	if !sameBoot || json.Unmarshal(cursor, &memory) != nil {
		return
	}
	for device, record := range memory.Filesystems {
		if record == nil {
			delete(memory.Filesystems, device)
		}
	}
	m.devices.mu.Lock()
	defer m.devices.mu.Unlock()
	m.devices.memory = memory
}

// Look states the filesystems that do not take writes any more.
func (m *Mounts) Look(context.Context) (tracking.Look, error) {
	d := m.devices
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.refresh(); err != nil {
		return tracking.Look{}, err
	}
	look := tracking.Look{}
	if d.table.OwnOnly {
		look.Degraded = "The machine's mounts cannot be read, only those of the agent."
	}
	byDevice := map[string][]mounts.Mount{}
	var order []string
	for _, mount := range d.table.Mounts {
		if !mount.Persistent {
			continue
		}
		if byDevice[mount.Device] == nil {
			order = append(order, mount.Device)
		}
		byDevice[mount.Device] = append(byDevice[mount.Device], mount)
	}
	slices.SortStableFunc(order, func(a, b string) int { return d.rank(a) - d.rank(b) })
	named := map[string]bool{}
	for _, device := range order {
		why := d.readOnly(byDevice[device])
		// Two filesystems can have one name, such as one NFS export that is mounted twice with different options.
		if why == "" || named[d.names[device]] {
			continue
		}
		named[d.names[device]] = true
		if len(look.Faults) >= mountsMaxFaults {
			look.Degraded = fmt.Sprintf("More than %d filesystems are read-only; the others are not named.", mountsMaxFaults)
			break
		}
		look.Faults = append(look.Faults, d.fault(byDevice[device], why))
	}
	return look, nil
}

// rank puts the node's own filesystems first.
func (d *Devices) rank(device string) int {
	if _, ok := d.nodeDevices[device]; ok {
		return 0
	}
	return 1
}

// readOnly says why a filesystem counts as having become read-only; empty where it does not.
func (d *Devices) readOnly(all []mounts.Mount) string {
	first := all[0]
	switch {
	case first.Failed != "":
		return "it stopped taking writes after an error"
	case first.FilesystemReadOnly && d.wasWritable(first.Device):
		return "it was writable before"
	case first.FilesystemReadOnly && d.mountedWritable(all):
		return "it is mounted to be writable"
	}
	for path, at := range d.memory.Paths {
		// Only the node's own paths: read-only binds of a writable filesystem are everyday things elsewhere.
		if at.Device != first.Device || !at.Writable {
			continue
		}
		if now, ok := d.table.Of(path); ok && now.ReadOnly {
			return "its mount was writable before"
		}
	}
	return ""
}

// mountedWritable says whether a read-only filesystem is mounted to be writable, which is what ext4 before Linux 6.15,
// btrfs, FAT and others look like that made themselves read-only after an error. Of a network's filesystem it says
// nothing, nor of one whose device takes no writes.
func (d *Devices) mountedWritable(all []mounts.Mount) bool {
	first := all[0]
	if strings.HasPrefix(first.Device, "0:") && first.Type != "btrfs" && first.Type != "bcachefs" {
		return false
	}
	return slices.ContainsFunc(all, func(m mounts.Mount) bool { return !m.ReadOnly }) &&
		!mounts.WriteProtected(d.host, first.Device)
}

func (d *Devices) wasWritable(device string) bool {
	record := d.memory.Filesystems[device]
	return record != nil && record.Writable
}

func (d *Devices) fault(all []mounts.Mount, why string) tracking.Fault {
	first := all[0]
	point := d.nodeDevices[first.Device]
	severity := v1alpha1.SeverityFatal
	of := " of the node"
	if at, ok := d.table.Of(point); point != "" && ok {
		point = at.Point
	} else {
		point = slices.MinFunc(all, func(a, b mounts.Mount) int { return len(a.Point) - len(b.Point) }).Point
		severity, of = v1alpha1.SeverityWarning, d.user(all)
	}
	fault := tracking.Fault{
		Reason:   health.ReasonFilesystemReadOnly,
		Subject:  health.Shorten(d.names[first.Device], 253),
		Severity: severity,
		Message:  fmt.Sprintf("The %s filesystem%s at %s is read-only: %s.", first.Type, of, health.Shorten(point, 512), why),
	}
	for _, m := range all[:min(len(all), 5)] {
		fault.Evidence = append(fault.Evidence, health.Shorten(m.Line(), 512))
	}
	return fault
}

// user says whose a filesystem is that the node does not need itself.
func (d *Devices) user(all []mounts.Mount) string {
	root := d.options.kubeletRoot()
	for _, m := range all {
		if strings.HasPrefix(m.Point, root+"/pods/") || strings.HasPrefix(m.Point, root+"/plugins/") {
			return " of a pod's volume"
		}
	}
	return ""
}
