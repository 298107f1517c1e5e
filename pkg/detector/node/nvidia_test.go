package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	nvidiaOne = "0000:3b:00.0"
	nvidiaTwo = "0000:af:00.0"
)

// nvidiaFake is a driver that tells what the test wants.
type nvidiaFake struct {
	reading nvidiaReading
	err     error
	hang    chan struct{}
	panics  bool
	calls   int
}

func (f *nvidiaFake) read() (nvidiaReading, error) {
	f.calls++
	if f.hang != nil {
		<-f.hang
	}
	if f.panics {
		panic("a bug")
	}
	return f.reading, f.err
}

// nvidiaCard puts a graphics card of NVIDIA on the PCI bus below root.
func nvidiaCard(t testing.TB, root, address, driver string) {
	t.Helper()
	folder := filepath.Join(root, "sys/bus/pci/devices", address)
	require.NoError(t, os.MkdirAll(folder, 0o755))
	for name, text := range map[string]string{"vendor": "0x10de\n", "device": "0x2330\n", "class": "0x030200\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	_ = os.Remove(filepath.Join(folder, "driver"))
	if driver != "" {
		require.NoError(t, os.Symlink("../../../bus/pci/drivers/"+driver, filepath.Join(folder, "driver")))
	}
}

func nvidiaNone(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/bus/pci/devices"), 0o755))
	return root
}

func nvidiaFakes(root string, driver nvidiaDriver) (*Nvidia, *clocktesting.FakePassiveClock) {
	clk := clocktesting.NewFakePassiveClock(unitsNow)
	return newNvidia(host.New(root), clk, NvidiaOptions{PCIeReplaysPerMinute: nvidiaReplays}, driver), clk
}

func nvidiaOf[T any](value T) *T { return &value }

// nvidiaHealthy is a card that supports everything and has nothing.
func nvidiaHealthy(address string) nvidiaGPU {
	return nvidiaGPU{
		address: address, uncorrected: nvidiaOf(uint64(0)), remap: &nvidiaRemap{}, fabric: &nvidiaFabric{},
		replays: nvidiaOf(uint64(5)), slowdown: &nvidiaSlowdown{}, links: []nvidiaLink{{number: 0, active: true}, {number: 1}},
	}
}

// TestNvidiaSays looks at a healthy card, then at one that the test has changed.
func TestNvidiaSays(t *testing.T) {
	type want struct {
		reason, subject, message string
		severity                 v1alpha1.Severity
	}
	const the = "The GPU at " + nvidiaOne + " "
	for name, tc := range map[string]struct {
		change       func(*nvidiaGPU)
		wantFault    want
		wantSighting want
		wantDegraded string
	}{
		"a healthy card does nothing":               {change: func(*nvidiaGPU) {}},
		"a link that was never active does nothing": {change: func(g *nvidiaGPU) { g.links[1].active = false }},
		"memory that could not be corrected": {
			change:    func(g *nvidiaGPU) { g.uncorrected = nvidiaOf(uint64(2)) },
			wantFault: want{reason: ReasonNvidiaDoubleBitError, subject: nvidiaOne, message: the + "has memory errors that could not be corrected."}},
		"a row that could not be replaced": {
			change:    func(g *nvidiaGPU) { g.remap = &nvidiaRemap{failed: true} },
			wantFault: want{reason: ReasonNvidiaRowRemapFailure, subject: nvidiaOne, message: the + "could not replace a broken row of its memory."}},
		"a row that waits for a reset": {
			change:    func(g *nvidiaGPU) { g.remap = &nvidiaRemap{pending: true} },
			wantFault: want{reason: ReasonNvidiaPageRetirement, subject: nvidiaOne, message: the + "has broken memory that is put aside at its next reset."}},
		"a page that waits for a reset": {
			change:    func(g *nvidiaGPU) { g.remap, g.retired = nil, &nvidiaRetired{pending: true} },
			wantFault: want{reason: ReasonNvidiaPageRetirement, subject: nvidiaOne, message: the + "has broken memory that is put aside at its next reset."}},
		"a row that has been replaced": {
			change:       func(g *nvidiaGPU) { g.remap = &nvidiaRemap{rows: 1} },
			wantSighting: want{reason: ReasonNvidiaPageRetirement, subject: nvidiaOne, message: the + "has put broken memory aside."}},
		"a link that was active": {
			change:    func(g *nvidiaGPU) { g.links[0].active = false },
			wantFault: want{reason: ReasonNvidiaNVLinkError, subject: nvidiaOne + " link 0", message: "NVLink 0 of the GPU at " + nvidiaOne + " was active and is not."}},
		"links that are off in MIG mode do nothing": {change: func(g *nvidiaGPU) { g.links, g.partitioned = nil, true }},
		"a link that had to be recovered is a warning": {
			change:    func(g *nvidiaGPU) { g.links[0].recoveries = 1 },
			wantFault: want{reason: ReasonNvidiaNVLinkError, subject: nvidiaOne + " link 0", message: "NVLink 0 of the GPU at " + nvidiaOne + " had to be recovered.", severity: v1alpha1.SeverityWarning}},
		"a fabric that refused": {
			change:    func(g *nvidiaGPU) { g.fabric = &nvidiaFabric{failed: true, status: "status 999"} },
			wantFault: want{reason: ReasonNvidiaFabricError, subject: nvidiaOne, message: the + "could not join the fabric."}},
		"a fabric that is being joined is a warning": {
			change:    func(g *nvidiaGPU) { g.fabric = &nvidiaFabric{joining: true} },
			wantFault: want{reason: ReasonNvidiaFabricError, subject: nvidiaOne, message: the + "is still joining the fabric.", severity: v1alpha1.SeverityWarning}},
		"power": {
			change:    func(g *nvidiaGPU) { g.slowdown = &nvidiaSlowdown{power: true} },
			wantFault: want{reason: ReasonNvidiaPowerError, subject: nvidiaOne, message: the + "is slowed down by the power brake of the hardware."}},
		"heat": {
			change:    func(g *nvidiaGPU) { g.slowdown = &nvidiaSlowdown{heat: true} },
			wantFault: want{reason: ReasonNvidiaThermalError, subject: nvidiaOne, message: the + "is slowed down by the hardware because of heat."}},
		"many replays": {
			change:       func(g *nvidiaGPU) { g.replays = nvidiaOf(uint64(14)) },
			wantSighting: want{reason: ReasonNvidiaPCIeError, subject: nvidiaOne, message: the + "repeats transmissions to the processor."}},
		"as many replays as are ordinary do nothing": {change: func(g *nvidiaGPU) { g.replays = nvidiaOf(uint64(13)) }},
		"a counter that has gone back does nothing":  {change: func(g *nvidiaGPU) { g.replays = nvidiaOf(uint64(0)) }},
		"a card that the driver has lost": {
			change:    func(g *nvidiaGPU) { *g = nvidiaGPU{address: nvidiaOne, lost: true} },
			wantFault: want{reason: ReasonNvidiaDeviceCountMismatch, subject: nvidiaOne, message: "The driver has lost the GPU at " + nvidiaOne + "."}},
		"a card that supports nothing is not called healthy": {
			change:       func(g *nvidiaGPU) { *g = nvidiaGPU{address: nvidiaOne} },
			wantDegraded: "the GPU at " + nvidiaOne + " tells nothing of its health"},
		"a card that supports little does nothing": {
			change: func(g *nvidiaGPU) { *g = nvidiaGPU{address: nvidiaOne, slowdown: &nvidiaSlowdown{}} }},
	} {
		t.Run(name, func(t *testing.T) {
			root := nvidiaNone(t)
			nvidiaCard(t, root, nvidiaOne, "nvidia")
			fake := &nvidiaFake{reading: nvidiaReading{gpus: []nvidiaGPU{nvidiaHealthy(nvidiaOne)}}}
			n, clk := nvidiaFakes(root, fake)
			look, err := n.Look(t.Context())
			require.NoError(t, err)
			require.Equal(t, tracking.Look{}, look)

			changed := nvidiaHealthy(nvidiaOne)
			tc.change(&changed)
			fake.reading.gpus = []nvidiaGPU{changed}
			clk.SetTime(unitsNow.Add(time.Minute))
			look, err = n.Look(t.Context())
			require.NoError(t, err)
			var faults, sightings []want
			for _, f := range look.Faults {
				faults = append(faults, want{f.Reason, f.Subject, f.Message, f.Severity})
			}
			for _, s := range look.Sightings {
				sightings = append(sightings, want{s.Reason, s.Subject, s.Message, s.Severity})
			}
			nothing := func(w want) []want {
				if w == (want{}) {
					return nil
				}
				return []want{w}
			}
			assert.Equal(t, nothing(tc.wantFault), faults)
			assert.Equal(t, nothing(tc.wantSighting), sightings)
			assert.Equal(t, tc.wantDegraded, look.Degraded)

			fake.reading.gpus = []nvidiaGPU{nvidiaHealthy(nvidiaOne)}
			look, err = n.Look(t.Context())
			require.NoError(t, err)
			assert.Empty(t, look.Faults, "what has gone is not told")
		})
	}
}

func TestNvidiaCountsCards(t *testing.T) {
	both := []nvidiaGPU{nvidiaHealthy(nvidiaOne), nvidiaHealthy(nvidiaTwo)}
	one := nvidiaReading{gpus: both[:1]}
	const driver = "proc/driver/nvidia/gpus/"
	for name, tc := range map[string]struct {
		before       *nvidiaReading
		then         nvidiaReading
		prepare      func(t *testing.T, root string)
		between      func(t *testing.T, root string)
		wantMessage  string
		wantDegraded string
		wantErr      string
	}{
		"all are shown": {then: nvidiaReading{gpus: both}},
		"one that was shown is not": {before: &nvidiaReading{gpus: both}, then: one,
			wantMessage: "The machine holds a GPU at " + nvidiaTwo + " that the driver does not show."},
		"one that was shown has gone from the bus": {before: &nvidiaReading{gpus: both}, then: one,
			between: func(t *testing.T, root string) {
				require.NoError(t, os.RemoveAll(filepath.Join(root, "sys/bus/pci/devices", nvidiaTwo)))
			},
			wantMessage: "The GPU at " + nvidiaTwo + " has gone from the machine."},
		"one that was shown has been given to a virtual machine": {before: &nvidiaReading{gpus: both}, then: one,
			between: func(t *testing.T, root string) { nvidiaCard(t, root, nvidiaTwo, "vfio-pci") }},
		"one that the driver could not take": {then: one,
			prepare: func(t *testing.T, root string) {
				nvidiaCard(t, root, nvidiaTwo, "")
				require.NoError(t, os.MkdirAll(filepath.Join(root, driver, nvidiaOne), 0o755))
			},
			wantMessage: "The machine holds a GPU at " + nvidiaTwo + " that the driver does not show."},
		"one that the driver has and does not show may be hidden": {then: one,
			prepare: func(t *testing.T, root string) {
				require.NoError(t, os.MkdirAll(filepath.Join(root, driver, nvidiaTwo), 0o755))
			},
			wantDegraded: "the GPU at " + nvidiaTwo + " has not been shown since boot: it may be hidden from this process"},
		"where the driver's list cannot be read nobody knows": {then: one,
			wantDegraded: "the GPU at " + nvidiaTwo + " has not been shown since boot: it may be hidden from this process"},
		"one that the driver is to leave alone": {then: nvidiaReading{gpus: both[:1], excluded: []string{nvidiaTwo}}},
		"one that may not be opened":            {before: &nvidiaReading{gpus: both}, then: nvidiaReading{gpus: both[:1], hidden: 1}, wantDegraded: "1 GPUs may not be opened"},
		"one that is unclear":                   {before: &nvidiaReading{gpus: both}, then: nvidiaReading{gpus: both[:1], unclear: []string{"GPU 1 cannot be opened"}}, wantDegraded: "GPU 1 cannot be opened"},
		"none is shown, and none was":           {wantErr: "may not be allowed to open their devices"},
		"a virtual function is no card of its own": {then: nvidiaReading{gpus: both},
			prepare: func(t *testing.T, root string) {
				nvidiaCard(t, root, "0000:af:00.4", "nvidia")
				require.NoError(t, os.Symlink("../"+nvidiaTwo, filepath.Join(root, "sys/bus/pci/devices/0000:af:00.4/physfn")))
			}},
	} {
		t.Run(name, func(t *testing.T) {
			root := nvidiaNone(t)
			nvidiaCard(t, root, nvidiaOne, "nvidia")
			nvidiaCard(t, root, nvidiaTwo, "nvidia")
			if tc.prepare != nil {
				tc.prepare(t, root)
			}
			fake := &nvidiaFake{}
			n, _ := nvidiaFakes(root, fake)
			if tc.before != nil {
				fake.reading = *tc.before
				look, err := n.Look(t.Context())
				require.NoError(t, err)
				require.Equal(t, tracking.Look{}, look)
				// An agent that starts anew in the same boot sees the same.
				cursor := n.Cursor()
				n, _ = nvidiaFakes(root, fake)
				n.Resume(cursor, true)
			}
			if tc.between != nil {
				tc.between(t, root)
			}
			fake.reading = tc.then
			look, err := n.Look(t.Context())
			if tc.wantErr != "" {
				require.ErrorContains(t, err, tc.wantErr)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.wantDegraded, look.Degraded)
			if tc.wantMessage == "" {
				assert.Empty(t, look.Faults)
				return
			}
			require.Len(t, look.Faults, 1)
			assert.Equal(t, ReasonNvidiaDeviceCountMismatch, look.Faults[0].Reason)
			assert.Equal(t, nvidiaTwo, look.Faults[0].Subject)
			assert.Equal(t, tc.wantMessage, look.Faults[0].Message)
		})
	}
}

func TestNvidiaThatCannotBeSeen(t *testing.T) {
	t.Run("a machine without a card", func(t *testing.T) {
		fake := &nvidiaFake{}
		n, _ := nvidiaFakes(nvidiaNone(t), fake)
		_, err := n.Look(t.Context())
		require.ErrorIs(t, err, detector.ErrNotPresent)
		assert.Zero(t, fake.calls, "no library is loaded")
	})
	t.Run("a card of a virtual machine alone", func(t *testing.T) {
		root := nvidiaNone(t)
		nvidiaCard(t, root, nvidiaOne, "vfio-pci")
		n, _ := nvidiaFakes(root, &nvidiaFake{})
		_, err := n.Look(t.Context())
		require.ErrorIs(t, err, detector.ErrNotPresent)
	})
	t.Run("a machine without sysfs", func(t *testing.T) {
		n, _ := nvidiaFakes(t.TempDir(), &nvidiaFake{})
		_, err := n.Look(t.Context())
		require.Error(t, err)
		require.NotErrorIs(t, err, detector.ErrNotPresent)
	})
	t.Run("a driver that is not there", func(t *testing.T) {
		root := nvidiaNone(t)
		nvidiaCard(t, root, nvidiaOne, "")
		n, _ := nvidiaFakes(root, &nvidiaFake{err: errors.New("whose library is not there")})
		_, err := n.Look(t.Context())
		require.ErrorContains(t, err, "asking the NVIDIA driver, whose library is not there")
		require.NotErrorIs(t, err, detector.ErrNotPresent)
	})
	t.Run("a driver whose reading panics", func(t *testing.T) {
		root := nvidiaNone(t)
		nvidiaCard(t, root, nvidiaOne, "nvidia")
		n, _ := nvidiaFakes(root, &nvidiaFake{panics: true})
		_, err := n.Look(t.Context())
		require.ErrorContains(t, err, "a bug")
	})
	t.Run("the real library, which this machine does not have", func(t *testing.T) {
		root := nvidiaNone(t)
		nvidiaCard(t, root, nvidiaOne, "")
		if _, err := os.Stat("/dev/nvidiactl"); err == nil {
			t.Skip("needs a machine without an NVIDIA driver")
		}
		_, err := NewNvidia(host.New(root), clocktesting.NewFakePassiveClock(unitsNow), NvidiaOptions{}).Look(t.Context())
		require.ErrorContains(t, err, "asking the NVIDIA driver")
		require.NotErrorIs(t, err, detector.ErrNotPresent)
	})
}

func TestNvidiaDriverThatHangs(t *testing.T) {
	root := nvidiaNone(t)
	nvidiaCard(t, root, nvidiaOne, "nvidia")
	hang := make(chan struct{})
	fake := &nvidiaFake{reading: nvidiaReading{gpus: []nvidiaGPU{nvidiaHealthy(nvidiaOne)}}, hang: hang}
	n, _ := nvidiaFakes(root, fake)
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := n.Look(ctx)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before+3, "it is asked once, and waited for")
	close(hang)
	look, err := n.Look(t.Context())
	require.NoError(t, err)
	assert.Equal(t, tracking.Look{}, look)
	assert.Equal(t, 2, fake.calls, "an answer that comes too late is not told")
}

