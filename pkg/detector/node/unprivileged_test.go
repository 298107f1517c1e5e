package node

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// machineDetectors are those of the machine that read proc, sysfs and system calls alone.
func machineDetectors(h host.Host) []detector.Detector {
	devices := NewDevices(h, clock.RealClock{}, FilesystemsOptions{})
	return []detector.Detector{
		NewMounts(h, clock.RealClock{}, devices),
		NewDisks(h, devices, DisksOptions{}),
		NewProcesses(h, clock.RealClock{}, ProcessesOptions{}),
		NewClock(),
		NewMemoryErrors(h, clock.RealClock{}),
	}
}

func TestTheMachineIsSeenWithoutAnyPrivilege(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to give up being root")
	}
	child := exec.Command("/proc/self/exe", "-test.run=^TestHelperUnprivileged$", "-test.v")
	child.Env = append(os.Environ(), "UNPRIVILEGED_HELPER=1")
	// From root to another user: the kernel takes every capability.
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "seen by nobody")
}

func TestHelperUnprivileged(t *testing.T) {
	if os.Getenv("UNPRIVILEGED_HELPER") == "" {
		t.Skip("only the child of TestTheMachineIsSeenWithoutAnyPrivilege")
	}
	require.Equal(t, 65534, os.Getuid())
	for _, d := range machineDetectors(host.New(os.Getenv("UNPRIVILEGED_ROOT"))) {
		look, err := d.Look(context.Background())
		if errors.Is(err, detector.ErrNotPresent) {
			t.Logf("%s: nothing to look at here", d.Spec().Name)
			continue
		}
		require.NoError(t, err, d.Spec().Name)
		require.Empty(t, look.Degraded, d.Spec().Name)
		t.Logf("%s: %d faults", d.Spec().Name, len(look.Faults))
	}
	t.Log("seen by nobody")
}
