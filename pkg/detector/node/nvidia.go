package node

import (
	"context"
	"encoding/json"
	"fmt"
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
