package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// nvidiaFatalXIDs are the codes after which a GPU does not go on without a reset or a replacement, by their number
// alone (NVIDIA's XID catalogue). Those that depend on what the kernel's line says besides are not among them.
var nvidiaFatalXIDs = map[uint64]bool{
	46: true, 48: true, 54: true, 62: true, 64: true, 74: true, 79: true, 95: true, 109: true, 110: true, 119: true,
	120: true, 136: true, 140: true, 142: true, 143: true, 151: true, 155: true, 156: true, 158: true,
}

// judge what the driver told.
func (n *Nvidia) judge(held []string, reading nvidiaReading) tracking.Look {
	look := tracking.Look{}
	now := n.clock.Now()
	unclear := slices.Clone(reading.unclear)
	if reading.hidden > 0 {
		unclear = append(unclear, fmt.Sprintf("%d GPUs may not be opened", reading.hidden))
	}
	faults, doubts := n.missing(held, reading, len(unclear) > 0)
	look.Faults, unclear = faults, append(unclear, doubts...)
	before := make(map[string]nvidiaBefore, len(reading.gpus))
	for _, g := range reading.gpus {
		if g.lost {
			continue
		}
		if g.nothing() {
			unclear = append(unclear, "the GPU at "+g.address+" tells nothing of its health")
		}
		look.Faults = append(look.Faults, g.faults()...)
		look.Faults = append(look.Faults, n.linkFaults(g)...)
		look.Sightings = append(look.Sightings, n.rises(g, now)...)
		before[g.address] = g.before(now)
		n.remember(g)
	}
	n.before = before
	for _, e := range reading.events {
		look.Sightings = append(look.Sightings, e.sighting(now))
	}
	look.Degraded = strings.Join(unclear, "; ")
	return look
}

// missing are the GPUs that the machine holds, or held earlier in this boot, and that the driver does not show or has
// lost. Where some of what it shows is unclear, only what is known to be lost counts.
func (n *Nvidia) missing(held []string, reading nvidiaReading, unclear bool) (faults []tracking.Fault, doubts []string) {
	shown, lost := map[string]bool{}, map[string]bool{}
	for _, g := range reading.gpus {
		shown[g.address], lost[g.address] = true, g.lost
	}
	for _, address := range reading.excluded {
		shown[address] = true
	}
	expected := map[string]bool{}
	for _, address := range slices.Concat(held, slices.Collect(maps.Keys(n.memory.Links))) {
		expected[address] = true
	}
	for _, address := range slices.Sorted(maps.Keys(expected)) {
		_, known := n.memory.Links[address]
		var message string
		switch {
		case lost[address]:
			message = "The driver has lost the GPU at " + address + "."
		case shown[address] || unclear:
			continue
		case !slices.Contains(held, address):
			message = "The GPU at " + address + " has gone from the machine."
		case known || n.unclaimed(address):
			message = "The machine holds a GPU at " + address + " that the driver does not show."
		default:
			doubts = append(doubts, "the GPU at "+address+" has not been shown since boot: it may be hidden from this process")
			continue
		}
		faults = append(faults, tracking.Fault{
			Reason: ReasonNvidiaDeviceCountMismatch, Subject: address, Message: message,
			Evidence: []string{fmt.Sprintf("%d on the PCI bus, %d shown by the driver", len(held), len(reading.gpus))},
		})
	}
	return faults, doubts
}

// unclaimed says that the kernel's driver runs and has not taken the GPU, so that it is hidden from nobody.
func (n *Nvidia) unclaimed(address string) bool {
	claimed := n.host.Path("proc/driver/nvidia/gpus")
	if _, err := os.Stat(claimed); err != nil {
		return false
	}
	_, err := os.Stat(filepath.Join(claimed, address))
	return errors.Is(err, fs.ErrNotExist)
}

// faults that the driver states of the GPU.
func (g nvidiaGPU) faults() []tracking.Fault {
	var faults []tracking.Fault
	add := func(reason, what, evidence string) *tracking.Fault {
		faults = append(faults, tracking.Fault{Reason: reason, Subject: g.address, Message: "The GPU at " + g.address + " " + what + "."})
		fault := &faults[len(faults)-1]
		if evidence != "" {
			fault.Evidence = []string{evidence}
		}
		return fault
	}
	if g.uncorrected != nil && *g.uncorrected > 0 {
		add(ReasonNvidiaDoubleBitError, "has memory errors that could not be corrected", fmt.Sprintf("%d since the driver was loaded", *g.uncorrected))
	}
	if g.remap != nil && g.remap.failed {
		add(ReasonNvidiaRowRemapFailure, "could not replace a broken row of its memory", fmt.Sprintf("%d rows replaced before", g.remap.rows))
	}
	if (g.remap != nil && g.remap.pending) || (g.retired != nil && g.retired.pending) {
		add(ReasonNvidiaPageRetirement, "has broken memory that is put aside at its next reset", "")
	}
	if g.fabric != nil && g.fabric.failed {
		add(ReasonNvidiaFabricError, "could not join the fabric", g.fabric.status)
	}
	if g.fabric != nil && g.fabric.joining {
		// A GPU that is alone in a virtual machine may say so for ever, so it condemns no node.
		patience := nvidiaFabricPatience
		fault := add(ReasonNvidiaFabricError, "is still joining the fabric", "")
		fault.ConfirmAfter, fault.Severity = &patience, v1alpha1.SeverityWarning
	}
	if g.slowdown != nil && g.slowdown.power {
		add(ReasonNvidiaPowerError, "is slowed down by the power brake of the hardware", "")
	}
	if g.slowdown != nil && g.slowdown.heat {
		add(ReasonNvidiaThermalError, "is slowed down by the hardware because of heat", "")
	}
	return faults
}

