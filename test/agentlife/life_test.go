package agentlife

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const ipamdLog = "var/log/aws-routed-eni/ipamd.log"

func ipamdLine(level, message string) string {
	return fmt.Sprintf(`{"level":%q,"ts":%q,"caller":"ipamd/ipamd.go:400","msg":%q}`+"\n", level, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), message)
}

const (
	unreachable = `Unable to reach API Server: Get "https://10.100.0.1:443/version?timeout=5s": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)`
	reached     = "Successful communication with the Cluster! Cluster Version is: v1.31+. git version: v1.31.4-eks-2d5f260. git tree state: clean. commit: 0123abcd. platform: linux/amd64"
)

// A node whose address daemon could not reach the API server once, at boot, is well.
func TestOneLineAtBootCondemnsNoNode(t *testing.T) {
	for name, tc := range map[string]struct {
		lines []string
		want  v1alpha1.Severity
	}{
		"one line and a success":    {lines: []string{unreachable, reached}},
		"one line alone":            {lines: []string{unreachable}, want: v1alpha1.SeverityWarning},
		"many lines are a fault":    {lines: []string{unreachable, unreachable, unreachable, unreachable}, want: v1alpha1.SeverityFatal},
		"many lines and a success":  {lines: []string{unreachable, unreachable, unreachable, reached}},
		"a success and then a line": {lines: []string{reached, unreachable}, want: v1alpha1.SeverityWarning},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			text := ""
			for _, line := range tc.lines {
				text += ipamdLine("error", line)
			}
			require.NoError(t, n.root.Write(ipamdLog, text))
			n.start()
			n.sees("ipamd-log")
			n.eventually("what the log says is found", func() bool { return n.api.Worst("IPAMDNotReady") == tc.want })
			time.Sleep(2 * time.Second)
			require.Equal(t, tc.want, n.api.Worst("IPAMDNotReady"))
		})
	}
}

const xid79 = "NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."

// Whoever may write to /dev/kmsg could have the node replaced, were his word the kernel's.
func TestWhatAProgramWritesIntoTheKernelsLogMeansNothing(t *testing.T) {
	if file, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err != nil {
		t.Skipf("needs root and a kernel log that can be written: %v", err)
	} else {
		require.NoError(t, file.Close())
	}
	for name, tc := range map[string]struct {
		config string
		want   v1alpha1.Severity
	}{
		"as it is":                            {config: "reasons: {}\n"},
		"and everything where a test asks so": {config: "detectors: {kernelLog: {allFacilities: true}}\n", want: v1alpha1.SeverityFatal},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.configure(tc.config)
			require.NoError(t, os.Remove(n.root.Path("dev/kmsg")))
			require.NoError(t, os.Symlink("/dev/kmsg", n.root.Path("dev/kmsg")))
			n.start()
			n.sees("kernel-log")
			// A program can give its lines the kernel's level, not its facility.
			for _, prefix := range []string{"", "<0>"} {
				require.NoError(t, writeKernelLog(prefix+xid79))
			}
			if tc.want != "" {
				n.eventually("the line is found", func() bool { return n.api.Worst("NvidiaXID79Error") == tc.want })
				return
			}
			time.Sleep(3 * time.Second)
			require.Empty(t, n.api.Worst("NvidiaXID79Error"))
		})
	}
}

func writeKernelLog(line string) error {
	file, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(line + "\n")
	return errors.Join(err, file.Close())
}

// A program may be called as a rule's words are; it then dies, and means no more than any other.
func TestANameOfAProgramIsNoFault(t *testing.T) {
	n := newNode(t)
	log, err := n.root.KernelLog()
	require.NoError(t, err)
	names := []string{"NVRM: Xid 79", "soft lockup - C", "kernel BUG at m", "EXT4-fs error", "I/O error, dev", "blocked for mor", "neuron:HBM err"}
	for _, name := range names {
		require.NoError(t, log.Kernel(strings.Replace(OutOfMemory, "java", name, 1)))
		require.NoError(t, log.Kernel(name+"[4711]: segfault at 0 ip 00007f2a1c0d5e10 sp 00007ffc0a3b6f28 error 4 in libc.so.6[7f2a1c028000+195000] likely on CPU 3 (core 1, socket 0)"))
	}
	require.NoError(t, log.Close())
	n.start()
	n.eventually("all deaths are counted", func() bool { return n.api.Count("kernel-log", "OOMKilling") == int64(len(names)) })
	health, _ := n.api.Newest()
	for _, f := range health.Findings {
		if f.Source == "kernel-log" {
			require.Contains(t, []string{"OOMKilling", "AppCrash"}, f.Reason)
			require.Equal(t, v1alpha1.SeverityWarning, f.Severity)
		}
	}
}

