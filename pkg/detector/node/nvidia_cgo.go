//go:build cgo

package node

import (
	"errors"
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// nvidiaEventsMost bounds the events that are taken in one look; the driver keeps the others.
const nvidiaEventsMost = 64

// nvidiaNVML is the driver as its management library tells it.
type nvidiaNVML struct {
	// libraries in the order in which they are tried. Each is loaded once, for one that cannot be used is not unloaded.
	libraries []nvml.Interface
	options   NvidiaOptions
	open      nvml.Interface
	events    nvml.EventSet
}

func newNvidiaDriver(h host.Host, o NvidiaOptions) nvidiaDriver {
	d := &nvidiaNVML{options: o, libraries: []nvml.Interface{nvml.New()}}
	for _, path := range o.Libraries {
		d.libraries = append(d.libraries, nvml.New(nvml.WithLibraryPath(h.Path(path))))
	}
	return d
}

// errNvidiaGone says that the driver has been unloaded, so that the library is opened anew at the next look.
var errNvidiaGone = errors.New("the driver has been unloaded")

func (d *nvidiaNVML) read() (nvidiaReading, error) {
	if err := d.load(); err != nil {
		return nvidiaReading{}, err
	}
	reading, err := d.gpus()
	if err != nil || d.options.ReleaseDriver {
		d.release()
	}
	return reading, err
}

func (d *nvidiaNVML) load() error {
	if d.open != nil {
		return nil
	}
	for _, library := range d.libraries {
		switch ret := library.Init(); ret {
		case nvml.SUCCESS:
			d.open = library
			return nil
		case nvml.ERROR_LIBRARY_NOT_FOUND:
		case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
			return errors.New("whose library libnvidia-ml.so.1 has another version: the driver was changed while this process ran")
		default:
			return fmt.Errorf("starting NVML, %w", ret)
		}
	}
	return errors.New("whose library libnvidia-ml.so.1 is not there")
}

func (d *nvidiaNVML) release() {
	if d.events != nil {
		_ = d.events.Free()
		d.events = nil
	}
	_ = d.open.Shutdown()
	d.open = nil
}

// has says whether the library, which may be older than this program, has a function. Calling one that it lacks would
// end the process.
func (d *nvidiaNVML) has(function string) bool {
	return d.open.Extensions().LookupSymbol(function) == nil
}

func (d *nvidiaNVML) gpus() (nvidiaReading, error) {
	count, ret := d.open.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nvidiaReading{}, fmt.Errorf("counting GPUs, %w", ret)
	}
	reading := nvidiaReading{excluded: d.excluded()}
	var devices []nvml.Device
	for i := range min(count, nvidiaMost) {
		device, ret := d.open.DeviceGetHandleByIndex(i)
		switch ret {
		case nvml.SUCCESS:
			reader := nvidiaReader{driver: d, device: device}
			if err := reader.read(&reading); err != nil {
				return nvidiaReading{}, err
			}
			devices = append(devices, device)
		case nvml.ERROR_NO_PERMISSION:
			reading.hidden++
		case nvml.ERROR_GPU_IS_LOST: // missed by its address
		case nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED:
			return nvidiaReading{}, errNvidiaGone
		default:
			reading.unclear = append(reading.unclear, fmt.Sprintf("GPU %d cannot be opened: %s", i, serviceText(ret.Error())))
		}
	}
	if d.options.XIDEvents {
		reading.events = d.xids(devices)
	}
	return reading, nil
}

func (d *nvidiaNVML) excluded() []string {
	if !d.has("nvmlGetExcludedDeviceCount") {
		return nil
	}
	count, ret := d.open.GetExcludedDeviceCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	var addresses []string
	for i := range min(count, nvidiaMost) {
		if info, ret := d.open.GetExcludedDeviceInfoByIndex(i); ret == nvml.SUCCESS {
			addresses = append(addresses, nvidiaAddress(info.PciInfo))
		}
	}
	return addresses
}

// nvidiaAddress as sysfs has it; the library's own text has a domain of eight digits.
func nvidiaAddress(info nvml.PciInfo) string {
	return fmt.Sprintf("%04x:%02x:%02x.0", info.Domain, info.Bus, info.Device)
}

// xids that came since the look before. The driver keeps them from when they were first asked for.
func (d *nvidiaNVML) xids(devices []nvml.Device) []nvidiaEvent {
	if d.events == nil {
		set, ret := d.open.EventSetCreate()
		if ret != nvml.SUCCESS {
			return nil
		}
		d.events = set
		for _, device := range devices {
			// One that does not support it gives no events.
			_ = device.RegisterEvents(nvml.EventTypeXidCriticalError, set)
		}
	}
	var events []nvidiaEvent
	for range nvidiaEventsMost {
		data, ret := d.events.Wait(0)
		if ret != nvml.SUCCESS {
			break
		}
		event := nvidiaEvent{xid: data.EventData}
		if data.Device != nil {
			if info, ret := data.Device.GetPciInfo(); ret == nvml.SUCCESS {
				event.address = nvidiaAddress(info)
			}
		}
		events = append(events, event)
	}
	return events
}

// nvidiaReader reads one GPU.
type nvidiaReader struct {
	driver  *nvidiaNVML
	device  nvml.Device
	gpu     nvidiaGPU
	unclear []string
	gone    bool
}

