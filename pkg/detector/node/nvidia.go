package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/pci"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// Reasons of the source nvidia; those of XIDs are made of their number.
const (
	ReasonNvidiaDoubleBitError      = "NvidiaDoubleBitError"
	ReasonNvidiaRowRemapFailure     = "NvidiaRowRemapFailure"
	ReasonNvidiaNVLinkError         = "NvidiaNVLinkError"
	ReasonNvidiaFabricError         = "NvidiaFabricError"
	ReasonNvidiaDeviceCountMismatch = "NvidiaDeviceCountMismatch"
	ReasonNvidiaPageRetirement      = "NvidiaPageRetirement"
	ReasonNvidiaPCIeError           = "NvidiaPCIeError"
	ReasonNvidiaPowerError          = "NvidiaPowerError"
	ReasonNvidiaThermalError        = "NvidiaThermalError"
)

const (
	// nvidiaInterval is longer than that of others: a look is some hundred calls of the driver on a machine with eight.
	nvidiaInterval = 30 * time.Second
	// nvidiaMost bounds the GPUs of a machine; the largest have sixteen.
	nvidiaMost = 64
	// nvidiaReplays in a minute that are no longer ordinary: the limit of the health watch of NVIDIA's DCGM.
	nvidiaReplays = 8
	// nvidiaFabricPatience is how long a GPU may take to join the fabric while the machine starts: our own choice.
	nvidiaFabricPatience = 10 * time.Minute
)

// nvidiaLibraries below the host root, after the loader's own search: the driver container of NVIDIA's GPU operator,
// then the folders of distributions.
var nvidiaLibraries = []string{
	"run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "run/nvidia/driver/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
	"run/nvidia/driver/usr/lib64/libnvidia-ml.so.1",
	"usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1", "usr/lib64/libnvidia-ml.so.1",
}

// nvidiaFatalXIDs are the codes after which a GPU does not go on without a reset or a replacement, by their number
// alone (NVIDIA's XID catalogue). Those that depend on what the kernel's line says besides are not among them.
var nvidiaFatalXIDs = map[uint64]bool{
	46: true, 48: true, 54: true, 62: true, 64: true, 74: true, 79: true, 95: true, 109: true, 110: true, 119: true,
	120: true, 136: true, 140: true, 142: true, 143: true, 151: true, 155: true, 156: true, 158: true,
}

// NvidiaOptions of the detector of NVIDIA's GPUs.
type NvidiaOptions struct {
	// Libraries are the paths of libnvidia-ml.so.1 below the host root that are tried after the loader's own search.
	// Empty: that of the GPU operator's driver container, then those of distributions.
	Libraries []string `json:"libraries,omitempty"`
	// XIDEvents takes XIDs from the driver too. Only for nodes whose kernel log cannot be read, which tells them better.
	XIDEvents bool `json:"xidEvents,omitempty"`
	// ReleaseDriver lets go of the driver after each look, so that it can be unloaded or a GPU be reset meanwhile, at the
	// price of a slower look. It is of no use together with XIDEvents.
	ReleaseDriver bool `json:"releaseDriver,omitempty"`
	// PCIeReplaysPerMinute that are still ordinary; 0: 8, the limit of the health watch of NVIDIA's DCGM.
	PCIeReplaysPerMinute int `json:"pcieReplaysPerMinute,omitempty"`
	// Interval between looks; 0: 30 s.
	Interval metav1.Duration `json:"interval,omitempty"`
}

// nvidiaDriver is what the management library tells. Without cgo there is none.
type nvidiaDriver interface {
	// read may hang in the driver; it is never called twice at once.
	read() (nvidiaReading, error)
}

// nvidiaReading is what the driver tells of all GPUs at one moment.
type nvidiaReading struct {
	gpus []nvidiaGPU
	// excluded are addresses of GPUs that the driver was told to leave alone.
	excluded []string
	// unclear says what the driver would not tell although it should.
	unclear []string
	// hidden counts GPUs that the driver lists and does not let us open.
	hidden int
	events []nvidiaEvent
}

// nvidiaGPU is what the driver tells of one GPU; what it does not support is nil.
type nvidiaGPU struct {
	address string
	// lost says that the driver can no longer reach it.
	lost bool
	// partitioned says that it is in MIG mode, in which its links are off.
	partitioned bool
	// uncorrected memory errors since the driver was loaded.
	uncorrected *uint64
	remap       *nvidiaRemap
	retired     *nvidiaRetired
	links       []nvidiaLink
	fabric      *nvidiaFabric
	replays     *uint64
	slowdown    *nvidiaSlowdown
}

// nvidiaRemap is what GPUs from Ampere on do with broken memory.
type nvidiaRemap struct {
	rows            int
	pending, failed bool
}

// nvidiaRetired is what earlier GPUs do with broken memory.
type nvidiaRetired struct {
	pages   int
	pending bool
}

type nvidiaLink struct {
	number int
	active bool
	// recoveries of the link since the driver was loaded.
	recoveries uint64
}

type nvidiaFabric struct {
	joining, failed bool
	status          string
}

type nvidiaSlowdown struct{ power, heat bool }

type nvidiaEvent struct {
	address string
	xid     uint64
}

// nothing says that the driver supports none of the checks.
func (g nvidiaGPU) nothing() bool {
	return g.uncorrected == nil && g.remap == nil && g.retired == nil && len(g.links) == 0 && g.fabric == nil && g.replays == nil && g.slowdown == nil
}

