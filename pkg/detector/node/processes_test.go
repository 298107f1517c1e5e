package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// processesTree is a machine with so many threads and open files.
func processesTree(t *testing.T, threads, files int) string {
	t.Helper()
	return tree(t, map[string]string{
		"proc/loadavg":                fmt.Sprintf("0.10 0.20 0.30 2/%d 4711\n", threads),
		"proc/sys/kernel/pid_max":     "1000\n",
		"proc/sys/kernel/threads-max": "2000\n",
		"proc/sys/fs/file-nr":         fmt.Sprintf("%d\t0\t1000\n", files),
		"proc/1/stat":                 "1 (systemd) S 0 1 1 0 -1\n",
	})
}

func processesOn(root string) *Processes {
	return NewProcesses(host.New(root), clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), ProcessesOptions{})
}

func reasonsOf(look tracking.Look) []string {
	reasons := []string{}
	for _, f := range look.Faults {
		reasons = append(reasons, f.Reason)
	}
	return reasons
}

func TestLimitsOfProcessesAndFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		threads, files int
		want           []string
	}{
		"a quiet machine":                      {threads: 100, files: 100, want: []string{}},
		"just below the warnings":              {threads: 699, files: 699, want: []string{}},
		"many threads are a warning":           {threads: 700, files: 1, want: []string{health.ReasonApproachingKernelPidMax}},
		"many files are a warning":             {threads: 1, files: 700, want: []string{health.ReasonApproachingMaxOpenFiles}},
		"just below the limit":                 {threads: 949, files: 1, want: []string{health.ReasonApproachingKernelPidMax}},
		"at the smaller of the two limits":     {threads: 950, files: 1, want: []string{health.ReasonForkFailedOutOfPIDs, health.ReasonApproachingKernelPidMax}},
		"above it, where the count runs ahead": {threads: 1001, files: 1, want: []string{health.ReasonForkFailedOutOfPIDs, health.ReasonApproachingKernelPidMax}},
	} {
		t.Run(name, func(t *testing.T) {
			p := processesOn(processesTree(t, tc.threads, tc.files))
			look, err := p.Look(context.Background())
			require.NoError(t, err)
			require.Equal(t, tc.want, reasonsOf(look))
			require.Empty(t, look.Degraded)
			for _, f := range look.Faults {
				if f.Reason == health.ReasonForkFailedOutOfPIDs {
					require.Equal(t, 30*time.Second, *f.ConfirmAfter)
				}
			}
		})
	}
}

func TestOutOfPIDsIsOverOnlyWellBelowTheLimit(t *testing.T) {
	root := processesTree(t, 950, 1)
	p := processesOn(root)
	for _, step := range []struct {
		threads int
		want    bool
	}{{950, true}, {949, true}, {800, true}, {799, false}, {949, false}, {950, true}} {
		require.NoError(t, os.WriteFile(filepath.Join(root, "proc/loadavg"), []byte(fmt.Sprintf("0 0 0 1/%d 1\n", step.threads)), 0o644))
		look, err := p.Look(context.Background())
		require.NoError(t, err)
		require.Equal(t, step.want, len(look.Faults) > 0 && look.Faults[0].Reason == health.ReasonForkFailedOutOfPIDs, "%d threads", step.threads)
	}
}

func TestALimitThatANamespaceHidesIsSaid(t *testing.T) {
	root := processesTree(t, 1950, 1)
	require.NoError(t, os.WriteFile(filepath.Join(root, "proc/sys/kernel/pid_max"), []byte("4194304\n"), 0o644))
	p := processesOn(root)
	p.ownNamespace = func() bool { return true }
	look, err := p.Look(context.Background())
	require.NoError(t, err)
	require.Contains(t, look.Degraded, "kernel.pid_max cannot be seen")
	require.Contains(t, reasonsOf(look), health.ReasonForkFailedOutOfPIDs, "the other limit is seen all the same")
}

func TestWhatCannotBeReadIsAnError(t *testing.T) {
	for _, gone := range []string{"proc/loadavg", "proc/sys/kernel/pid_max", "proc/sys/kernel/threads-max", "proc/sys/fs/file-nr"} {
		root := processesTree(t, 1, 1)
		require.NoError(t, os.Remove(filepath.Join(root, gone)))
		p := processesOn(root)
		_, err := p.Look(context.Background())
		require.Error(t, err, gone)
	}
	root := processesTree(t, 1, 1)
	require.NoError(t, os.RemoveAll(filepath.Join(root, "proc/1")))
	p := processesOn(root)
	look, err := p.Look(context.Background())
	require.NoError(t, err)
	require.Contains(t, look.Degraded, "hidden")
}