func TestNvidiaEvents(t *testing.T) {
	root := nvidiaNone(t)
	nvidiaCard(t, root, nvidiaOne, "nvidia")
	fake := &nvidiaFake{reading: nvidiaReading{gpus: []nvidiaGPU{nvidiaHealthy(nvidiaOne)},
		events: []nvidiaEvent{{address: nvidiaOne, xid: 79}, {address: nvidiaOne, xid: 13}, {address: nvidiaOne, xid: 9999}}}}
	n, _ := nvidiaFakes(root, fake)
	look, err := n.Look(t.Context())
	require.NoError(t, err)
	var reasons []string
	for _, s := range look.Sightings {
		reasons = append(reasons, s.Reason)
		_, ok := health.Lookup(s.Reason)
		assert.True(t, ok, s.Reason)
	}
	assert.Equal(t, []string{"NvidiaXID79Error", "NvidiaXID13Warning", "NvidiaXID9999Warning"}, reasons)
}

func TestNvidiaLeaksNothing(t *testing.T) {
	root := nvidiaNone(t)
	nvidiaCard(t, root, nvidiaOne, "nvidia")
	n, _ := nvidiaFakes(root, &nvidiaFake{reading: nvidiaReading{gpus: []nvidiaGPU{nvidiaHealthy(nvidiaOne)}}})
	serviceLeaks(t, func() {
		_, err := n.Look(t.Context())
		require.NoError(t, err)
	})
}

// TestServiceReasonsAreInTheCatalogue holds the names of this file and of those of the other services to it.
func TestServiceReasonsAreInTheCatalogue(t *testing.T) {
	for _, reason := range []string{
		ReasonContainerdFailed, ReasonKubeletFailed, ReasonKubeletRepeatedRestart, ReasonRuntimeRepeatedRestart, ReasonServiceFailedToStart,
		ReasonNvidiaDoubleBitError, ReasonNvidiaRowRemapFailure, ReasonNvidiaNVLinkError, ReasonNvidiaFabricError, ReasonNvidiaDeviceCountMismatch,
		ReasonNvidiaPageRetirement, ReasonNvidiaPCIeError, ReasonNvidiaPowerError, ReasonNvidiaThermalError,
	} {
		_, ok := health.Lookup(reason)
		assert.True(t, ok, reason)
	}
}

func BenchmarkNvidiaLookWithoutACard(b *testing.B) {
	n := NewNvidia(host.New("/"), clocktesting.NewFakePassiveClock(unitsNow), NvidiaOptions{})
	if _, err := n.Look(b.Context()); !errors.Is(err, detector.ErrNotPresent) {
		b.Skip("needs a machine without a card of NVIDIA")
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = n.Look(b.Context())
	}
}