func (r *nvidiaReader) read(reading *nvidiaReading) error {
	info, ret := r.device.GetPciInfo()
	if ret != nvml.SUCCESS {
		if ret != nvml.ERROR_GPU_IS_LOST { // that one is missed by its address
			reading.unclear = append(reading.unclear, "a GPU does not tell its address: "+serviceText(ret.Error()))
		}
		return nil
	}
	r.gpu.address = nvidiaAddress(info)
	r.memory()
	r.links()
	r.fabric()
	r.bus()
	if r.gone {
		return errNvidiaGone
	}
	reading.gpus = append(reading.gpus, r.gpu)
	reading.unclear = append(reading.unclear, r.unclear...)
	return nil
}

// told says whether a call has answered. One that is not supported, or not in MIG mode, is neither a fault nor health.
func (r *nvidiaReader) told(what string, ret nvml.Return) bool {
	switch ret {
	case nvml.SUCCESS:
		return true
	case nvml.ERROR_GPU_IS_LOST:
		r.gpu.lost = true
	case nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED:
		r.gone = true
	case nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_FUNCTION_NOT_FOUND, nvml.ERROR_INVALID_ARGUMENT, nvml.ERROR_NO_PERMISSION, nvml.ERROR_NO_DATA:
	default:
		r.unclear = append(r.unclear, fmt.Sprintf("the GPU at %s does not tell its %s: %s", r.gpu.address, what, serviceText(ret.Error())))
	}
	return false
}

func (r *nvidiaReader) memory() {
	if count, ret := r.device.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); r.told("memory errors", ret) {
		r.gpu.uncorrected = &count
	}
	if r.driver.has("nvmlDeviceGetRemappedRows") {
		if corrected, uncorrected, pending, failed, ret := r.device.GetRemappedRows(); r.told("remapped rows", ret) {
			r.gpu.remap = &nvidiaRemap{rows: corrected + uncorrected, pending: pending, failed: failed}
			return
		}
	}
	retired := nvidiaRetired{}
	for _, cause := range []nvml.PageRetirementCause{nvml.PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS, nvml.PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR} {
		pages, ret := r.device.GetRetiredPages(cause)
		if !r.told("retired pages", ret) {
			return
		}
		retired.pages += len(pages)
	}
	if pending, ret := r.device.GetRetiredPagesPendingStatus(); r.told("pending retired pages", ret) {
		retired.pending = pending == nvml.FEATURE_ENABLED
	}
	r.gpu.retired = &retired
}

func (r *nvidiaReader) links() {
	if r.driver.has("nvmlDeviceGetMigMode") {
		if current, _, ret := r.device.GetMigMode(); r.told("MIG mode", ret) {
			r.gpu.partitioned = current == nvml.DEVICE_MIG_ENABLE
		}
	}
	if r.gpu.partitioned {
		return
	}
	for number := range nvml.NVLINK_MAX_LINKS {
		state, ret := r.device.GetNvLinkState(number)
		if !r.told("links", ret) {
			return
		}
		link := nvidiaLink{number: number, active: state == nvml.FEATURE_ENABLED}
		if link.active {
			if count, ret := r.device.GetNvLinkErrorCounter(number, nvml.NVLINK_ERROR_DL_RECOVERY); r.told("link errors", ret) {
				link.recoveries = count
			}
		}
		r.gpu.links = append(r.gpu.links, link)
	}
}

func (r *nvidiaReader) fabric() {
	if !r.driver.has("nvmlDeviceGetGpuFabricInfoV") {
		return
	}
	if info, ret := r.device.GetGpuFabricInfoV().V2(); r.told("fabric", ret) {
		r.gpu.fabric = nvidiaFabricOf(info.State, nvml.Return(info.Status))
	}
}

// nvidiaFabricOf a state and the outcome of joining; nil where the GPU has no fabric.
func nvidiaFabricOf(state uint8, status nvml.Return) *nvidiaFabric {
	switch state {
	case nvml.GPU_FABRIC_STATE_NOT_STARTED, nvml.GPU_FABRIC_STATE_IN_PROGRESS:
		return &nvidiaFabric{joining: true}
	case nvml.GPU_FABRIC_STATE_COMPLETED:
		if status == nvml.SUCCESS {
			return &nvidiaFabric{}
		}
		return &nvidiaFabric{failed: true, status: fmt.Sprintf("status %d of the fabric", status)}
	default:
		return nil
	}
}

func (r *nvidiaReader) bus() {
	if count, ret := r.device.GetPcieReplayCounter(); r.told("PCIe replays", ret) && count >= 0 {
		replays := uint64(count)
		r.gpu.replays = &replays
	}
	if !r.driver.has("nvmlDeviceGetCurrentClocksEventReasons") {
		return
	}
	if reasons, ret := r.device.GetCurrentClocksEventReasons(); r.told("clock reasons", ret) {
		r.gpu.slowdown = &nvidiaSlowdown{
			power: reasons&nvml.ClocksThrottleReasonHwPowerBrakeSlowdown != 0,
			heat:  reasons&nvml.ClocksThrottleReasonHwThermalSlowdown != 0,
		}
	}
}
