// Package pci lists the PCI devices of the machine from sysfs, which needs no driver, no library and no privilege: a
// card that its driver has lost is still there.
package pci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// Vendors of accelerators, as the PCI ID repository has them.
const (
	VendorNVIDIA = 0x10de
	VendorAMD    = 0x1002
	VendorAmazon = 0x1d0f
)

// Base classes of accelerators, as the PCI code and ID assignment specification has them.
const (
	classDisplay     = 0x03 // VGA and 3D controllers; an NVSwitch is a bridge (0x06)
	classAccelerator = 0x12 // processing accelerators, as newer AMD Instinct cards are
)

// neuronDevices are the device IDs of Amazon's Neuron devices, as their kernel driver has them: Inferentia, Trainium,
// Inferentia2, Trainium2.
var neuronDevices = map[uint32]bool{
	0x7064: true, 0x7065: true, 0x7066: true, 0x7067: true,
	0x7164: true, 0x7264: true, 0x7364: true,
}

// maxDevices bounds what is read; the largest machines have some hundred.
const maxDevices = 4096

// Device is one PCI function.
type Device struct {
	// Address as domain:bus:device.function, for example 0000:00:1e.0.
	Address string
	Vendor  uint32
	ID      uint32
	// Class is 24 bits: base class, subclass, programming interface.
	Class uint32
	// Driver that it is bound to; empty without one.
	Driver string
	// Virtual functions belong to another device, and no management library counts them as devices.
	Virtual bool
}

// IsNVIDIAGPU says whether it is a graphics or 3D controller of NVIDIA: what NVML should list, unless it is a virtual
// function or has been given to a virtual machine (Driver vfio-pci).
func (d Device) IsNVIDIAGPU() bool {
	return d.Vendor == VendorNVIDIA && d.Class>>16 == classDisplay
}

// IsNeuron says whether it is a Neuron device of Amazon.
func (d Device) IsNeuron() bool {
	return d.Vendor == VendorAmazon && neuronDevices[d.ID]
}

// IsAMDGPU says whether it is a graphics card or accelerator of AMD.
func (d Device) IsAMDGPU() bool {
	return d.Vendor == VendorAMD && (d.Class>>16 == classDisplay || d.Class>>16 == classAccelerator)
}

// Devices of the machine in the order of their addresses. A machine without a PCI bus has none. A device that goes
// while it is read is left out; one that cannot be read is an error, for a count that is short would name healthy
// hardware as missing.
func Devices(h host.Host) ([]Device, error) {
	folder := h.Path("sys/bus/pci/devices")
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		// Without sysfs nothing can be said; without a bus below it there is nothing.
		if _, err := os.Stat(h.Path("sys/bus")); err != nil {
			return nil, fmt.Errorf("listing PCI devices, %w", err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing PCI devices, %w", err)
	}
	if len(entries) > maxDevices {
		return nil, fmt.Errorf("listing PCI devices, %d are more than %d", len(entries), maxDevices)
	}
	devices := make([]Device, 0, len(entries))
	for _, entry := range entries {
		d, err := read(filepath.Join(folder, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading PCI device %s, %w", entry.Name(), err)
		}
		devices = append(devices, d)
	}
	return devices, nil
}

func read(folder string) (Device, error) {
	d := Device{Address: filepath.Base(folder)}
	for name, into := range map[string]*uint32{"vendor": &d.Vendor, "device": &d.ID, "class": &d.Class} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return Device{}, err
		}
		if *into, err = parseHex(string(text)); err != nil {
			return Device{}, fmt.Errorf("reading %s, %w", name, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(folder, "driver")); err == nil {
		d.Driver = filepath.Base(target)
	}
	_, err := os.Lstat(filepath.Join(folder, "physfn"))
	d.Virtual = err == nil
	return d, nil
}

// parseHex reads a number as sysfs writes it: 0x030200 and a line feed.
func parseHex(text string) (uint32, error) {
	digits, ok := strings.CutPrefix(strings.TrimSpace(text), "0x")
	if !ok {
		return 0, fmt.Errorf("%q does not begin with 0x", text)
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	return uint32(n), err
}
