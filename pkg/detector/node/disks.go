package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	disksInterval = 15 * time.Second
	// disksMaxControllers bounds how many controllers and arrays are looked at.
	disksMaxControllers = 256
	// disksResetMay is how long a controller may reset, connect or come up: the specification lets it take up to 127.5
	// seconds to become ready (CAP.TO), and the kernel waits as long.
	disksResetMay = 3 * time.Minute
	// disksDelayFor is how long processes must wait before it counts: a backup or a large image is soon over.
	disksDelayFor = 2 * time.Minute
)

// DisksOptions of the detector of disks.
type DisksOptions struct {
	// IODelayPercent is the share of the last minute in which every process that had work was waiting for storage, in
	// percent, from which that counts as IODelays. Default 80: our own choice.
	IODelayPercent float64 `json:"ioDelayPercent,omitempty"`
}

// Disks sees NVMe controllers that are gone or do not come back, arrays that have lost a disk, and processes that do
// little but wait for storage.
//
// For the waiting it reads the kernel's pressure stall information: one small file. The delay of each process
// (delayacct_blkio_ticks) is off by default since Linux 5.14, and costs a walk through all processes.
type Disks struct {
	host    host.Host
	devices *Devices
	percent float64
	// degradedArrays are those of the last look: not to be able to read the arrays is no cure.
	degradedArrays bool
}

// NewDisks looks through devices.
func NewDisks(h host.Host, devices *Devices, o DisksOptions) *Disks {
	percent := o.IODelayPercent
	if percent <= 0 {
		percent = 80
	}
	return &Disks{host: h, devices: devices, percent: percent}
}

// Spec is the same for the whole life of the detector.
func (d *Disks) Spec() detector.Spec {
	return detector.Spec{Name: "disks", Categories: []v1alpha1.Category{v1alpha1.CategoryStorage}, Interval: disksInterval}
}

// Look states the controllers and arrays that have failed, and whether processes wait.
func (d *Disks) Look(context.Context) (tracking.Look, error) {
	look := tracking.Look{}
	absent := 0
	for _, part := range []func(*tracking.Look) error{d.nvme, d.arrays, d.delays} {
		err := part(&look)
		if errors.Is(err, detector.ErrNotPresent) {
			absent++
			continue
		}
		if err != nil {
			return tracking.Look{}, err
		}
	}
	if absent == 3 {
		return tracking.Look{}, detector.ErrNotPresent
	}
	return look, nil
}

// disksControllerOf finds nvme1 in nvme1n1p1, /dev/nvme1n1 and nvme1c1n1.
var disksControllerOf = regexp.MustCompile(`^(?:/dev/)?(nvme\d+)(?:c\d+)?n\d+`)

