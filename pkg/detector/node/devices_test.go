package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

func TestDevicesOfTheNodeAreToldFromThoseOfPods(t *testing.T) {
	loopNeeds(t, "mkfs.ext4")
	own := loopDevice(t, "32M", "mkfs.ext4", "-q", "-F")
	pods := loopDevice(t, "32M", "mkfs.ext4", "-q", "-F")
	kubelet := filepath.Join(t.TempDir(), "kubelet")
	loopMount(t, own, kubelet)
	loopMount(t, pods, filepath.Join(kubelet, "pods/1/volumes/v"))
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	d := NewDevices(host.New(""), clk, FilesystemsOptions{KubeletRoot: kubelet})
	for name, tc := range map[string]struct {
		device     string
		wantOfNode bool
		wantKnown  bool
	}{
		"the kubelet's":                  {device: filepath.Base(own), wantOfNode: true, wantKnown: true},
		"the kubelet's, by its path":     {device: own, wantOfNode: true, wantKnown: true},
		"a pod's":                        {device: filepath.Base(pods), wantKnown: true},
		"one that the machine lacks":     {device: "sdzz"},
		"one that tries to leave /dev":   {device: "../../" + own},
		"a controller that is not there": {device: "nvme99", wantKnown: true}, // whatever it was, the node's own filesystems lie elsewhere
	} {
		t.Run(name, func(t *testing.T) {
			ofNode, known := d.OfNode(tc.device)
			require.Equal(t, tc.wantOfNode, ofNode)
			require.Equal(t, tc.wantKnown, known)
		})
	}
}

func TestRecordedDevicesOfTheNode(t *testing.T) {
	d := NewDevices(host.New(disksMachine(t, nil)), clocktesting.NewFakeClock(time.Time{}.Add(time.Hour)), FilesystemsOptions{})
	for device, want := range map[string]bool{
		"nvme0n1p1": true, "nvme0n1": true, "nvme0c0n1": true, "nvme0": true, "259:1": true, "/dev/nvme0n1p1": true,
		"nvme1n1": false, "nvme1": false, "259:2": false,
	} {
		ofNode, known := d.OfNode(device)
		require.True(t, known, device)
		require.Equal(t, want, ofNode, device)
	}
}

func TestAControllerThatIsGoneIsStillKnownByWhatIsMounted(t *testing.T) {
	root := disksMachine(t, nil)
	for _, controller := range []string{"nvme0", "nvme1"} {
		require.NoError(t, os.RemoveAll(filepath.Join(root, "sys/class/nvme", controller)))
	}
	d := NewDevices(host.New(root), clocktesting.NewFakeClock(time.Time{}.Add(time.Hour)), FilesystemsOptions{})
	for device, want := range map[string]bool{"nvme0": true, "nvme1": false} {
		ofNode, known := d.OfNode(device)
		require.True(t, known, device)
		require.Equal(t, want, ofNode, device)
	}
}

func TestAFilesystemThatIsMountedAnewIsNotTheOneThatBroke(t *testing.T) {
	loopNeeds(t, "mkfs.xfs", "xfs_io")
	device := loopDevice(t, "320M", "mkfs.xfs", "-q")
	point := filepath.Join(t.TempDir(), "kubelet/pods/1/volumes/v")
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	d := NewDevices(host.New(""), clk, FilesystemsOptions{})
	standing := func(at time.Time) bool {
		t.Helper()
		clk.Step(mountsInterval)
		standing, known := d.Standing(filepath.Base(device), at)
		require.True(t, known)
		return standing
	}
	require.False(t, standing(clk.Now()), "what is not mounted does not stand")
	loopMount(t, device, point)
	clk.Step(mountsInterval)
	writable, known := d.Writable(device)
	require.True(t, writable && known)

	broken := clk.Now()
	loopRun(t, "xfs_io", "-x", "-c", "shutdown", point)
	require.True(t, standing(broken))
	require.False(t, d.MountedSince(device, broken))
	writable, known = d.Writable(device)
	require.True(t, writable && known, "XFS does not say in the mount table that it has shut down")

	// An agent that starts anew knows no other than what it finds; with what was kept, it goes on.
	fresh := NewDevices(host.New(""), clk, FilesystemsOptions{})
	stands, known := fresh.Standing(device, broken)
	require.True(t, stands && known)

	loopRun(t, "umount", point)
	require.False(t, standing(broken))
	loopRun(t, "mount", device, point)
	require.False(t, standing(broken), "it was mounted anew")
	require.True(t, d.MountedSince(device, broken))
	require.True(t, standing(clk.Now()), "and what befalls it now stands")

	kept := NewMounts(host.New(""), clk, NewDevices(host.New(""), clk, FilesystemsOptions{}))
	kept.Resume(NewMounts(host.New(""), clk, d).Cursor(), true)
	stands, known = kept.devices.Standing(device, broken)
	require.True(t, known)
	require.False(t, stands)
}

func TestWhatCannotBeReadIsNotKnown(t *testing.T) {
	d := NewDevices(host.New(t.TempDir()), clocktesting.NewFakeClock(time.Time{}), FilesystemsOptions{})
	_, known := d.OfNode("sda")
	require.False(t, known)
	_, known = d.Standing("sda", time.Time{})
	require.False(t, known)
	_, known = d.Writable("sda")
	require.False(t, known)
	require.False(t, d.MountedSince("sda", time.Time{}))
}

func TestTheAgentsOwnMountsDoNotSayWhatTheNodeLacks(t *testing.T) {
	root := disksMachine(t, map[string]string{"proc/self/mountinfo": "21 1 259:2 / /etc/hosts rw - ext4 /dev/nvme1n1 rw\n"})
	require.NoError(t, os.Remove(filepath.Join(root, "proc/1/mountinfo")))
	d := NewDevices(host.New(root), clocktesting.NewFakeClock(time.Time{}.Add(time.Hour)), FilesystemsOptions{})
	_, known := d.OfNode("nvme0n1p1")
	require.False(t, known)
	_, known = d.Standing("nvme0n1p1", time.Time{})
	require.False(t, known, "it may well be mounted on the node")
	standing, known := d.Standing("nvme1n1", time.Time{}.Add(time.Minute))
	require.True(t, standing && known)
}
