package pci

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// device writes a device as sysfs shows it. The names of the folders have colons, which not every checkout can hold.
func device(t *testing.T, root, address, vendor, id, class string) string {
	t.Helper()
	folder := filepath.Join(root, "sys/bus/pci/devices", address)
	require.NoError(t, os.MkdirAll(folder, 0o755))
	for name, value := range map[string]string{"vendor": vendor, "device": id, "class": class} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(value+"\n"), 0o644))
	}
	return folder
}

func TestAcceleratorsAreToldFromWhatStandsBesideThem(t *testing.T) {
	for name, tc := range map[string]struct {
		vendor, id, class        string
		wantNVIDIA, wantN, wantA bool
	}{
		"an A100 is a 3D controller":                  {vendor: "0x10de", id: "0x20b0", class: "0x030200", wantNVIDIA: true},
		"an A10 with a display is a VGA controller":   {vendor: "0x10de", id: "0x2237", class: "0x030000", wantNVIDIA: true},
		"an NVSwitch is a bridge":                     {vendor: "0x10de", id: "0x1af1", class: "0x068000"},
		"the sound device of a GPU is none":           {vendor: "0x10de", id: "0x10f0", class: "0x040300"},
		"a Trainium device":                           {vendor: "0x1d0f", id: "0x7164", class: "0x088000", wantN: true},
		"the network card of Amazon is none":          {vendor: "0x1d0f", id: "0xec20", class: "0x020000"},
		"the NVMe controller of Amazon is none":       {vendor: "0x1d0f", id: "0x8061", class: "0x010802"},
		"an MI300X is a processing accelerator":       {vendor: "0x1002", id: "0x74a1", class: "0x120000", wantA: true},
		"a Radeon is a display controller":            {vendor: "0x1002", id: "0x7362", class: "0x038000", wantA: true},
		"a bridge of AMD is none":                     {vendor: "0x1022", id: "0x1480", class: "0x060000"},
		"the emulated card of a virtual machine none": {vendor: "0x1d0f", id: "0x1111", class: "0x030000"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			device(t, root, "0000:00:1e.0", tc.vendor, tc.id, tc.class)
			devices, err := Devices(host.New(root))
			require.NoError(t, err)
			require.Len(t, devices, 1)
			require.Equal(t, "0000:00:1e.0", devices[0].Address)
			require.Equal(t, tc.wantNVIDIA, devices[0].IsNVIDIAGPU())
			require.Equal(t, tc.wantN, devices[0].IsNeuron())
			require.Equal(t, tc.wantA, devices[0].IsAMDGPU())
			require.False(t, devices[0].Virtual)
			require.Empty(t, devices[0].Driver)
		})
	}
}

func TestDriverAndVirtualFunctionAreSeen(t *testing.T) {
	root := t.TempDir()
	folder := device(t, root, "0000:00:1f.4", "0x10de", "0x20b0", "0x030200")
	require.NoError(t, os.Symlink("../../../bus/pci/drivers/vfio-pci", filepath.Join(folder, "driver")))
	require.NoError(t, os.Symlink("../0000:00:1f.0", filepath.Join(folder, "physfn")))
	devices, err := Devices(host.New(root))
	require.NoError(t, err)
	require.Equal(t, []Device{{Address: "0000:00:1f.4", Vendor: 0x10de, ID: 0x20b0, Class: 0x030200, Driver: "vfio-pci", Virtual: true}}, devices)
}

func TestNoBusIsNoDevicesButNoSysfsIsAnError(t *testing.T) {
	root := t.TempDir()
	_, err := Devices(host.New(root))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/bus"), 0o755))
	devices, err := Devices(host.New(root))
	require.NoError(t, err)
	require.Empty(t, devices)
}

func TestADeviceThatCannotBeReadIsAnErrorNotAShorterList(t *testing.T) {
	root := t.TempDir()
	device(t, root, "0000:00:1e.0", "10de", "0x20b0", "0x030200")
	_, err := Devices(host.New(root))
	require.Error(t, err)
}

func TestThisMachineCanBeRead(t *testing.T) {
	if _, err := os.Stat("/sys/bus"); err != nil {
		t.Skip("no sysfs here: mount it at /sys")
	}
	_, err := Devices(host.New(""))
	require.NoError(t, err)
}

func FuzzParseHex(f *testing.F) {
	for _, seed := range []string{"0x030200\n", "0x10de", "", "0x", "0xfffffffff", "-0x1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseHex(text); err != nil && n != 0 && n != 0xffffffff {
			t.Errorf("%q gives %d beside the error %v", text, n, err)
		}
	})
}
