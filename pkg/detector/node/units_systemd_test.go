package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// unitsInit makes a machine of its own for systemd, which knows no units but those of the test.
const unitsInit = `set -e
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH="$1" \
	/lib/systemd/systemd --system --unit=test.target --log-target=null`

// unitsSystemd boots systemd in namespaces of its own and gives its process ID.
func unitsSystemd(t *testing.T, units map[string]string) (booted string) {
	t.Helper()
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and systemd: apt-get install systemd")
	}
	folder := serviceDir(t)
	for name, text := range units {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	command := exec.Command("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--uts", "--ipc", "--net", "--cgroup",
		"sh", "-c", unitsInit, "sh", folder)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	children := fmt.Sprintf("/proc/%d/task/%d/children", command.Process.Pid, command.Process.Pid)
	for range 200 {
		text, err := os.ReadFile(children)
		if booted := strings.TrimSpace(string(text)); err == nil && booted != "" {
			if _, err := os.Stat(filepath.Join("/proc", booted, "root/run/systemd/private")); err == nil {
				return booted
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Skip("needs a kernel on which systemd boots in namespaces of its own")
	return ""
}

// TestUnitsOfARealSystemd holds the answers of the fake to those of the original: a service that fails once, one that
// is started again and again, and one that runs. It looks from within, for systemd refuses whom it cannot see.
func TestUnitsOfARealSystemd(t *testing.T) {
	const unit = "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n[Service]\n"
	booted := unitsSystemd(t, map[string]string{
		"test.target":        "[Unit]\nDefaultDependencies=no\nWants=kubelet.service containerd.service crio.service\n",
		"kubelet.service":    unit + "ExecStart=/bin/false\nRestart=always\nRestartSec=500ms\n",
		"containerd.service": unit + "ExecStart=/bin/false\n",
		"crio.service":       unit + "ExecStart=/bin/sleep 1000\n",
	})
	command := exec.Command("nsenter", "--target", booted, "--pid", "--mount", os.Args[0], "-test.run=TestUnitsWithinSystemd", "-test.v")
	command.Env = append(os.Environ(), "UNITS_TEST_SYSTEMD=1")
	out, err := command.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "--- PASS: TestUnitsWithinSystemd")
}

// TestUnitsWithinSystemd is run by the test above.
func TestUnitsWithinSystemd(t *testing.T) {
	if os.Getenv("UNITS_TEST_SYSTEMD") == "" {
		t.Skip("run by TestUnitsOfARealSystemd")
	}
	u := unitsNew(t, "/")
	restarts, told := int64(0), map[string]int{}
	var last tracking.Look
	require.Eventually(t, func() bool {
		look, err := u.Look(t.Context())
		if err != nil {
			t.Log(err)
			return false
		}
		for _, s := range look.Sightings {
			told[s.Reason+" "+s.Subject]++
			if s.Reason == ReasonKubeletRepeatedRestart {
				restarts += s.Count
			}
		}
		last = look
		return restarts >= 3 && told[ReasonServiceFailedToStart+" kubelet.service"] >= 2
	}, 60*time.Second, 50*time.Millisecond)
	require.Len(t, last.Faults, 1)
	assert.Equal(t, ReasonServiceFailedToStart, last.Faults[0].Reason)
	assert.Equal(t, "containerd.service", last.Faults[0].Subject)
	assert.Equal(t, []string{"failed (failed)"}, last.Faults[0].Evidence)
	assert.Empty(t, last.Degraded)
	for what := range told {
		assert.NotContains(t, what, "crio.service", "what runs does nothing")
	}
	assert.NotContains(t, told, ReasonRuntimeRepeatedRestart+" containerd.service", "what is not started again has not been")
}
