package node

import (
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/mounts"
)

// FilesystemsOptions say which filesystems are the node's own, so that it cannot work without them.
type FilesystemsOptions struct {
	// KubeletRoot is the kubelet's root directory, without symbolic links. Default /var/lib/kubelet.
	KubeletRoot string `json:"kubeletRoot,omitempty"`
	// RuntimeRoots are where the container runtime keeps images and containers, without symbolic links. Default
	// /var/lib/containerd and /var/lib/docker.
	RuntimeRoots []string `json:"runtimeRoots,omitempty"`
}

func (o FilesystemsOptions) kubeletRoot() string {
	if o.KubeletRoot == "" {
		return "/var/lib/kubelet"
	}
	return o.KubeletRoot
}

// nodePaths are the paths that the node cannot work without, the root first.
func (o FilesystemsOptions) nodePaths() []string {
	runtime := o.RuntimeRoots
	if len(runtime) == 0 {
		runtime = []string{"/var/lib/containerd", "/var/lib/docker"}
	}
	return append([]string{"/", o.kubeletRoot()}, runtime...)
}

// fsStaleAfter is how old what is known of the mounts may be when a log line asks for it.
const fsStaleAfter = 2 * time.Second

// fsNamesKept is how old what is known of the devices below the node's filesystems may be.
const fsNamesKept = time.Minute

// Devices knows the filesystems of the machine, what they lie on, and since when they are mounted. It is safe for
// concurrent use.
type Devices struct {
	host    host.Host
	clock   clock.Clock
	options FilesystemsOptions

	mu          sync.Mutex
	readAt      time.Time
	err         error
	table       mounts.Table
	memory      fsMemory
	names       map[string]string // by major:minor
	nodeNames   map[string]bool   // block devices below the node's own filesystems
	nodeDevices map[string]string // major:minor of the node's own filesystems, and the first path that lies on it
	namedAt     time.Time         // when nodeNames was made
}

var fsController = regexp.MustCompile(`^nvme\d+$`)

// NewDevices reads nothing yet.
func NewDevices(h host.Host, clk clock.Clock, o FilesystemsOptions) *Devices {
	return &Devices{host: h, clock: clk, options: o}
}

// OfNode says whether a filesystem of the node's own (its root, the kubelet's, the runtime's) lies on the device:
// a partition, its disk, a slave of a mapped device or array, an NVMe controller. known is false where the machine
// has no such device or its mounts cannot be read.
func (d *Devices) OfNode(device string) (ofNode, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// What the agent has mounted itself does not say what the node needs.
	if d.fresh() != nil || d.table.OwnOnly {
		return false, false
	}
	if namespaces := mounts.Namespaces(d.host, device); len(namespaces) > 0 {
		for _, name := range namespaces {
			if d.nodeNames[name] {
				return true, true
			}
		}
		return false, true
	}
	// A controller that is gone has no namespaces any more; what is mounted still tells whose it was.
	if fsController.MatchString(device) {
		for name := range d.nodeNames {
			if strings.HasPrefix(name, device+"n") {
				return true, true
			}
		}
		return false, true
	}
	name, ok := mounts.ShortName(d.host, mounts.NamespaceOfPath(device))
	if d.nodeNames[name] || d.nodeNames[device] {
		return true, true
	}
	return false, ok
}

// Standing says whether the filesystem on the device is still the one that was mounted at a time, so that what broke
// it then still counts: false once it has been unmounted, also where it was mounted again since. A filesystem that
// was there when it was first looked at counts as mounted before. known is false where the mounts cannot be read.
func (d *Devices) Standing(device string, at time.Time) (standing, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fresh() != nil {
		return false, false
	}
	fs := d.find(device)
	if fs == nil {
		// It is not mounted, unless not all that is mounted is known.
		return false, !d.table.OwnOnly && len(d.memory.Filesystems) < fsMaxRecords
	}
	return !fs.Since.After(at), true
}

// MountedSince says whether a filesystem on the device is mounted, and was mounted after the time.
func (d *Devices) MountedSince(device string, at time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fresh() != nil {
		return false
	}
	fs := d.find(device)
	return fs != nil && fs.Since.After(at)
}

// Writable says whether a filesystem on the device is mounted and says of itself that it takes writes; XFS that has
// shut down says so too. known is false where it is not mounted or the mounts cannot be read.
func (d *Devices) Writable(device string) (writable, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fresh() != nil {
		return false, false
	}
	fs := d.find(device)
	if fs == nil {
		return false, false
	}
	for _, m := range d.table.Mounts {
		if m.Device == fs.Device {
			return !m.FilesystemReadOnly && m.Failed == "", true
		}
	}
	return false, false
}

func (d *Devices) find(device string) *fsRecord {
	name, ok := mounts.ShortName(d.host, device)
	if !ok {
		name = device
	}
	for majorMinor, known := range d.names {
		if known == name || majorMinor == device {
			return d.memory.Filesystems[majorMinor]
		}
	}
	return nil
}

// fresh reads the mounts again where what is known is old.
func (d *Devices) fresh() error {
	if !d.readAt.IsZero() && d.clock.Since(d.readAt) < fsStaleAfter {
		return d.err
	}
	return d.refresh()
}

// refresh reads the mounts now.
func (d *Devices) refresh() error {
	now := d.clock.Now()
	d.table, d.err = mounts.Read(d.host, d.options.nodePaths()...)
	d.readAt = now
	if d.err != nil {
		return d.err
	}
	appeared := d.memory.update(d.table, d.options.nodePaths(), now)
	d.name(appeared)
	return nil
}

// name keeps the names of the devices, of which only those that appeared are asked for.
func (d *Devices) name(appeared []mounts.Mount) {
	if d.names == nil {
		d.names = map[string]string{}
	}
	for _, m := range appeared {
		d.names[m.Device] = mounts.DeviceName(d.host, m)
	}
	for device := range d.names {
		if d.memory.Filesystems[device] == nil {
			delete(d.names, device)
		}
	}
	for _, m := range d.table.Mounts {
		// A record that came from before a restart has no name yet.
		if _, ok := d.names[m.Device]; !ok && d.memory.Filesystems[m.Device] != nil {
			d.names[m.Device] = mounts.DeviceName(d.host, m)
		}
	}
	nodeDevices := map[string]string{}
	for _, path := range d.options.nodePaths() {
		if m, ok := d.table.Of(path); ok && m.Persistent && nodeDevices[m.Device] == "" {
			nodeDevices[m.Device] = path
		}
	}
	// What lies below a mounted filesystem changes seldom (an array takes a spare), and asking for it costs more than the
	// mount table.
	if maps.Equal(nodeDevices, d.nodeDevices) && d.readAt.Sub(d.namedAt).Abs() < fsNamesKept {
		return
	}
	d.nodeDevices, d.namedAt = nodeDevices, d.readAt
	d.nodeNames = map[string]bool{}
	for device := range nodeDevices {
		for name := range mounts.Below(d.host, d.names[device]) {
			d.nodeNames[name] = true
		}
	}
}