func TestRecordedCgroupsOfV2(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"the runtime's service at its limit": {files: map[string]string{
			"system.slice/containerd.service/pids.max": "100\n", "system.slice/containerd.service/pids.current": "97\n",
		}, want: "system.slice/containerd.service"},
		"all pods together at their limit": {files: map[string]string{
			"kubepods.slice/pids.max": "1000\n", "kubepods.slice/pids.current": "1000\n",
		}, want: "kubepods.slice"},
		"one pod at its own": {files: map[string]string{
			"kubepods.slice/pids.max": "max\n", "kubepods.slice/pids.current": "1000\n",
			"kubepods.slice/kubepods-pod1.slice/pids.max": "100\n", "kubepods.slice/kubepods-pod1.slice/pids.current": "100\n",
		}},
		"a service well below its own": {files: map[string]string{
			"system.slice/kubelet.service/pids.max": "100\n", "system.slice/kubelet.service/pids.current": "80\n",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			root := processesTree(t, 1, 1)
			for file, content := range tc.files {
				path := filepath.Join(root, "sys/fs/cgroup", file)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
			}
			p := processesOn(root)
			look, err := p.Look(context.Background())
			require.NoError(t, err)
			if tc.want == "" {
				require.Empty(t, look.Faults)
				return
			}
			require.Equal(t, []string{health.ReasonForkFailedOutOfPIDs}, reasonsOf(look))
			require.Equal(t, tc.want, look.Faults[0].Subject)
		})
	}
}

// pidsCgroup makes a cgroup of our own with the pids controller, and gives the folder that stands for its root.
func pidsCgroup(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make cgroups")
	}
	for _, root := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		own := filepath.Join(root, fmt.Sprintf("autorepair-test-%d", os.Getpid()))
		if os.Mkdir(own, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(own) })
		// Of v2 the controller must be given to the children.
		_ = os.WriteFile(filepath.Join(own, "cgroup.subtree_control"), []byte("+pids"), 0o644)
		group := filepath.Join(own, "kubepods.slice")
		require.NoError(t, os.Mkdir(group, 0o755))
		t.Cleanup(func() { _ = os.Remove(group) })
		if _, err := os.Stat(filepath.Join(group, "pids.max")); err == nil {
			return own
		}
	}
	t.Skip("no pids cgroup can be made here: mount one at /sys/fs/cgroup/pids, or v2 with the pids controller at /sys/fs/cgroup")
	return ""
}

// forkUntilItFails runs a shell in a cgroup that starts processes until it cannot.
func forkUntilItFails(t *testing.T, group string) {
	t.Helper()
	shell := exec.Command("sh", "-c", "read go; while :; do sleep 300 & done")
	in, err := shell.StdinPipe()
	require.NoError(t, err)
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	defer func() { require.NoError(t, output.Close()) }()
	shell.Stdout, shell.Stderr = output, output
	require.NoError(t, shell.Start())
	procs := filepath.Join(group, "cgroup.procs")
	t.Cleanup(func() { pidsEnd(t, procs) })
	require.NoError(t, os.WriteFile(procs, []byte(strconv.Itoa(shell.Process.Pid)), 0o644))
	_, err = io.WriteString(in, "go\n")
	require.NoError(t, err)
	require.Error(t, shell.Wait(), "the shell gives up when it cannot fork")
	told, err := os.ReadFile(output.Name())
	require.NoError(t, err)
	require.Contains(t, strings.ToLower(string(told)), "fork", "it was the fork that failed: %s", told)
}

// pidsEnd ends what is in a cgroup that was made for it.
func pidsEnd(t *testing.T, procs string) {
	t.Helper()
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(procs)
		if errors.Is(err, os.ErrNotExist) || (err == nil && len(text) == 0) {
			return true
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return false
	}, 20*time.Second, 20*time.Millisecond)
}

