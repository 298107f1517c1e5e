package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/mounts"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/xfs"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	xfsInterval = 10 * time.Minute
	// xfsMaxRecords bounds the work of one filesystem: two records for a free extent, a tenth of a second for a million.
	xfsMaxRecords = 20_000_000
	// xfsMaxFilesystems bounds how many are looked at.
	xfsMaxFilesystems = 64
	// xfsTimeLimit bounds one look.
	xfsTimeLimit = 5 * time.Second
	// xfsMinExtents: fewer free extents say nothing on average. A small filesystem, or one that is full, has few; that
	// one is full is the kubelet's to say (DiskPressure).
	xfsMinExtents = 256
	// xfsMinFree is the free share of the filesystem below which its free space is what is left over, short by nature.
	xfsMinFree = 0.01
)

// XFSFreeSpaceOptions of the detector of fragmented free space.
type XFSFreeSpaceOptions struct {
	// MinAverageBlocks is the mean length of free extents below which the free space counts as too fragmented, in
	// blocks. Default 16, as in the Amazon EKS Node Monitoring Agent: an XFS file of inodes needs 8 in a row.
	MinAverageBlocks float64 `json:"minAverageBlocks,omitempty"`
}

// XFSFreeSpace sees XFS filesystems whose free space is so fragmented that no files can be made though space is left.
type XFSFreeSpace struct {
	host    host.Host
	devices *Devices
	minimum float64
	// fragmented are the filesystems of the last look by major:minor: not to see one of them any more is no cure.
	fragmented map[string]bool
}

// NewXFSFreeSpace looks through devices.
func NewXFSFreeSpace(h host.Host, devices *Devices, o XFSFreeSpaceOptions) *XFSFreeSpace {
	minimum := o.MinAverageBlocks
	if minimum <= 0 {
		minimum = 16
	}
	return &XFSFreeSpace{host: h, devices: devices, minimum: minimum}
}

// Spec is the same for the whole life of the detector.
func (x *XFSFreeSpace) Spec() detector.Spec {
	return detector.Spec{Name: "xfs-free-space", Categories: []v1alpha1.Category{v1alpha1.CategoryStorage}, Interval: xfsInterval}
}

// xfsFilesystem is one that is mounted.
type xfsFilesystem struct {
	device string
	name   string
	ofNode bool
	points []string
}

// Look states the filesystems whose free extents are too short on average.
func (x *XFSFreeSpace) Look(ctx context.Context) (tracking.Look, error) {
	filesystems, err := x.devices.xfs()
	if err != nil {
		return tracking.Look{}, err
	}
	if len(filesystems) == 0 {
		return tracking.Look{}, detector.ErrNotPresent
	}
	ctx, cancel := context.WithTimeout(ctx, xfsTimeLimit)
	defer cancel()
	look := tracking.Look{}
	fragmented := map[string]bool{}
	var unseen []error
	for i, f := range filesystems {
		if i == xfsMaxFilesystems {
			unseen = append(unseen, fmt.Errorf("there are more than %d", xfsMaxFilesystems))
			break
		}
		free, err := x.free(ctx, f)
		if err != nil && x.fragmented[f.device] {
			return tracking.Look{}, err
		}
		if err != nil {
			unseen = append(unseen, err)
			continue
		}
		if x.isFragmented(free) {
			fragmented[f.device] = true
			look.Faults = append(look.Faults, x.fault(f, free))
		}
	}
	if len(unseen) == len(filesystems) {
		return tracking.Look{}, errors.Join(unseen...)
	}
	if len(unseen) > 0 {
		look.Degraded = health.Shorten(fmt.Sprintf("%d of %d XFS filesystems cannot be looked at: %v.", len(unseen), len(filesystems), unseen[0]), 512)
	}
	x.fragmented = fragmented
	return look, nil
}

func (x *XFSFreeSpace) free(ctx context.Context, f xfsFilesystem) (xfs.FreeSpace, error) {
	path, err := mounts.Reach(x.host, f.device, f.points)
	if err != nil {
		return xfs.FreeSpace{}, fmt.Errorf("reaching the filesystem %s at %s, %w", f.name, f.points[0], err)
	}
	return xfs.Free(ctx, path, uint64(x.minimum), xfsMaxRecords)
}

func (x *XFSFreeSpace) isFragmented(free xfs.FreeSpace) bool {
	if free.Extents < xfsMinExtents || float64(free.FreeBlocks) < xfsMinFree*float64(free.Blocks) {
		return false
	}
	return free.AverageBlocks() < x.minimum
}

func (x *XFSFreeSpace) fault(f xfsFilesystem, free xfs.FreeSpace) tracking.Fault {
	severity := v1alpha1.SeverityWarning
	if f.ofNode {
		severity = v1alpha1.SeverityFatal
	}
	return tracking.Fault{
		Reason:   health.ReasonXFSSmallAverageClusterSize,
		Subject:  health.Shorten(f.name, 253),
		Severity: severity,
		Message:  fmt.Sprintf("The free space of the XFS filesystem at %s lies in extents of fewer than %g blocks on average.", health.Shorten(f.points[0], 512), x.minimum),
		Evidence: []string{fmt.Sprintf("%.1f blocks on average, %d of %d blocks free", free.AverageBlocks(), free.FreeBlocks, free.Blocks)},
	}
}

// xfs gives the XFS filesystems that are mounted, those of the node first.
func (d *Devices) xfs() ([]xfsFilesystem, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fresh(); err != nil {
		return nil, err
	}
	byDevice := map[string]*xfsFilesystem{}
	var all []*xfsFilesystem
	for _, m := range d.table.Mounts {
		if m.Type != "xfs" {
			continue
		}
		f := byDevice[m.Device]
		if f == nil {
			f = &xfsFilesystem{device: m.Device, name: d.names[m.Device], ofNode: d.rank(m.Device) == 0}
			byDevice[m.Device] = f
			all = append(all, f)
		}
		f.points = append(f.points, m.Point)
	}
	slices.SortStableFunc(all, func(a, b *xfsFilesystem) int { return d.rank(a.device) - d.rank(b.device) })
	filesystems := make([]xfsFilesystem, len(all))
	for i, f := range all {
		slices.SortFunc(f.points, func(a, b string) int {
			if len(a) != len(b) {
				return len(a) - len(b)
			}
			return strings.Compare(a, b)
		})
		filesystems[i] = *f
	}
	return filesystems, nil
}