// The toleration of the first fault passes, whatever comes after it.
func TestALaterFaultDoesNotMoveTheStartOfTheFirst(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	log, err := n.root.KernelLog()
	require.NoError(t, err)
	first := time.Now().Add(-40 * time.Minute)
	at := func(minute int) time.Time { return first.Add(time.Duration(minute) * time.Minute) }
	require.NoError(t, log.KernelAt(at(0), "NVRM: Xid (PCI:0000:01:00): 48, pid=1234, name=python, An uncorrectable double bit error (DBE) has been detected"))
	for minute := 1; minute < 38; minute++ {
		require.NoError(t, log.KernelAt(at(minute), "NVRM: Xid (PCI:0000:01:00): 63, pid=1234, name=python, Row Remapper: New row marked for remapping"))
		require.NoError(t, log.KernelAt(at(minute), "watchdog: BUG: soft lockup - CPU#3 stuck for 22s!"))
	}
	require.NoError(t, log.Flush())
	n.start()
	n.eventually("the first is found", func() bool { return n.api.Worst("NvidiaXID48Error") == v1alpha1.SeverityFatal })
	for i := range 5 {
		require.NoError(t, log.Kernel(fmt.Sprintf("NVRM: Xid (PCI:0000:01:00): %d, pid=1234, name=python, and another", 94+i)))
		require.NoError(t, log.Flush())
		time.Sleep(500 * time.Millisecond)
	}
	require.NoError(t, log.Close())
	n.eventually("the last is found", func() bool { return n.api.Worst("NvidiaXID98Error") != "" || n.api.Worst("NvidiaXID98Warning") != "" })
	require.Equal(t, 1, n.api.Beginnings("NvidiaXID48Error"))
	health, _ := n.api.Newest()
	for _, f := range health.Findings {
		if f.Reason == "NvidiaXID48Error" {
			require.WithinDuration(t, first, f.Since.Time, 5*time.Second)
		}
	}
}

// What the agent keeps is its findings together with the place in the log up to which they have counted. So where it is
// killed, be it in the midst of a flood, the lines since are read again, and no other.
func TestAKillInTheMidstOfAFloodLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	n.sees("kernel-log")
	log, err := n.root.KernelLog()
	require.NoError(t, err)
	const chunks, chunk = 60, 5000
	for i := range chunks {
		for range chunk {
			require.NoError(t, log.Kernel(OutOfMemory))
		}
		require.NoError(t, log.Flush())
		if i == 7 || i == 33 || i == 45 { // before anything is kept, and after
			n.agent.Kill()
			n.start()
		}
		time.Sleep(200 * time.Millisecond)
	}
	require.FileExists(t, filepath.Join(n.o.Dir, "state.json"))
	require.NoError(t, log.Kernel(LastLine))
	require.NoError(t, log.Close())
	n.eventually("the last line is found", func() bool { return n.api.Count("kernel-log", "KernelBug") == 1 })
	require.EqualValues(t, chunks*chunk, n.api.Count("kernel-log", "OOMKilling"))
	require.Equal(t, 1, n.api.Beginnings("OOMKilling"))
}

// Another configuration is another set of detectors, which go on where those before were.
func TestAReloadInTheMidstOfAFloodLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	n.sees("kernel-log")
	log, err := n.root.KernelLog()
	require.NoError(t, err)
	const chunks, chunk = 60, 5000
	for i := range chunks {
		for range chunk {
			require.NoError(t, log.Kernel(OutOfMemory))
		}
		require.NoError(t, log.Flush())
		n.configure(fmt.Sprintf("# the configuration of moment %d\nreasons: {}\n", i))
		time.Sleep(200 * time.Millisecond)
	}
	require.NoError(t, log.Kernel(LastLine))
	require.NoError(t, log.Close())
	n.eventually("the last line is found", func() bool { return n.api.Count("kernel-log", "KernelBug") == 1 })
	require.EqualValues(t, chunks*chunk, n.api.Count("kernel-log", "OOMKilling"))
	require.Equal(t, 1, n.api.Beginnings("OOMKilling"))
	text, err := os.ReadFile(filepath.Join(n.o.Dir, "agent.log"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, strings.Count(string(text), "took in a new configuration"), 2)
}

// The disks of the agent's own files are full: it says so, and sees what it saw before.
func TestAFullDiskIsToldAndTheAgentGoesOn(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	state, logs := fullDisk(t), fullDisk(t)
	n.o.StateFile = filepath.Join(state, "agent.json")
	log, err := os.OpenFile(filepath.Join(logs, "agent.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _ = log.Close() })
	n.o.Log = log
	n.start()
	n.eventually("the agent says that it cannot keep its state", func() bool {
		s, _ := n.api.Source("agent")
		return s.State == v1alpha1.SourceDegraded && strings.Contains(s.Message, "no space left on device")
	})
	kernel, err := n.root.KernelLog()
	require.NoError(t, err)
	require.NoError(t, kernel.Kernel(xid79))
	require.NoError(t, kernel.Close())
	n.eventually("a fault is found", func() bool { return n.api.Worst("NvidiaXID79Error") == v1alpha1.SeverityFatal })
	require.NoError(t, os.Remove(filepath.Join(state, "filler")))
	n.sees("agent")
	require.FileExists(t, n.o.StateFile)
	require.NoError(t, n.agent.Stop(), "it has lived all the time")
}

// fullDisk is a filesystem in memory that holds nothing more.
func fullDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("autorepair-full", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs root to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.False(t, errors.Is(err, fs.ErrNotExist))
	return dir
}
