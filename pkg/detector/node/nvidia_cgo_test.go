//go:build cgo

package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// nvmlFake is a library with all functions but that of the fabric, which its mock cannot give.
type nvmlFake struct {
	mock.Interface
	inits, shutdowns int
	without          map[string]bool
}

func nvmlLibrary(devices ...*mock.Device) *nvmlFake {
	f := &nvmlFake{without: map[string]bool{"nvmlDeviceGetGpuFabricInfoV": true}}
	f.InitFunc = func() nvml.Return { f.inits++; return nvml.SUCCESS }
	f.ShutdownFunc = func() nvml.Return { f.shutdowns++; return nvml.SUCCESS }
	f.ExtensionsFunc = func() nvml.ExtendedInterface {
		return &mock.ExtendedInterface{LookupSymbolFunc: func(name string) error {
			if f.without[name] {
				return errors.New("undefined symbol")
			}
			return nil
		}}
	}
	f.DeviceGetCountFunc = func() (int, nvml.Return) { return len(devices), nvml.SUCCESS }
	f.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) { return devices[i], nvml.SUCCESS }
	f.GetExcludedDeviceCountFunc = func() (int, nvml.Return) { return 1, nvml.SUCCESS }
	f.GetExcludedDeviceInfoByIndexFunc = func(int) (nvml.ExcludedDeviceInfo, nvml.Return) {
		return nvml.ExcludedDeviceInfo{PciInfo: nvml.PciInfo{Domain: 1, Bus: 0xaf}}, nvml.SUCCESS
	}
	return f
}

// nvmlDevice gives a card whose every call answers with ret; where that is SUCCESS, something is wrong with all of it.
func nvmlDevice(ret nvml.Return) *mock.Device {
	return &mock.Device{
		GetPciInfoFunc: func() (nvml.PciInfo, nvml.Return) { return nvml.PciInfo{Bus: 0x3b}, nvml.SUCCESS },
		GetTotalEccErrorsFunc: func(kind nvml.MemoryErrorType, counter nvml.EccCounterType) (uint64, nvml.Return) {
			if kind != nvml.MEMORY_ERROR_TYPE_UNCORRECTED || counter != nvml.VOLATILE_ECC {
				return 0, nvml.ERROR_INVALID_ARGUMENT
			}
			return 3, ret
		},
		GetRemappedRowsFunc: func() (int, int, bool, bool, nvml.Return) { return 1, 2, true, true, ret },
		GetRetiredPagesFunc: func(nvml.PageRetirementCause) ([]uint64, nvml.Return) { return []uint64{1, 2}, ret },
		GetRetiredPagesPendingStatusFunc: func() (nvml.EnableState, nvml.Return) {
			return nvml.FEATURE_ENABLED, ret
		},
		GetMigModeFunc: func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_DISABLE, nvml.DEVICE_MIG_DISABLE, ret },
		GetNvLinkStateFunc: func(link int) (nvml.EnableState, nvml.Return) {
			switch {
			case ret != nvml.SUCCESS:
				return 0, ret
			case link >= 2:
				return 0, nvml.ERROR_INVALID_ARGUMENT
			case link == 1:
				return nvml.FEATURE_DISABLED, nvml.SUCCESS
			default:
				return nvml.FEATURE_ENABLED, nvml.SUCCESS
			}
		},
		GetNvLinkErrorCounterFunc: func(int, nvml.NvLinkErrorCounter) (uint64, nvml.Return) { return 7, ret },
		GetPcieReplayCounterFunc:  func() (int, nvml.Return) { return 9, ret },
		GetCurrentClocksEventReasonsFunc: func() (uint64, nvml.Return) {
			return nvml.ClocksThrottleReasonHwThermalSlowdown | nvml.ClocksThrottleReasonHwSlowdown, ret
		},
	}
}

func nvmlDriver(libraries ...nvml.Interface) *nvidiaNVML {
	return &nvidiaNVML{libraries: libraries}
}

func TestNVMLTellsAllOfACard(t *testing.T) {
	reading, err := nvmlDriver(nvmlLibrary(nvmlDevice(nvml.SUCCESS))).read()
	require.NoError(t, err)
	assert.Equal(t, nvidiaReading{
		gpus: []nvidiaGPU{{
			address: "0000:3b:00.0", uncorrected: nvidiaOf(uint64(3)), remap: &nvidiaRemap{rows: 3, pending: true, failed: true},
			links:   []nvidiaLink{{number: 0, active: true, recoveries: 7}, {number: 1}},
			replays: nvidiaOf(uint64(9)), slowdown: &nvidiaSlowdown{heat: true},
		}},
		excluded: []string{"0001:af:00.0"},
	}, reading)
}

