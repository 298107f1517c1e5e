package node

import (
	"context"
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/kmsg"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// KernelLogOptions are the settings of KernelLog. The zero value is the defaults.
type KernelLogOptions struct {
	// AllFacilities takes what programs write into the kernel's log for the kernel's own word. For tests alone: any
	// program that may write to /dev/kmsg could have the node replaced.
	AllFacilities bool `json:"allFacilities,omitempty"`
	// Accelerators says that the node has GPUs or the like, of which the kernel log tells. Default false.
	Accelerators bool `json:"accelerators,omitempty"`
	// Interval between looks; lines that mean something bring a look forward. Default 10s: our own choice.
	Interval metav1.Duration `json:"interval,omitzero"`
}

// KernelLogDevices knows what the devices are that the kernel log names; *Devices does.
type KernelLogDevices interface {
	// OfNode says whether a filesystem of the node's own lies on a device; known is false where that cannot be told.
	OfNode(device string) (ofNode, known bool)
	// Standing says whether the filesystem on a device is still the one that was mounted at a time.
	Standing(device string, at time.Time) (standing, known bool)
	// Writable says whether a filesystem on the device is mounted and takes writes.
	Writable(device string) (writable, known bool)
}

// KernelLog tells what the kernel writes into its log, since boot at the first start, so that faults that stay until the
// next boot are found again whatever became of the agent's own state.
type KernelLog struct {
	*logFollower
	host    host.Host
	options KernelLogOptions
	devices KernelLogDevices

	// Guarded by the lock of the sightings.
	position kmsg.Position // that was read
	reported kmsg.Position // that a look has told of
	standing kernelStanding
}

// NewKernelLog reads nothing before Start. Without devices all disks are somebody else's.
func NewKernelLog(h host.Host, clk clock.Clock, lines LogLines, devices KernelLogDevices, o KernelLogOptions) *KernelLog {
	return &KernelLog{
		logFollower: newLogFollower(clk, lines, health.StreamKmsg), host: h, options: o, devices: devices,
		standing: kernelStanding{host: h, devices: devices, since: map[logKey]time.Time{}},
	}
}

// Spec implements detector.Detector.
func (k *KernelLog) Spec() detector.Spec {
	categories := []v1alpha1.Category{v1alpha1.CategoryKernel, v1alpha1.CategoryNetworking, v1alpha1.CategoryStorage}
	if k.options.Accelerators {
		categories = append(categories, v1alpha1.CategoryAcceleratedHardware)
	}
	return detector.Spec{Name: health.StreamKmsg.Source(), Categories: categories, Interval: netInterval(k.options.Interval, 10*time.Second)}
}

// Start implements detector.Starter.
func (k *KernelLog) Start(ctx context.Context) { k.start(ctx, k.follow) }

// follow reads the log until that fails or ctx ends.
func (k *KernelLog) follow(ctx context.Context) error {
	reader, err := kmsg.Open(k.host, k.clock, kmsg.Options{AllFacilities: k.options.AllFacilities, After: k.position})
	if err != nil {
		return err
	}
	defer reader.Close()
	k.fail(nil)
	caughtUp := make(chan struct{})
	defer close(caughtUp)
	go func() {
		select {
		case <-reader.CaughtUp():
			k.isReady()
		case <-caughtUp:
		}
	}()
	lost := int64(0)
	for {
		record, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		lostBefore := lost
		lost = reader.Lost() + reader.Broken()
		k.take(record, reader.Position(), lost-lostBefore)
	}
}

func (k *KernelLog) take(record kmsg.Record, position kmsg.Position, lost int64) {
	k.sightings.mu.Lock()
	defer k.sightings.mu.Unlock()
	k.position = position
	k.sightings.lose(lost)
	k.sightings.take(record.At, record.Text)
}

// Look implements detector.Detector.
func (k *KernelLog) Look(ctx context.Context) (tracking.Look, error) {
	if err := k.read(ctx); err != nil {
		return tracking.Look{}, err
	}
	k.sightings.mu.Lock()
	defer k.sightings.mu.Unlock()
	now := k.clock.Now()
	look := k.sightings.drain(now)
	k.reported = k.position
	for i := range look.Sightings {
		s := &look.Sightings[i]
		s.Severity = k.severity(*s)
		k.standing.note(*s)
	}
	look.Sightings = append(look.Sightings, k.standing.ended(now)...)
	return look, nil
}

// severity is Warning where the device that a line names is not known to be the node's own.
func (k *KernelLog) severity(s tracking.Sighting) v1alpha1.Severity {
	if s.Recovered {
		return ""
	}
	if s.Reason == health.ReasonFilesystemReadOnly {
		// The mounts say whether it still is; the line alone is for people.
		return v1alpha1.SeverityWarning
	}
	reason, _ := k.sightings.lines.Reason(s.Reason)
	if !reason.OfNodeFilesystem && s.Reason != health.ReasonNVMeControllerFailure {
		return s.Severity
	}
	if k.devices != nil {
		if ofNode, known := k.devices.OfNode(s.Subject); known && ofNode {
			return s.Severity
		}
	}
	return v1alpha1.SeverityWarning
}

// kernelCursor is what a restarted agent needs to go on.
type kernelCursor struct {
	Position kmsg.Position        `json:"position"`
	Standing []kernelStandingItem `json:"standing,omitempty"`
}

// Cursor implements detector.Resumer: what the last look has told of.
func (k *KernelLog) Cursor() json.RawMessage {
	k.sightings.mu.Lock()
	defer k.sightings.mu.Unlock()
	return serviceCursor(kernelCursor{Position: k.reported, Standing: k.standing.items()})
}

// Resume implements detector.Resumer. The log of another boot is read from its start.
func (k *KernelLog) Resume(cursor json.RawMessage, sameBoot bool) {
	var c kernelCursor
	if !sameBoot || json.Unmarshal(cursor, &c) != nil {
		return
	}
	k.sightings.mu.Lock()
	defer k.sightings.mu.Unlock()
	k.position, k.reported = c.Position, c.Position
	k.standing.restore(c.Standing)
}