// linkFaults are the links that were active in this boot and are not, and those that had to be recovered since the look
// before.
func (n *Nvidia) linkFaults(g nvidiaGPU) []tracking.Fault {
	if g.partitioned {
		return nil
	}
	var faults []tracking.Fault
	for _, l := range g.links {
		subject := fmt.Sprintf("%s link %d", g.address, l.number)
		recovered, known := n.before[g.address].recoveries[l.number]
		switch {
		case !l.active && n.memory.Links[g.address]&(1<<l.number) != 0:
			faults = append(faults, tracking.Fault{Reason: ReasonNvidiaNVLinkError, Subject: subject,
				Message: fmt.Sprintf("NVLink %d of the GPU at %s was active and is not.", l.number, g.address)})
		case l.active && known && l.recoveries > recovered:
			faults = append(faults, tracking.Fault{Reason: ReasonNvidiaNVLinkError, Subject: subject, Severity: v1alpha1.SeverityWarning,
				Message:  fmt.Sprintf("NVLink %d of the GPU at %s had to be recovered.", l.number, g.address),
				Evidence: []string{fmt.Sprintf("%d recoveries since the driver was loaded", l.recoveries)}})
		}
	}
	return faults
}

// rises of counters since the look before; the first value, and one that has gone back, are where counting begins.
func (n *Nvidia) rises(g nvidiaGPU, now time.Time) []tracking.Sighting {
	before, known := n.before[g.address]
	if !known {
		return nil
	}
	var sightings []tracking.Sighting
	add := func(reason, what, evidence string) {
		sightings = append(sightings, tracking.Sighting{Reason: reason, Subject: g.address, At: now,
			Message: "The GPU at " + g.address + " " + what + ".", Evidence: evidence})
	}
	if broken := g.broken(); broken != nil && before.broken != nil && *broken > *before.broken {
		add(ReasonNvidiaPageRetirement, "has put broken memory aside", fmt.Sprintf("%d before, %d now", *before.broken, *broken))
	}
	if g.replays != nil && before.replays != nil && *g.replays > *before.replays {
		rise := float64(*g.replays - *before.replays)
		if minutes := now.Sub(before.at).Minutes(); rise > float64(n.options.PCIeReplaysPerMinute)*minutes {
			add(ReasonNvidiaPCIeError, "repeats transmissions to the processor",
				fmt.Sprintf("%d in %s", *g.replays-*before.replays, now.Sub(before.at).Round(time.Second)))
		}
	}
	return sightings
}

// broken counts the rows or pages that have been put aside.
func (g nvidiaGPU) broken() *int {
	switch {
	case g.remap != nil:
		return &g.remap.rows
	case g.retired != nil:
		return &g.retired.pages
	default:
		return nil
	}
}

func (g nvidiaGPU) before(now time.Time) nvidiaBefore {
	before := nvidiaBefore{at: now, replays: g.replays, broken: g.broken(), recoveries: make(map[int]uint64, len(g.links))}
	for _, l := range g.links {
		before.recoveries[l.number] = l.recoveries
	}
	return before
}

// remember the GPU and its active links. In MIG mode the links are off by intent, so they are forgotten.
func (n *Nvidia) remember(g nvidiaGPU) {
	if _, known := n.memory.Links[g.address]; !known && len(n.memory.Links) >= nvidiaMost {
		return
	}
	active := n.memory.Links[g.address]
	if g.partitioned {
		active = 0
	}
	for _, l := range g.links {
		if l.active && !g.partitioned {
			active |= 1 << l.number
		}
	}
	n.memory.Links[g.address] = active
}

func (e nvidiaEvent) sighting(now time.Time) tracking.Sighting {
	kind := "Warning"
	if nvidiaFatalXIDs[e.xid] {
		kind = "Error"
	}
	return tracking.Sighting{
		Reason: fmt.Sprintf("NvidiaXID%d%s", e.xid, kind), Subject: e.address, At: now,
		Message: fmt.Sprintf("The driver reports XID %d of the GPU at %s.", e.xid, e.address), Evidence: fmt.Sprintf("XID %d", e.xid),
	}
}

// nothing says that the driver supports none of the checks.
func (g nvidiaGPU) nothing() bool {
	return g.uncorrected == nil && g.remap == nil && g.retired == nil && len(g.links) == 0 && g.fabric == nil && g.replays == nil && g.slowdown == nil
}
