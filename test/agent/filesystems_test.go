package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// disk mounts a new filesystem on a loop device, as that of the kubelet, and gives where.
func disk(t *testing.T, size string, mkfs ...string) string {
	t.Helper()
	for _, tool := range []string{mkfs[0], "mount", "umount", "losetup", "truncate"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: needs %s: install the Debian packages e2fsprogs, xfsprogs and mount", tool)
		}
	}
	image, point := filepath.Join(t.TempDir(), "image"), t.TempDir()
	command(t, "truncate", "-s", size, image)
	command(t, mkfs[0], append(mkfs[1:], image)...)
	command(t, "mount", "-o", "loop", image, point)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", point).Run() })
	return point
}

// mountsOfOurs is a root of a host whose first process is this one, so that its mount table is that of these tests also
// where they run in a container.
func mountsOfOurs(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "proc"), 0o755))
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			require.NoError(t, os.Symlink("/proc/"+e.Name(), filepath.Join(root, "proc", e.Name())))
		}
	}
	require.NoError(t, os.Symlink(fmt.Sprintf("/proc/%d", os.Getpid()), filepath.Join(root, "proc", "1")))
	require.NoError(t, os.Symlink("/sys", filepath.Join(root, "sys")))
	return root
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
}

func TestAFilesystemThatBecomesReadOnlyIsAConditionUntilItIsWritableAgain(t *testing.T) {
	t.Parallel()
	needCluster(t)
	point := disk(t, "64M", "mkfs.ext4", "-q")
	root := mountsOfOurs(t)
	s := begin(t, "ro")
	// Without a machine: the mounts are those of this computer. Its kernel log tells of other tests' loop devices of the
	// same name, too.
	s.run(func(o *cluster.AgentOptions) {
		o.Machine, o.HostRoot = nil, root
		o.Config = fmt.Sprintf("detectors: {disabled: [kernel-log], filesystems: {kubeletRoot: %s}}\n", point)
	})
	s.says(v1alpha1.CategoryStorage, metav1.ConditionTrue)
	broke := time.Now()
	command(t, "mount", "-o", "remount,ro", point)
	sick := s.says(v1alpha1.CategoryStorage, metav1.ConditionFalse)
	require.Equal(t, "FilesystemReadOnly", sick.Reason)
	require.GreaterOrEqual(t, sick.At.Sub(broke), 9*time.Second, "it was to be confirmed for ten seconds")
	command(t, "mount", "-o", "remount,rw", point)
	s.says(v1alpha1.CategoryStorage, metav1.ConditionTrue)
}

func TestFragmentedFreeSpaceIsAConditionUntilThereIsRoomAgain(t *testing.T) {
	t.Parallel()
	needCluster(t)
	point := disk(t, "320M", "mkfs.xfs", "-q")
	root := mountsOfOurs(t)
	s := begin(t, "xfs")
	// The look of ten minutes is not waited for: an agent looks when it starts.
	options := func(o *cluster.AgentOptions) {
		o.Machine, o.HostRoot = nil, root
		o.Config = fmt.Sprintf("detectors: {disabled: [kernel-log], filesystems: {kubeletRoot: %s}}\nreasons: {XFSSmallAverageClusterSize: {confirm: \"1\"}}\n", point)
	}
	s.run(options)
	s.says(v1alpha1.CategoryStorage, metav1.ConditionTrue)
	s.agent.Kill()
	file := fragment(t, point)
	s.run(options)
	sick := s.says(v1alpha1.CategoryStorage, metav1.ConditionFalse)
	require.Equal(t, "XFSSmallAverageClusterSize", sick.Reason)
	s.agent.Kill()
	require.NoError(t, os.Remove(file))
	s.eventually("XFS has freed the blocks, which it does in its own time", func() error {
		var free unix.Statfs_t
		if err := unix.Statfs(point, &free); err != nil {
			return err
		}
		if free.Bavail < free.Blocks*9/10 {
			return fmt.Errorf("%d of %d are free", free.Bavail, free.Blocks)
		}
		return nil
	})
	time.Sleep(2 * time.Second)
	s.run(options)
	s.says(v1alpha1.CategoryStorage, metav1.ConditionTrue)
}

// fragment fills the filesystem with one file, and frees every other block of it.
func fragment(t *testing.T, point string) string {
	t.Helper()
	const block = 4096
	path := filepath.Join(point, "fill")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // synced below
	var free unix.Statfs_t
	require.NoError(t, unix.Statfs(point, &free))
	size := (int64(free.Bavail) - 256) * block
	require.NoError(t, unix.Fallocate(int(f.Fd()), 0, 0, size))
	for at := int64(0); at+2*block <= size; at += 2 * block {
		require.NoError(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, block))
	}
	require.NoError(t, f.Sync())
	return path
}
