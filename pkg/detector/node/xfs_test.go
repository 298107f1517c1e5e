package node

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/xfs"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

func xfsOn(t *testing.T, point string, mkfs ...string) (device string, x *XFSFreeSpace) {
	t.Helper()
	loopNeeds(t, "mkfs.xfs", "xfs_spaceman")
	device = loopDevice(t, "320M", append([]string{"mkfs.xfs", "-q"}, mkfs...)...)
	loopMount(t, device, point)
	h := host.New("")
	return device, NewXFSFreeSpace(h, NewDevices(h, clock.RealClock{}, FilesystemsOptions{KubeletRoot: point}), XFSFreeSpaceOptions{})
}

func xfsFaults(t *testing.T, x *XFSFreeSpace, device string) []tracking.Fault {
	t.Helper()
	x.devices.readAt = time.Time{}
	look, err := x.Look(context.Background())
	require.NoError(t, err)
	var faults []tracking.Fault
	for _, f := range look.Faults {
		if f.Subject == filepath.Base(device) {
			faults = append(faults, f)
		}
	}
	return faults
}

// xfsFragment fills the filesystem but for spare blocks with one file, and frees every other run of blocks in it.
func xfsFragment(t *testing.T, point string, run, spare int64) string {
	t.Helper()
	name := filepath.Join(point, "full-of-holes")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	var size unix.Statfs_t
	require.NoError(t, unix.Fstatfs(int(f.Fd()), &size))
	block, blocks := size.Bsize, int64(size.Bavail)-spare
	require.NoError(t, unix.Fallocate(int(f.Fd()), 0, 0, blocks*block))
	for at := int64(0); at < blocks; at += 2 * run {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at*block, run*block)
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
	return name
}

// xfsOracle is what xfs_spaceman counts: free extents and free blocks.
func xfsOracle(t *testing.T, point string) (extents, blocks uint64) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(loopRun(t, "xfs_spaceman", "-c", "freesp", point)))
	for lines.Scan() {
		// from to extents blocks pct
		fields := strings.Fields(lines.Text())
		if len(fields) != 5 || fields[0] == "from" {
			continue
		}
		e, err := strconv.ParseUint(fields[2], 10, 64)
		require.NoError(t, err)
		b, err := strconv.ParseUint(fields[3], 10, 64)
		require.NoError(t, err)
		extents, blocks = extents+e, blocks+b
	}
	return extents, blocks
}

func TestFragmentedFreeSpaceIsSeenAndSeenToRecover(t *testing.T) {
	for name, mkfs := range map[string][]string{
		"with a reverse mapping tree":    {"-m", "rmapbt=1"},
		"without a reverse mapping tree": {"-m", "rmapbt=0"},
	} {
		t.Run(name, func(t *testing.T) {
			point := filepath.Join(t.TempDir(), "kubelet")
			device, x := xfsOn(t, point, mkfs...)
			require.Empty(t, xfsFaults(t, x, device))
			file := xfsFragment(t, point, 1, 256)
			faults := xfsFaults(t, x, device)
			require.Len(t, faults, 1)
			require.Equal(t, health.ReasonXFSSmallAverageClusterSize, faults[0].Reason)
			require.Equal(t, v1alpha1.SeverityFatal, faults[0].Severity)
			require.Contains(t, faults[0].Message, point)
			require.NoError(t, os.Remove(file))
			require.Eventually(t, func() bool { return len(xfsFaults(t, x, device)) == 0 }, 20*time.Second, 50*time.Millisecond,
				"XFS frees what a removed file had a little later")
		})
	}
}

func TestFreeSpaceIsCountedAsTheFilesystemsOwnToolsDo(t *testing.T) {
	point := filepath.Join(t.TempDir(), "volume")
	_, _ = xfsOn(t, point)
	xfsFragment(t, point, 40, 4096)
	extents, blocks := xfsOracle(t, point)
	free, err := xfs.Free(context.Background(), point, 16, xfsMaxRecords)
	require.NoError(t, err)
	require.True(t, free.Complete)
	require.Equal(t, extents, free.Extents)
	require.Equal(t, blocks, free.Bytes/free.BlockSize)
	require.InDelta(t, float64(blocks)/float64(extents), free.AverageBlocks(), 0.001)

	// With a thousandth of the patience it is enough to know that there are too many.
	early, err := xfs.Free(context.Background(), point, 1_000_000, xfsMaxRecords)
	require.NoError(t, err)
	require.Less(t, early.AverageBlocks(), 1_000_000.0)
	_, err = xfs.Free(context.Background(), point, 1, 1)
	require.ErrorContains(t, err, "more than 1 extents")
}