func TestNVMLOfAnEarlierCard(t *testing.T) {
	device := nvmlDevice(nvml.SUCCESS)
	device.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, nvml.ERROR_NOT_SUPPORTED }
	reading, err := nvmlDriver(nvmlLibrary(device)).read()
	require.NoError(t, err)
	assert.Nil(t, reading.gpus[0].remap)
	assert.Equal(t, &nvidiaRetired{pages: 4, pending: true}, reading.gpus[0].retired)
}

func TestNVMLOfAnEarlierLibrary(t *testing.T) {
	library := nvmlLibrary(nvmlDevice(nvml.SUCCESS))
	for _, function := range []string{"nvmlDeviceGetRemappedRows", "nvmlDeviceGetMigMode", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlGetExcludedDeviceCount"} {
		library.without[function] = true
	}
	reading, err := nvmlDriver(library).read()
	require.NoError(t, err)
	assert.Nil(t, reading.gpus[0].slowdown)
	assert.Nil(t, reading.gpus[0].remap)
	assert.Empty(t, reading.excluded)
}

func TestNVMLInMIGModeHasNoLinks(t *testing.T) {
	device := nvmlDevice(nvml.SUCCESS)
	device.GetMigModeFunc = func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_ENABLE, nvml.DEVICE_MIG_ENABLE, nvml.SUCCESS }
	reading, err := nvmlDriver(nvmlLibrary(device)).read()
	require.NoError(t, err)
	assert.True(t, reading.gpus[0].partitioned)
	assert.Empty(t, reading.gpus[0].links)
}

func TestNVMLSays(t *testing.T) {
	for name, tc := range map[string]struct {
		ret         nvml.Return
		want        []nvidiaGPU
		wantUnclear int
		wantErr     error
	}{
		"that nothing is supported":     {ret: nvml.ERROR_NOT_SUPPORTED, want: []nvidiaGPU{{address: "0000:3b:00.0"}}},
		"that it may not be asked":      {ret: nvml.ERROR_NO_PERMISSION, want: []nvidiaGPU{{address: "0000:3b:00.0"}}},
		"that the card is lost":         {ret: nvml.ERROR_GPU_IS_LOST, want: []nvidiaGPU{{address: "0000:3b:00.0", lost: true}}},
		"something that nobody knows":   {ret: nvml.ERROR_UNKNOWN, want: []nvidiaGPU{{address: "0000:3b:00.0"}}, wantUnclear: 7},
		"that the driver is gone":       {ret: nvml.ERROR_DRIVER_NOT_LOADED, wantErr: errNvidiaGone},
		"that the library is shut down": {ret: nvml.ERROR_UNINITIALIZED, wantErr: errNvidiaGone},
	} {
		t.Run(name, func(t *testing.T) {
			library := nvmlLibrary(nvmlDevice(tc.ret))
			driver := nvmlDriver(library)
			reading, err := driver.read()
			require.ErrorIs(t, err, tc.wantErr)
			if tc.wantErr != nil {
				assert.Equal(t, 1, library.shutdowns)
				_, _ = driver.read()
				assert.Equal(t, 2, library.inits, "the library is opened anew")
				return
			}
			assert.Equal(t, tc.want, reading.gpus)
			assert.Len(t, reading.unclear, tc.wantUnclear)
			assert.Zero(t, library.shutdowns)
		})
	}
}

func TestNVMLHandles(t *testing.T) {
	for name, tc := range map[string]struct {
		ret         nvml.Return
		wantHidden  int
		wantUnclear int
	}{
		"a card that may not be opened is hidden":    {ret: nvml.ERROR_NO_PERMISSION, wantHidden: 1},
		"a card that is lost is missed":              {ret: nvml.ERROR_GPU_IS_LOST},
		"a card that gives another error is unclear": {ret: nvml.ERROR_IRQ_ISSUE, wantUnclear: 1},
	} {
		t.Run(name, func(t *testing.T) {
			library := nvmlLibrary(nvmlDevice(nvml.SUCCESS))
			library.DeviceGetHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, tc.ret }
			reading, err := nvmlDriver(library).read()
			require.NoError(t, err)
			assert.Empty(t, reading.gpus)
			assert.Equal(t, tc.wantHidden, reading.hidden)
			assert.Len(t, reading.unclear, tc.wantUnclear)
		})
	}
}

func TestNVMLLibraries(t *testing.T) {
	starts := func(ret nvml.Return) *nvmlFake {
		library := nvmlLibrary(nvmlDevice(nvml.SUCCESS))
		library.InitFunc = func() nvml.Return { library.inits++; return ret }
		return library
	}
	for name, tc := range map[string]struct {
		first, second nvml.Return
		wantErr       string
	}{
		"the second is taken where the first is not there": {first: nvml.ERROR_LIBRARY_NOT_FOUND},
		"none is there":                        {first: nvml.ERROR_LIBRARY_NOT_FOUND, second: nvml.ERROR_LIBRARY_NOT_FOUND, wantErr: "libnvidia-ml.so.1 is not there"},
		"the driver is not loaded":             {first: nvml.ERROR_DRIVER_NOT_LOADED, wantErr: "starting NVML"},
		"the driver has been changed under it": {first: nvml.ERROR_LIB_RM_VERSION_MISMATCH, wantErr: "has another version"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := nvmlDriver(starts(tc.first), starts(tc.second)).read()
			if tc.wantErr == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.wantErr)
		})
	}
}

