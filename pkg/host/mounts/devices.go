package mounts

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// maxBelow bounds how many block devices one filesystem may lie on.
const maxBelow = 256

// DeviceName gives the short name by which the kernel log calls the device that a filesystem is mounted from, for
// example nvme0n1p1. Where there is none (NFS, ZFS) it is the source, and major:minor where that is empty.
func DeviceName(h host.Host, m Mount) string {
	if target, err := os.Readlink(h.Path("sys/dev/block", m.Device)); err == nil {
		return filepath.Base(target)
	}
	if name, ok := ShortName(h, m.Source); ok {
		return name
	}
	if m.Source != "" && m.Source != "none" && m.Source != "/dev/root" {
		// A disk that has gone from sysfs keeps the name that it had there.
		return strings.TrimPrefix(m.Source, "/dev/")
	}
	return m.Device
}

// ShortName resolves what people and logs call a block device (nvme0n1p1, /dev/nvme0n1p1, /dev/mapper/x, mapper/x,
// 259:1) to its name in sysfs. false where the machine has no such device.
func ShortName(h host.Host, device string) (string, bool) {
	device = strings.TrimPrefix(device, "/dev/")
	if strings.Contains(device, "..") || device == "" {
		return "", false
	}
	if majorMinor.MatchString(device) {
		target, err := os.Readlink(h.Path("sys/dev/block", device))
		return filepath.Base(target), err == nil
	}
	if mapped, ok := strings.CutPrefix(device, "mapper/"); ok {
		return mappedName(h, mapped)
	}
	// sysfs writes ! where a device's name has a slash, as cciss/c0d0.
	name := strings.ReplaceAll(device, "/", "!")
	_, err := os.Stat(h.Path("sys/class/block", name))
	return name, err == nil
}

var majorMinor = regexp.MustCompile(`^\d+:\d+$`) // 259:1

// mappedName finds dm-0 by the name that the device mapper shows in /dev/mapper, which a container does not have.
func mappedName(h host.Host, mapped string) (string, bool) {
	files, err := filepath.Glob(h.Path("sys/class/block/dm-*/dm/name"))
	if err != nil {
		return "", false
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == mapped {
			return filepath.Base(filepath.Dir(filepath.Dir(file))), true
		}
	}
	return "", false
}

// WriteProtected says whether the device itself takes no writes, as a dm-verity root or a snapshot; false where that
// is not known.
func WriteProtected(h host.Host, majorMinor string) bool {
	text, err := os.ReadFile(h.Path("sys/dev/block", majorMinor, "ro"))
	return err == nil && strings.TrimSpace(string(text)) == "1"
}

// Below gives the names of all block devices that the named one stands on, itself among them: the disk of a
// partition, the slaves of a mapped device or an array, the other disks of a btrfs.
func Below(h host.Host, name string) map[string]bool {
	names := map[string]bool{}
	queue := append([]string{name}, btrfsDevices(h, name)...)
	for len(queue) > 0 && len(names) < maxBelow {
		next := queue[0]
		queue = queue[1:]
		if names[next] {
			continue
		}
		names[next] = true
		queue = append(queue, directlyBelow(h, next)...)
	}
	return names
}

func directlyBelow(h host.Host, name string) []string {
	folder := h.Path("sys/class/block", name)
	var below []string
	if slaves, err := os.ReadDir(filepath.Join(folder, "slaves")); err == nil {
		for _, slave := range slaves {
			below = append(below, slave.Name())
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "partition")); err == nil {
		// The link goes to .../block/nvme0n1/nvme0n1p1.
		if target, err := os.Readlink(folder); err == nil {
			below = append(below, filepath.Base(filepath.Dir(target)))
		}
	}
	return below
}

func btrfsDevices(h host.Host, name string) []string {
	matches, err := filepath.Glob(h.Path("sys/fs/btrfs/*/devices", name))
	if err != nil || len(matches) == 0 {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(matches[0]))
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// nvmePath is one path of a namespace with several, such as nvme0c1n2, which is a path of nvme0n2.
var nvmePath = regexp.MustCompile(`^(nvme\d+)c\d+(n\d+)`)

var nvmeController = regexp.MustCompile(`^nvme\d+$`) // nvme0

// Namespaces gives the disks of an NVMe controller such as nvme0; none for any other name.
func Namespaces(h host.Host, controller string) []string {
	if !nvmeController.MatchString(controller) {
		return nil
	}
	entries, err := os.ReadDir(h.Path("sys/class/nvme", controller))
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		if name, ok := strings.CutPrefix(entry.Name(), "nvme"); ok && strings.Contains(name, "n") {
			names = append(names, NamespaceOfPath(entry.Name()))
		}
	}
	return names
}

// NamespaceOfPath gives nvme0n2 for its path nvme0c1n2, and any other name as it is.
func NamespaceOfPath(name string) string {
	return nvmePath.ReplaceAllString(name, "$1$2")
}