func (d *Disks) nvme(look *tracking.Look) error {
	entries, err := os.ReadDir(d.host.Path("sys/class/nvme"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing NVMe controllers, %w", err)
	}
	// A controller that is gone leaves its mounts behind, even where it was the only one.
	mounted, gone, mountErr := d.devices.nvme()
	if len(entries) == 0 && len(gone) == 0 {
		return detector.ErrNotPresent
	}
	if mountErr != nil {
		return mountErr
	}
	for i, entry := range entries {
		if i == disksMaxControllers {
			look.Degraded = fmt.Sprintf("Only %d NVMe controllers are looked at.", disksMaxControllers)
			break
		}
		state, err := disksText(d.host.Path("sys/class/nvme", entry.Name(), "state"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue // it has just gone, or is older than Linux 4.11, which tells no state
		}
		if err != nil {
			return fmt.Errorf("reading the state of %s, %w", entry.Name(), err)
		}
		delete(gone, entry.Name())
		if fault := disksNVMeFault(entry.Name(), state, mounted[entry.Name()]); fault != nil {
			look.Faults = append(look.Faults, *fault)
		}
	}
	for _, controller := range disksSorted(gone) {
		look.Faults = append(look.Faults, tracking.Fault{
			Reason: health.ReasonNVMeControllerFailure, Subject: controller, Severity: disksSeverity(mounted[controller]),
			Message:  fmt.Sprintf("The NVMe controller %s is gone while its filesystem at %s is mounted.", controller, health.Shorten(gone[controller], 512)),
			Evidence: []string{"no device in sysfs"},
		})
	}
	return nil
}

// disksUse is who needs a controller: 0 nobody, 1 pods or others, 2 the node itself.
type disksUse int

const (
	disksUsed   disksUse = 1
	disksOfNode disksUse = 2
)

func disksSeverity(use disksUse) v1alpha1.Severity {
	if use == disksOfNode {
		return v1alpha1.SeverityFatal
	}
	// The volume of one pod, or a disk that nobody uses, is no reason to take the node from all others.
	return v1alpha1.SeverityWarning
}

func disksNVMeFault(controller, state string, use disksUse) *tracking.Fault {
	fault := &tracking.Fault{
		Reason: health.ReasonNVMeControllerFailure, Subject: controller, Severity: disksSeverity(use),
		Evidence: []string{"state: " + health.Shorten(state, 64)},
	}
	switch state {
	case "dead":
		fault.Message = fmt.Sprintf("The NVMe controller %s is dead.", controller)
	case "resetting", "connecting", "new":
		may := disksResetMay
		fault.ConfirmAfter = &may
		fault.Message = fmt.Sprintf("The NVMe controller %s does not come back from a reset.", controller)
	default:
		// live; and deleting is what a volume does that is detached as it should be.
		return nil
	}
	return fault
}

// nvme says who uses which NVMe controller, and gives those whose device is not in sysfs any more though one of its
// filesystems is mounted, with the mount point.
func (d *Devices) nvme() (used map[string]disksUse, gone map[string]string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fresh(); err != nil {
		return nil, nil, err
	}
	used, gone = map[string]disksUse{}, map[string]string{}
	note := func(name string, use disksUse) string {
		match := disksControllerOf.FindStringSubmatch(name)
		if match == nil {
			return ""
		}
		used[match[1]] = max(used[match[1]], use)
		return match[1]
	}
	for name := range d.nodeNames {
		note(name, disksOfNode)
	}
	for _, m := range d.table.Mounts {
		if !m.Persistent || strings.HasPrefix(m.Device, "0:") {
			continue
		}
		controller := note(d.names[m.Device], disksUsed)
		if controller == "" {
			continue
		}
		if _, err := os.Stat(d.host.Path("sys/dev/block", m.Device)); errors.Is(err, fs.ErrNotExist) && gone[controller] == "" {
			gone[controller] = m.Point
		}
	}
	if len(gone) > 0 {
		// Without sysfs nothing is gone; it cannot be seen.
		if _, err := os.Stat(d.host.Path("sys/dev/block")); err != nil {
			return nil, nil, fmt.Errorf("looking for block devices, %w", err)
		}
	}
	return used, gone, nil
}

func (d *Disks) arrays(look *tracking.Look) error {
	proc, err := procfs.NewFS(d.host.Path("proc"))
	if err != nil {
		return fmt.Errorf("opening proc, %w", err)
	}
	arrays, err := proc.MDStat()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.degradedArrays = false
		return detector.ErrNotPresent
	case err != nil && d.degradedArrays:
		return fmt.Errorf("reading RAID arrays, %w", err)
	case err != nil:
		look.Degraded = health.Shorten(fmt.Sprintf("The RAID arrays cannot be read: %v.", err), 512)
		return nil
	}
	d.degradedArrays = false
	for _, array := range arrays[:min(len(arrays), disksMaxControllers)] {
		why := disksArrayFault(array)
		if why == "" {
			continue
		}
		d.degradedArrays = true
		look.Faults = append(look.Faults, tracking.Fault{
			Reason: health.ReasonRAIDArrayFailure, Subject: health.Shorten(array.Name, 253),
			Message:  fmt.Sprintf("The %s array %s %s.", array.Type, health.Shorten(array.Name, 253), why),
			Evidence: []string{fmt.Sprintf("%s, %d of %d disks, %d failed", array.ActivityState, array.DisksActive, array.DisksTotal, array.DisksFailed)},
		})
	}
	if len(arrays) == 0 {
		return detector.ErrNotPresent
	}
	return nil
}

// disksArrayFault says what is wrong with an array; empty where nothing is. An array that is being rebuilt without a
// failed disk is on its way: a new RAID 5 begins like that.
func disksArrayFault(array procfs.MDStat) string {
	switch {
	case array.ActivityState == "broken":
		return "is broken"
	case array.DisksFailed > 0:
		return "has a failed disk"
	case array.ActivityState == "recovering" || array.ActivityState == "reshaping":
		return ""
	case array.DisksDown > 0:
		return "runs with fewer disks than it should"
	}
	return ""
}

func (d *Disks) delays(look *tracking.Look) error {
	proc, err := procfs.NewFS(d.host.Path("proc"))
	if err != nil {
		return fmt.Errorf("opening proc, %w", err)
	}
	pressure, err := proc.PSIStatsForResource("io")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) || (err == nil && pressure.Full == nil) {
		return detector.ErrNotPresent
	}
	if err != nil {
		return fmt.Errorf("reading how long processes wait for storage, %w", err)
	}
	if pressure.Full.Avg60 < d.percent {
		return nil
	}
	delay := disksDelayFor
	look.Faults = append(look.Faults, tracking.Fault{
		Reason:       health.ReasonIODelays,
		Message:      fmt.Sprintf("Processes wait for storage more than %g %% of the time.", d.percent),
		Evidence:     []string{fmt.Sprintf("pressure of io: full avg60=%.2f avg300=%.2f", pressure.Full.Avg60, pressure.Full.Avg300)},
		ConfirmAfter: &delay,
	})
	return nil
}

// disksText reads a small file of sysfs or proc.
func disksText(path string) (string, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	buffer := make([]byte, 256)
	n, err := f.Read(buffer)
	if n == 0 && err != nil {
		return "", err
	}
	return strings.TrimSpace(string(buffer[:n])), nil
}

func disksSorted(names map[string]string) []string {
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	return sorted
}