func TestACgroupOfTheNodeInWhichForkFails(t *testing.T) {
	for name, tc := range map[string]struct {
		group string
		want  int
	}{
		"that of all pods": {group: "kubepods.slice", want: 1},
		"that of one pod":  {group: "kubepods.slice/kubepods-pod1.slice"},
	} {
		t.Run(name, func(t *testing.T) {
			cgroups := pidsCgroup(t)
			root := processesTree(t, 1, 1)
			require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/fs/cgroup"), 0o755))
			require.NoError(t, os.Symlink(cgroups, filepath.Join(root, "sys/fs/cgroup/pids")))
			_ = os.WriteFile(filepath.Join(cgroups, "kubepods.slice/cgroup.subtree_control"), []byte("+pids"), 0o644)
			group := filepath.Join(cgroups, tc.group)
			if err := os.Mkdir(group, 0o755); err == nil {
				t.Cleanup(func() { _ = os.Remove(group) })
			}
			require.NoError(t, os.WriteFile(filepath.Join(group, "pids.max"), []byte("20"), 0o644))
			p := processesOn(root)
			look, err := p.Look(context.Background())
			require.NoError(t, err)
			require.Empty(t, look.Faults)

			forkUntilItFails(t, group)
			look, err = p.Look(context.Background())
			require.NoError(t, err)
			require.Len(t, look.Faults, tc.want)
			if tc.want > 0 {
				require.Equal(t, health.ReasonForkFailedOutOfPIDs, look.Faults[0].Reason)
				require.Equal(t, "kubepods.slice", look.Faults[0].Subject)
			}

			pidsEnd(t, filepath.Join(group, "cgroup.procs"))
			require.Eventually(t, func() bool {
				look, err = p.Look(context.Background())
				return err == nil && len(look.Faults) == 0
			}, 20*time.Second, 20*time.Millisecond)
		})
	}
}

func TestZombiesAreCountedAndTheirParentNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		mode string
		want bool
	}{
		"a parent that does not wait": {mode: "leave", want: true},
		"a parent that waits":         {mode: "wait"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := exec.Command("/proc/self/exe", "-test.run=^TestHelperZombies$")
			parent.Env = append(os.Environ(), "ZOMBIES_HELPER="+tc.mode)
			in, err := parent.StdinPipe()
			require.NoError(t, err)
			out, err := parent.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, parent.Start())
			t.Cleanup(func() { _ = in.Close(); _ = parent.Wait() })
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "ready\n", line)

			clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
			p := NewProcesses(host.New(""), clk, ProcessesOptions{Zombies: 60})
			// A process that has ended is a zombie a moment later.
			var found string
			require.Eventually(t, func() bool {
				clk.Step(processesZombiesEvery)
				look, err := p.Look(context.Background())
				require.NoError(t, err)
				found = ""
				for _, f := range look.Faults {
					if f.Reason == health.ReasonExcessiveZombieProcesses && strings.Contains(f.Message, fmt.Sprintf("(%d)", parent.Process.Pid)) {
						found = f.Message
						require.Greater(t, *f.ConfirmAfter, processesZombiesEvery, "a second walk has the last word")
					}
				}
				return (found != "") == tc.want
			}, 20*time.Second, 20*time.Millisecond)
		})
	}
}

func TestHelperZombies(t *testing.T) {
	mode := os.Getenv("ZOMBIES_HELPER")
	if mode == "" {
		t.Skip("only the child of TestZombiesAreCountedAndTheirParentNamed")
	}
	for range 60 {
		child := exec.Command("true")
		require.NoError(t, child.Start())
		if mode == "wait" {
			require.NoError(t, child.Wait())
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestThisMachineIsNotOutOfAnything(t *testing.T) {
	p := NewProcesses(host.New(""), clocktesting.NewFakeClock(time.Now()), ProcessesOptions{Zombies: 10000})
	look, err := p.Look(context.Background())
	if err != nil {
		t.Skipf("this machine cannot be read: %v", err)
	}
	require.Empty(t, look.Faults)
}

func FuzzParseThreads(f *testing.F) {
	for _, seed := range []string{"0.57 1.73 1.11 2/92 19951\n", "", "a b c d", "1 2 3 4/", "1 2 3 /-5 6"} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseThreads(text) })
}

func FuzzParseFileNr(f *testing.F) {
	for _, seed := range []string{"521\t0\t2466170\n", "1 2", "1 2 3 4", "9223372036854775807 -9223372036854775808 0"} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, text string) { _, _, _ = parseFileNr(text) })
}

func FuzzParseStat(f *testing.F) {
	for _, seed := range []string{"4711 (a name) with ) in it) Z 1 4711", "1 (x) S", "", ")", "1 () ZZ 1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stat []byte) {
		if state, _, ok := parseStat(stat); ok && state == ' ' {
			t.Errorf("%q has a blank for its state", stat)
		}
	})
}

func BenchmarkProcessesHere(b *testing.B) {
	p := NewProcesses(host.New(""), clocktesting.NewFakeClock(time.Now()), ProcessesOptions{})
	for b.Loop() {
		p.zombiesAt = time.Time{}
		if _, err := p.Look(context.Background()); err != nil {
			b.Skip(err)
		}
	}
}
