package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/node"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	oomLine   = "Out of memory: Killed process 4711 (java) total-vm:4194304kB, anon-rss:1048576kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:2200kB oom_score_adj:984"
	xidLine   = "NVRM: Xid (PCI:0000:00:1e): 79, pid=1234, name=python3, GPU has fallen off the bus."
	ext4Line  = "EXT4-fs error (device sdb1): ext4_find_entry:1456: inode #2: comm ls: reading directory lblock 0"
	nfsLine   = "nfs: server fs-1.example.com not responding, still trying"
	nfsOKLine = "nfs: server fs-1.example.com OK"
)

func logCatalogue(t testing.TB, custom rules.Custom) *rules.Catalogue {
	t.Helper()
	catalogue, err := rules.New(custom)
	require.NoError(t, err)
	return catalogue
}

// logHost has a recorded kernel log, of a machine that was booted an hour ago.
func logHost(t testing.TB) host.Host {
	t.Helper()
	h := host.New(t.TempDir())
	for _, folder := range []string{"dev", "proc", "etc", "var/log", "sys/class/nvme/nvme0"} {
		require.NoError(t, os.MkdirAll(h.Path(folder), 0o700))
	}
	writeFile(t, h.Path("proc/stat"), fmt.Sprintf("btime %d\n", time.Now().Add(-time.Hour).Unix()))
	writeFile(t, h.Path("dev/kmsg"), "")
	return h
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func appendFile(t testing.TB, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	_, err = file.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

// kernelRecord is a raw record, logged at a time since boot.
func kernelRecord(sequence int, sinceBoot time.Duration, text string) string {
	return fmt.Sprintf("3,%d,%d,-;%s\n", sequence, sinceBoot.Microseconds(), text)
}

// lately is a time since boot that is some seconds ago.
const lately = time.Hour - 5*time.Second

// looked gives what is seen in looks until enough says so.
func looked(t testing.TB, d detector.Detector, enough func(tracking.Look) bool) tracking.Look {
	t.Helper()
	var all tracking.Look
	var err error
	for range 1200 {
		var look tracking.Look
		look, err = d.Look(t.Context())
		all.Sightings = append(all.Sightings, look.Sightings...)
		all.Lost += look.Lost
		all.Degraded = look.Degraded
		if enough(all) {
			return all
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("not seen; what was: %+v, %v", all, err)
	return all
}

func anything(l tracking.Look) bool { return len(l.Sightings) > 0 }

func startKernelLog(t testing.TB, h host.Host, devices node.KernelLogDevices) *node.KernelLog {
	t.Helper()
	k := node.NewKernelLog(h, clock.RealClock{}, logCatalogue(t, rules.Custom{}), devices, node.KernelLogOptions{})
	k.Start(t.Context())
	return k
}

func TestKernelLogTellsWhatTheKernelSaysSinceBoot(t *testing.T) {
	for name, tc := range map[string]struct {
		log  string
		want []tracking.Sighting
	}{
		"nothing where nothing is": {},
		"nothing of ordinary lines": {
			log: kernelRecord(1, lately, "Linux version 6.18.0") + kernelRecord(2, lately, "EXT4-fs (vda): mounted filesystem r/w"),
		},
		"nothing of what a program wrote": {log: "11,1,5,-;" + xidLine + "\n"},
		"an error of a GPU":               {log: kernelRecord(1, lately, xidLine), want: []tracking.Sighting{{Reason: "NvidiaXID79Error", Count: 1}}},
		"many of the same as one with its count": {
			log:  kernelRecord(1, lately, oomLine) + kernelRecord(2, lately+time.Second, oomLine) + kernelRecord(3, lately+2*time.Second, oomLine),
			want: []tracking.Sighting{{Reason: health.ReasonOOMKilling, Count: 3}},
		},
		"what is hours apart not as a burst": {
			log:  kernelRecord(1, time.Second, oomLine) + kernelRecord(2, lately, oomLine),
			want: []tracking.Sighting{{Reason: health.ReasonOOMKilling, Count: 1}, {Reason: health.ReasonOOMKilling, Count: 1}},
		},
		"a server that came back": {
			log:  kernelRecord(1, lately, nfsLine) + kernelRecord(2, lately+time.Second, nfsOKLine),
			want: []tracking.Sighting{{Reason: health.ReasonNfsServerNotResponding, Subject: "fs-1.example.com", Recovered: true}},
		},
		"a server that went again": {
			log: kernelRecord(1, lately, nfsLine) + kernelRecord(2, lately+time.Second, nfsOKLine) + kernelRecord(3, lately+2*time.Second, nfsLine),
			want: []tracking.Sighting{
				{Reason: health.ReasonNfsServerNotResponding, Subject: "fs-1.example.com", Recovered: true},
				{Reason: health.ReasonNfsServerNotResponding, Subject: "fs-1.example.com", Count: 1},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := logHost(t)
			writeFile(t, h.Path("dev/kmsg"), tc.log)
			k := startKernelLog(t, h, nil)
			look, err := k.Look(t.Context())
			require.NoError(t, err)
			require.Len(t, look.Sightings, len(tc.want))
			for i, want := range tc.want {
				got := look.Sightings[i]
				require.Equal(t, want.Reason, got.Reason)
				require.Equal(t, want.Count, got.Count)
				require.Equal(t, want.Recovered, got.Recovered)
				if want.Subject != "" {
					require.Equal(t, want.Subject, got.Subject)
				}
				require.WithinDuration(t, time.Now(), got.At, time.Hour+time.Minute)
			}
			require.Empty(t, look.Degraded)
		})
	}
}

func TestKernelLogGoesOnAfterARestart(t *testing.T) {
	h := logHost(t)
	writeFile(t, h.Path("dev/kmsg"), kernelRecord(1, lately, oomLine))
	ctx, stop := context.WithCancel(t.Context())
	first := node.NewKernelLog(h, clock.RealClock{}, logCatalogue(t, rules.Custom{}), nil, node.KernelLogOptions{})
	first.Start(ctx)
	look, err := first.Look(ctx)
	require.NoError(t, err)
	require.Len(t, look.Sightings, 1)
	cursor := first.Cursor()
	stop()

	appendFile(t, h.Path("dev/kmsg"), kernelRecord(2, lately+time.Second, xidLine))
	for name, tc := range map[string]struct {
		sameBoot bool
		want     []string
	}{
		"in the same boot with what is new alone": {sameBoot: true, want: []string{"NvidiaXID79Error"}},
		"in another boot from its start":          {want: []string{health.ReasonOOMKilling, "NvidiaXID79Error"}},
	} {
		t.Run(name, func(t *testing.T) {
			again := node.NewKernelLog(h, clock.RealClock{}, logCatalogue(t, rules.Custom{}), nil, node.KernelLogOptions{})
			again.Resume(cursor, tc.sameBoot)
			again.Start(t.Context())
			look, err := again.Look(t.Context())
			require.NoError(t, err)
			var reasons []string
			for _, s := range look.Sightings {
				reasons = append(reasons, s.Reason)
			}
			require.Equal(t, tc.want, reasons)
		})
	}
}

func TestKernelLogSaysWhatItLost(t *testing.T) {
	h := logHost(t)
	writeFile(t, h.Path("dev/kmsg"), kernelRecord(1, lately, "one")+kernelRecord(10, lately, "ten"))
	k := startKernelLog(t, h, nil)
	look, err := k.Look(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 8, look.Lost)
	require.Contains(t, look.Degraded, "lost 8 records since ")
	look, err = k.Look(t.Context())
	require.NoError(t, err)
	require.Zero(t, look.Lost)
	require.NotEmpty(t, look.Degraded, "for some minutes")
}

func TestKernelLogThatCannotBeReadIsAnError(t *testing.T) {
	h := logHost(t)
	require.NoError(t, os.Remove(h.Path("dev/kmsg")))
	k := startKernelLog(t, h, nil)
	_, err := k.Look(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, detector.ErrNotPresent)
	require.NoError(t, unix.Mkfifo(h.Path("dev/kmsg"), 0o600))
	k = startKernelLog(t, h, nil)
	_, err = k.Look(t.Context())
	require.ErrorContains(t, err, "neither the device")
}

// fakeDevices are the disks of a machine.
type fakeDevices struct {
	ofNode   map[string]bool
	standing bool
	writable bool
}

func (d fakeDevices) OfNode(device string) (bool, bool) {
	ofNode, known := d.ofNode[device]
	return ofNode, known
}
func (d fakeDevices) Standing(string, time.Time) (bool, bool) { return d.standing, true }
func (d fakeDevices) Writable(string) (bool, bool)            { return d.writable, true }

func TestKernelLogKnowsWhoseADiskIs(t *testing.T) {
	for name, tc := range map[string]struct {
		devices node.KernelLogDevices
		want    v1alpha1.Severity
	}{
		"of the node":                      {devices: fakeDevices{ofNode: map[string]bool{"sdb1": true}, standing: true}},
		"of a pod":                         {devices: fakeDevices{ofNode: map[string]bool{"sdb1": false}, standing: true}, want: v1alpha1.SeverityWarning},
		"of nobody knows whom":             {devices: fakeDevices{standing: true}, want: v1alpha1.SeverityWarning},
		"where nobody knows of any device": {want: v1alpha1.SeverityWarning},
	} {
		t.Run(name, func(t *testing.T) {
			h := logHost(t)
			writeFile(t, h.Path("dev/kmsg"), kernelRecord(1, lately, ext4Line))
			look, err := startKernelLog(t, h, tc.devices).Look(t.Context())
			require.NoError(t, err)
			require.Len(t, look.Sightings, 1)
			require.Equal(t, health.ReasonExt4Error, look.Sightings[0].Reason)
			require.Equal(t, tc.want, look.Sightings[0].Severity)
		})
	}
}

func TestKernelLogAsksWhetherAFaultStillStands(t *testing.T) {
	const longAgo = 30 * time.Minute
	nvme := "nvme nvme0: I/O 12 QID 3 timeout, aborting"
	for name, tc := range map[string]struct {
		line    string
		at      time.Duration
		devices fakeDevices
		nvme    string
		over    bool
	}{
		"a filesystem that is as it was":        {line: ext4Line, at: longAgo, devices: fakeDevices{standing: true}},
		"a filesystem that was mounted again":   {line: ext4Line, at: longAgo, devices: fakeDevices{}, over: true},
		"a line that must be shown for a while": {line: ext4Line, at: lately},
		"a controller that works again":         {line: nvme, at: longAgo, nvme: "live\n", over: true},
		"a controller that does not":            {line: nvme, at: longAgo, nvme: "resetting\n"},
		"a controller that is gone":             {line: nvme, at: longAgo},
	} {
		t.Run(name, func(t *testing.T) {
			h := logHost(t)
			if tc.nvme != "" {
				writeFile(t, h.Path("sys/class/nvme/nvme0/state"), tc.nvme)
			}
			writeFile(t, h.Path("dev/kmsg"), kernelRecord(1, tc.at, tc.line))
			k := startKernelLog(t, h, tc.devices)
			look, err := k.Look(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, look.Sightings)
			require.False(t, look.Sightings[0].Recovered)
			require.Equal(t, tc.over, len(look.Sightings) == 2 && look.Sightings[1].Recovered)
			require.NotEmpty(t, look.Sightings[0].Subject)
		})
	}
	t.Run("after a restart of the agent too", func(t *testing.T) {
		h := logHost(t)
		writeFile(t, h.Path("dev/kmsg"), kernelRecord(1, longAgo, ext4Line))
		k := startKernelLog(t, h, fakeDevices{standing: true})
		_, err := k.Look(t.Context())
		require.NoError(t, err)
		again := node.NewKernelLog(h, clock.RealClock{}, logCatalogue(t, rules.Custom{}), fakeDevices{}, node.KernelLogOptions{})
		again.Resume(k.Cursor(), true)
		again.Start(t.Context())
		look, err := again.Look(t.Context())
		require.NoError(t, err)
		require.Len(t, look.Sightings, 1)
		require.True(t, look.Sightings[0].Recovered)
	})
}

func TestKernelLogTellsFewSubjectsApart(t *testing.T) {
	h := logHost(t)
	var log strings.Builder
	for i := range 5000 {
		log.WriteString(kernelRecord(i+1, lately+time.Duration(i)*time.Microsecond, fmt.Sprintf("nfs: server host-%d not responding, still trying", i)))
	}
	writeFile(t, h.Path("dev/kmsg"), log.String())
	look, err := startKernelLog(t, h, nil).Look(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, len(look.Sightings), 65)
	total := int64(0)
	for _, s := range look.Sightings {
		total += s.Count
	}
	require.EqualValues(t, 5000, total)
	require.Equal(t, tracking.Others, look.Sightings[len(look.Sightings)-1].Subject)
}

// writeKernelLog writes as a program does; the end of the line lets the kernel hand it out.
func writeKernelLog(text string) error {
	device, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = device.WriteString(text + "\n")
	return errors.Join(err, device.Close())
}

func markedCatalogue(t *testing.T) (*rules.Catalogue, string) {
	t.Helper()
	mark := fmt.Sprintf("autorepair-%d-%d", os.Getpid(), time.Now().UnixNano())
	return logCatalogue(t, rules.Custom{Rules: []rules.Rule{{
		Reason: health.ReasonKernelBug, Stream: health.StreamKmsg, Pattern: "^" + mark, Sample: mark, CounterSample: "nothing",
	}}}), mark
}

func TestKernelLogOnTheRealDevice(t *testing.T) {
	catalogue, mark := markedCatalogue(t)
	if err := writeKernelLog("<4>" + mark + " before"); err != nil {
		t.Skipf("needs root and a kernel log that can be written: %v", err)
	}
	strict := node.NewKernelLog(host.New("/"), clock.RealClock{}, catalogue, nil, node.KernelLogOptions{})
	strict.Start(t.Context())
	k := node.NewKernelLog(host.New("/"), clock.RealClock{}, catalogue, nil, node.KernelLogOptions{AllFacilities: true})
	k.Start(t.Context())
	looked(t, k, anything)
	written := time.Now()
	require.NoError(t, writeKernelLog("<4>"+mark+" "+strings.Repeat("z", 700)))
	select {
	case <-k.Wake():
	case <-time.After(20 * time.Second):
		t.Fatal("no look was asked for")
	}
	look := looked(t, k, anything)
	require.WithinDuration(t, written, look.Sightings[0].At, 10*time.Second)
	look, err := strict.Look(t.Context())
	require.NoError(t, err)
	for _, s := range look.Sightings {
		require.NotContains(t, s.Evidence, mark, "what a program writes proves nothing")
	}
}

// floodHost has a recorded log of a million out-of-memory lines.
func floodHost(t testing.TB, lines int) host.Host {
	t.Helper()
	h := logHost(t)
	file, err := os.Create(h.Path("dev/kmsg"))
	require.NoError(t, err)
	var chunk strings.Builder
	for i := range lines {
		chunk.WriteString(kernelRecord(i+1, lately+time.Duration(i)*time.Microsecond, oomLine))
		if chunk.Len() > 1<<20 || i == lines-1 {
			_, err := file.WriteString(chunk.String())
			require.NoError(t, err)
			chunk.Reset()
		}
	}
	require.NoError(t, file.Close())
	return h
}

func TestAFloodIsOneSightingAndNoMemory(t *testing.T) {
	const lines = 200_000
	h := floodHost(t, lines)
	k := startKernelLog(t, h, nil)
	look := looked(t, k, func(l tracking.Look) bool { return countOf(l) == lines })
	require.Less(t, len(look.Sightings), 50)
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	require.Less(t, stats.HeapAlloc, uint64(64<<20))
}

func countOf(l tracking.Look) int64 {
	total := int64(0)
	for _, s := range l.Sightings {
		total += s.Count
	}
	return total
}

func BenchmarkKernelLogFlood(b *testing.B) {
	const lines = 1_000_000
	h := floodHost(b, lines)
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		ctx, stop := context.WithCancel(b.Context())
		k := node.NewKernelLog(h, clock.RealClock{}, logCatalogue(b, rules.Custom{}), nil, node.KernelLogOptions{})
		k.Start(ctx)
		total := int64(0)
		for total < lines {
			look, err := k.Look(ctx)
			if err == nil {
				total += countOf(look)
			}
		}
		stop()
	}
	// By the time of the processor, since others may use it too.
	b.ReportMetric(float64(lines)*float64(b.N)/(processorTime(b)-before).Seconds(), "lines/cpu-s")
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	b.ReportMetric(float64(stats.HeapSys)/(1<<20), "heap-MiB")
}

func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var usage unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// explosive is a catalogue that fails on every line.
type explosive struct{}

func (explosive) Match(health.Stream, string) (rules.Match, bool) {
	panic("a line that nobody foresaw")
}
func (explosive) Reason(string) (health.Reason, bool) { return health.Reason{}, false }

func TestAPanicOverALineLosesThatLineAlone(t *testing.T) {
	h := logHost(t)
	writeFile(t, h.Path("dev/kmsg"), kernelRecord(1, lately, "a line"))
	k := node.NewKernelLog(h, clock.RealClock{}, explosive{}, nil, node.KernelLogOptions{})
	k.Start(t.Context())
	look, err := k.Look(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, look.Lost)
	require.Contains(t, look.Degraded, "nobody foresaw")
}