func TestFewOrHealthyFreeExtentsAreNoFault(t *testing.T) {
	for name, tc := range map[string]struct{ run, spare int64 }{
		"extents of forty blocks":                        {run: 40, spare: 256},
		"single blocks beside much that is in one piece": {run: 1, spare: 60_000},
	} {
		t.Run(name, func(t *testing.T) {
			point := filepath.Join(t.TempDir(), "kubelet")
			device, x := xfsOn(t, point)
			xfsFragment(t, point, tc.run, tc.spare)
			require.Empty(t, xfsFaults(t, x, device))
		})
	}
	x := NewXFSFreeSpace(host.New(""), nil, XFSFreeSpaceOptions{})
	require.False(t, x.isFragmented(xfs.FreeSpace{Extents: 900, Bytes: 900 * 4096, BlockSize: 4096, Blocks: 1_000_000, FreeBlocks: 900, Complete: true}),
		"a full filesystem is not a fragmented one")
	require.False(t, x.isFragmented(xfs.FreeSpace{Extents: 200, Bytes: 200 * 4096, BlockSize: 4096, Blocks: 10_000, FreeBlocks: 200, Complete: true}),
		"a few extents are no average")
}

func TestAVolumeOfAPodThatIsFragmentedIsAWarning(t *testing.T) {
	kubelet := t.TempDir()
	point := filepath.Join(kubelet, "pods/1/volumes/v")
	device, x := xfsOn(t, point)
	x.devices.options.KubeletRoot = kubelet
	xfsFragment(t, point, 1, 256)
	faults := xfsFaults(t, x, device)
	require.Len(t, faults, 1)
	require.Equal(t, v1alpha1.SeverityWarning, faults[0].Severity)
}

func TestAFilesystemThatWasFragmentedAndCannotBeSeenIsAnError(t *testing.T) {
	point := filepath.Join(t.TempDir(), "kubelet")
	device, x := xfsOn(t, point)
	xfsFragment(t, point, 1, 256)
	require.Len(t, xfsFaults(t, x, device), 1)
	loopRun(t, "xfs_io", "-x", "-c", "shutdown", point)
	x.devices.readAt = time.Time{}
	_, err := x.Look(context.Background())
	require.Error(t, err)
}

func TestWithoutXFSThereIsNothingToLookAt(t *testing.T) {
	h := host.New(tree(t, map[string]string{"proc/1/mountinfo": "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"}))
	_, err := NewXFSFreeSpace(h, NewDevices(h, clock.RealClock{}, FilesystemsOptions{}), XFSFreeSpaceOptions{}).Look(context.Background())
	require.ErrorIs(t, err, detector.ErrNotPresent)
	h = host.New(tree(t, map[string]string{"proc/1/mountinfo": "21 1 4095:1 / /nowhere rw - xfs /dev/sda1 rw\n"}))
	_, err = NewXFSFreeSpace(h, NewDevices(h, clock.RealClock{}, FilesystemsOptions{}), XFSFreeSpaceOptions{}).Look(context.Background())
	require.ErrorContains(t, err, "no file of this filesystem can be opened")
}

func TestAKernelThatCannotListFreeSpaceIsAnError(t *testing.T) {
	_, err := xfs.Free(context.Background(), "/proc", 16, xfsMaxRecords)
	require.ErrorIs(t, err, xfs.ErrUnsupported)
}

func TestFreeSpaceIsSeenWithoutPrivilege(t *testing.T) {
	point := filepath.Join(t.TempDir(), "volume")
	_, _ = xfsOn(t, point)
	xfsFragment(t, point, 1, 256)
	// The folder above belongs to root alone, so the open descriptor goes to the helper.
	folder, err := os.Open(point)
	require.NoError(t, err)
	defer func() { require.NoError(t, folder.Close()) }()
	helper := exec.Command("/proc/self/exe", "-test.run=^TestHelperFreeSpace$", "-test.v")
	helper.Env = append(os.Environ(), "XFS_HELPER=1")
	helper.ExtraFiles = []*os.File{folder}
	helper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := helper.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "fragmented without privilege")
}

func TestHelperFreeSpace(t *testing.T) {
	if os.Getenv("XFS_HELPER") == "" {
		t.Skip("only the child of TestFreeSpaceIsSeenWithoutPrivilege")
	}
	require.Equal(t, 65534, os.Getuid())
	free, err := xfs.Free(context.Background(), "/proc/self/fd/3", 16, xfsMaxRecords)
	require.NoError(t, err)
	require.Less(t, free.AverageBlocks(), 16.0)
	t.Log("fragmented without privilege")
}