func TestNVMLIsReleasedWhereThatIsWanted(t *testing.T) {
	library := nvmlLibrary(nvmlDevice(nvml.SUCCESS))
	driver := nvmlDriver(library)
	driver.options.ReleaseDriver = true
	for range 3 {
		_, err := driver.read()
		require.NoError(t, err)
	}
	assert.Equal(t, 3, library.inits)
	assert.Equal(t, 3, library.shutdowns)
}

func TestNVMLEventsOnlyWhereTheyAreWanted(t *testing.T) {
	device := nvmlDevice(nvml.SUCCESS)
	waiting := []uint64{79, 13}
	set := &mock.EventSet{
		FreeFunc: func() nvml.Return { return nvml.SUCCESS },
		WaitFunc: func(timeout uint32) (nvml.EventData, nvml.Return) {
			require.Zero(t, timeout, "a look does not wait for events")
			if len(waiting) == 0 {
				return nvml.EventData{}, nvml.ERROR_TIMEOUT
			}
			xid := waiting[0]
			waiting = waiting[1:]
			return nvml.EventData{Device: device, EventType: nvml.EventTypeXidCriticalError, EventData: xid}, nvml.SUCCESS
		},
	}
	device.RegisterEventsFunc = func(kinds uint64, _ nvml.EventSet) nvml.Return {
		assert.EqualValues(t, nvml.EventTypeXidCriticalError, kinds)
		return nvml.SUCCESS
	}
	library := nvmlLibrary(device)
	library.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) { return set, nvml.SUCCESS }

	driver := nvmlDriver(library)
	reading, err := driver.read()
	require.NoError(t, err)
	assert.Empty(t, reading.events)
	assert.Empty(t, device.RegisterEventsCalls())

	driver.options.XIDEvents = true
	for _, want := range [][]nvidiaEvent{{{address: "0000:3b:00.0", xid: 79}, {address: "0000:3b:00.0", xid: 13}}, nil} {
		reading, err = driver.read()
		require.NoError(t, err)
		assert.Equal(t, want, reading.events)
	}
	assert.Len(t, device.RegisterEventsCalls(), 1)
}

func TestNVMLFabric(t *testing.T) {
	for name, tc := range map[string]struct {
		state  uint8
		status nvml.Return
		want   *nvidiaFabric
	}{
		"no fabric":      {state: nvml.GPU_FABRIC_STATE_NOT_SUPPORTED},
		"not yet begun":  {state: nvml.GPU_FABRIC_STATE_NOT_STARTED, want: &nvidiaFabric{joining: true}},
		"on the way":     {state: nvml.GPU_FABRIC_STATE_IN_PROGRESS, want: &nvidiaFabric{joining: true}},
		"joined":         {state: nvml.GPU_FABRIC_STATE_COMPLETED, want: &nvidiaFabric{}},
		"refused":        {state: nvml.GPU_FABRIC_STATE_COMPLETED, status: nvml.ERROR_UNKNOWN, want: &nvidiaFabric{failed: true, status: fmt.Sprintf("status %d of the fabric", nvml.ERROR_UNKNOWN)}},
		"a later number": {state: 77},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, nvidiaFabricOf(tc.state, tc.status))
		})
	}
}

func TestNVMLThroughTheDetector(t *testing.T) {
	root := nvidiaNone(t)
	nvidiaCard(t, root, nvidiaOne, "nvidia")
	n := newNvidia(host.New(root), clocktesting.NewFakePassiveClock(unitsNow), NvidiaOptions{}, nvmlDriver(nvmlLibrary(nvmlDevice(nvml.SUCCESS))))
	look, err := n.Look(t.Context())
	require.NoError(t, err)
	var reasons []string
	for _, f := range look.Faults {
		reasons = append(reasons, f.Reason)
	}
	assert.Equal(t, []string{ReasonNvidiaDoubleBitError, ReasonNvidiaRowRemapFailure, ReasonNvidiaPageRetirement, ReasonNvidiaThermalError}, reasons)
}

func TestNVMLLooksForTheLibraryBelowTheRoot(t *testing.T) {
	root := t.TempDir()
	driver, ok := newNvidiaDriver(host.New(root), NvidiaOptions{Libraries: []string{"opt/libnvidia-ml.so.1"}}).(*nvidiaNVML)
	require.True(t, ok)
	require.Len(t, driver.libraries, 2, filepath.Join(root, "opt"))
	_, err := driver.read()
	require.Error(t, err)
}