// Nvidia asks the driver of NVIDIA's GPUs, through its management library NVML, for what stands. XIDs are the kernel
// log's to tell.
type Nvidia struct {
	host    host.Host
	clock   clock.PassiveClock
	options NvidiaOptions
	driver  nvidiaDriver
	memory  nvidiaMemory
	before  map[string]nvidiaBefore
	// asked is the answer that a look before did not live to see.
	asked chan nvidiaAnswer
}

// nvidiaMemory is what a look leaves for those after it in the same boot.
type nvidiaMemory struct {
	// Links that have been active, by the address of the GPU, one bit each.
	Links map[string]uint64 `json:"links,omitempty"`
}

// nvidiaBefore are the counters of a GPU at the look before.
type nvidiaBefore struct {
	at         time.Time
	replays    *uint64
	broken     *int
	recoveries map[int]uint64
}

type nvidiaAnswer struct {
	reading nvidiaReading
	err     error
}

// NewNvidia makes the detector; the library is loaded at the first look, and only where there is a GPU.
func NewNvidia(h host.Host, clk clock.PassiveClock, o NvidiaOptions) *Nvidia {
	if len(o.Libraries) == 0 {
		o.Libraries = nvidiaLibraries
	}
	if o.PCIeReplaysPerMinute <= 0 {
		o.PCIeReplaysPerMinute = nvidiaReplays
	}
	if o.Interval.Duration <= 0 {
		o.Interval.Duration = nvidiaInterval
	}
	return newNvidia(h, clk, o, newNvidiaDriver(h, o))
}

func newNvidia(h host.Host, clk clock.PassiveClock, o NvidiaOptions, driver nvidiaDriver) *Nvidia {
	return &Nvidia{host: h, clock: clk, options: o, driver: driver, memory: nvidiaMemory{Links: map[string]uint64{}}, before: map[string]nvidiaBefore{}}
}

// Spec of the source nvidia.
func (n *Nvidia) Spec() detector.Spec {
	return detector.Spec{
		Name:       "nvidia",
		Categories: []v1alpha1.Category{v1alpha1.CategoryAcceleratedHardware},
		Interval:   n.options.Interval.Duration,
	}
}

// Cursor holds the GPUs that have been seen, and their links.
func (n *Nvidia) Cursor() json.RawMessage {
	return serviceCursor(n.memory)
}

// Resume with the GPUs that an earlier run in the same boot has seen, so that one that has gone since is missed.
func (n *Nvidia) Resume(cursor json.RawMessage, sameBoot bool) {
	var memory nvidiaMemory
	if sameBoot && json.Unmarshal(cursor, &memory) == nil && len(memory.Links) > 0 && len(memory.Links) <= nvidiaMost {
		n.memory = memory
	}
}

// Look compares what the PCI bus holds with what the driver tells. Without a GPU it is ErrNotPresent; with one and
// without the library an error.
func (n *Nvidia) Look(ctx context.Context) (tracking.Look, error) {
	devices, err := pci.Devices(n.host)
	if err != nil {
		return tracking.Look{}, fmt.Errorf("looking for NVIDIA GPUs, %w", err)
	}
	held := n.held(devices)
	if len(held) == 0 && len(n.memory.Links) == 0 {
		return tracking.Look{}, detector.ErrNotPresent
	}
	reading, err := n.ask(ctx)
	if err != nil {
		return tracking.Look{}, fmt.Errorf("asking the NVIDIA driver, %w", err)
	}
	if len(reading.gpus) == 0 && len(n.memory.Links) == 0 {
		return tracking.Look{}, fmt.Errorf("the NVIDIA driver shows none of %d GPUs: this process may not be allowed to open their devices", len(held))
	}
	return n.judge(held, reading), nil
}

// held are the addresses of the GPUs that the driver should show. One that is bound to another driver, as vfio-pci, has
// been given away, and is not missed.
func (n *Nvidia) held(devices []pci.Device) []string {
	var held []string
	for _, d := range devices {
		switch {
		case !d.IsNVIDIAGPU() || d.Virtual:
		case d.Driver == "nvidia" || d.Driver == "":
			held = append(held, d.Address)
		default:
			delete(n.memory.Links, d.Address)
		}
	}
	return held
}

// ask the driver without hanging with it. What a look before asked is waited for, and not asked twice.
func (n *Nvidia) ask(ctx context.Context) (nvidiaReading, error) {
	if n.asked != nil {
		select {
		case <-n.asked: // too old to be told
			n.asked = nil
		case <-ctx.Done():
			return nvidiaReading{}, fmt.Errorf("which has not answered an earlier look, %w", ctx.Err())
		}
	}
	asked, driver := make(chan nvidiaAnswer, 1), n.driver
	go func() { asked <- nvidiaAsk(driver) }()
	select {
	case answer := <-asked:
		return answer.reading, answer.err
	case <-ctx.Done():
		n.asked = asked
		return nvidiaReading{}, fmt.Errorf("which has not answered, %w", ctx.Err())
	}
}

// nvidiaAsk runs outside of what isolates a look, so a panic ends here.
func nvidiaAsk(driver nvidiaDriver) (answer nvidiaAnswer) {
	defer func() {
		if p := recover(); p != nil {
			answer = nvidiaAnswer{err: fmt.Errorf("which could not be read: %v", p)}
		}
	}()
	reading, err := driver.read()
	return nvidiaAnswer{reading: reading, err: err}
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
