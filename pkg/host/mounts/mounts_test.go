package mounts

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

const recorded = `21 1 259:1 / / rw,noatime shared:1 - xfs /dev/nvme0n1p1 rw,attr2,inode64
22 21 0:20 / /proc rw,nosuid shared:2 - proc proc rw
30 21 259:3 / /var/lib/kubelet rw shared:9 - ext4 /dev/nvme1n1 rw,emergency_ro
31 30 0:44 / /var/lib/kubelet/pods/1/volumes/kubernetes.io~projected/t rw - tmpfs tmpfs rw
32 30 259:4 / /var/lib/kubelet/pods/1/volumes/a\040b ro shared:3 - ext4 /dev/nvme2n1 ro
33 21 0:50 / /var/lib/containerd rw - tmpfs tmpfs rw
`

func TestWhatCountsIsReadAndTheRestLeftOut(t *testing.T) {
	table, err := parse(strings.NewReader(recorded), []string{"/", "/var/lib/kubelet", "/var/lib/containerd"})
	require.NoError(t, err)
	require.Equal(t, []Mount{
		{ID: 21, Device: "259:1", Point: "/", Type: "xfs", Source: "/dev/nvme0n1p1", Persistent: true},
		{ID: 30, Device: "259:3", Point: "/var/lib/kubelet", Type: "ext4", Source: "/dev/nvme1n1", Failed: "emergency_ro", Persistent: true},
		{ID: 32, Device: "259:4", Point: "/var/lib/kubelet/pods/1/volumes/a b", Type: "ext4", Source: "/dev/nvme2n1", ReadOnly: true, FilesystemReadOnly: true, Persistent: true},
		{ID: 33, Device: "0:50", Point: "/var/lib/containerd", Type: "tmpfs", Source: "tmpfs"},
	}, table.Mounts)
	for path, want := range map[string]string{
		"/": "/", "/var/lib/kubelet": "/var/lib/kubelet", "/var/lib/containerd": "/var/lib/containerd",
		"/var/lib/kubelet-more": "/", "/var/lib/kubelet/plugins": "/var/lib/kubelet",
	} {
		m, ok := table.Of(path)
		require.True(t, ok)
		require.Equal(t, want, m.Point, path)
	}
	require.Equal(t, "259:3 /var/lib/kubelet rw - ext4 /dev/nvme1n1 rw,emergency_ro", table.Mounts[1].Line())
}

func TestOfTwoMountsAtOnePointTheLaterCounts(t *testing.T) {
	table, err := parse(strings.NewReader("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / / ro - ext4 /dev/sda2 ro\n"), nil)
	require.NoError(t, err)
	m, ok := table.Of("/var")
	require.True(t, ok)
	require.Equal(t, "8:2", m.Device)
}

func TestEachChangeOfTheMountTableIsToldUntilTheEnd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	ctx, cancel := context.WithCancel(context.Background())
	changes, done := make(chan struct{}, 1000), make(chan error, 1)
	go func() {
		done <- Watch(ctx, host.New(""), func() { changes <- struct{}{} })
	}()
	source, point := t.TempDir(), t.TempDir()
	told := func() bool {
		select {
		case <-changes:
			return true
		case <-time.After(100 * time.Millisecond):
			return false
		}
	}
	// The first is only told once the watch has begun.
	require.Eventually(t, func() bool {
		require.NoError(t, unix.Mount(source, point, "", unix.MS_BIND, ""))
		require.NoError(t, unix.Unmount(point, 0))
		return told()
	}, 20*time.Second, time.Millisecond)
	for range 50 {
		require.NoError(t, unix.Mount(source, point, "", unix.MS_BIND, ""))
		require.Eventually(t, told, 20*time.Second, time.Millisecond)
		require.NoError(t, unix.Unmount(point, 0))
		require.Eventually(t, told, 20*time.Second, time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the watch goes on after its end")
	}
}

// sysfs writes the links and files by which a machine shows its block devices. Names with colons are made here.
func sysfs(t *testing.T) host.Host {
	t.Helper()
	root := t.TempDir()
	disks := filepath.Join(root, "sys/devices/block")
	for _, folder := range []string{"nvme0n1/nvme0n1p1", "nvme1n1", "nvme2n1", "dm-0/slaves", "dm-0/dm", "md0/slaves"} {
		require.NoError(t, os.MkdirAll(filepath.Join(disks, folder), 0o755))
	}
	for name, content := range map[string]string{"nvme0n1/nvme0n1p1/partition": "1\n", "dm-0/dm/name": "vg-data\n", "dm-0/ro": "1\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(disks, name), []byte(content), 0o644))
	}
	for _, folder := range []string{"sys/class/block", "sys/dev/block", "sys/class/nvme/nvme2/nvme2c2n1", "sys/fs/btrfs/uuid/devices"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, folder), 0o755))
	}
	for link, target := range map[string]string{
		"sys/class/block/nvme0n1":           "../../devices/block/nvme0n1",
		"sys/class/block/nvme0n1p1":         "../../devices/block/nvme0n1/nvme0n1p1",
		"sys/class/block/nvme1n1":           "../../devices/block/nvme1n1",
		"sys/class/block/nvme2n1":           "../../devices/block/nvme2n1",
		"sys/class/block/dm-0":              "../../devices/block/dm-0",
		"sys/class/block/md0":               "../../devices/block/md0",
		"sys/dev/block/259:1":               "../../devices/block/nvme0n1/nvme0n1p1",
		"sys/dev/block/253:0":               "../../devices/block/dm-0",
		"sys/devices/block/dm-0/slaves/md0": "../../md0",
		"sys/devices/block/md0/slaves/p1":   "../../nvme1n1",
		"sys/fs/btrfs/uuid/devices/nvme1n1": "../../../../devices/block/nvme1n1",
		"sys/fs/btrfs/uuid/devices/nvme2n1": "../../../../devices/block/nvme2n1",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(root, link)))
	}
	return host.New(root)
}

func TestADeviceIsFoundByEachOfItsNames(t *testing.T) {
	h := sysfs(t)
	for device, want := range map[string]string{
		"nvme0n1p1": "nvme0n1p1", "/dev/nvme0n1p1": "nvme0n1p1", "259:1": "nvme0n1p1", "mapper/vg-data": "dm-0",
		"/dev/mapper/vg-data": "dm-0", "253:0": "dm-0",
	} {
		name, ok := ShortName(h, device)
		require.True(t, ok, device)
		require.Equal(t, want, name, device)
	}
	for _, device := range []string{"", "sdz", "../../etc", "/dev/mapper/other", "1:1", "/dev/../nvme0n1"} {
		_, ok := ShortName(h, device)
		require.False(t, ok, device)
	}
}

func TestWhatAFilesystemLiesOn(t *testing.T) {
	h := sysfs(t)
	require.Equal(t, map[string]bool{"nvme0n1p1": true, "nvme0n1": true}, Below(h, "nvme0n1p1"))
	require.Equal(t, map[string]bool{"dm-0": true, "md0": true, "p1": true}, Below(h, "dm-0"))
	require.Equal(t, map[string]bool{"nvme1n1": true, "nvme2n1": true}, Below(h, "nvme2n1"), "both disks of a btrfs")
	require.Equal(t, []string{"nvme2n1"}, Namespaces(h, "nvme2"))
	require.Empty(t, Namespaces(h, "nvme7"))
	require.Equal(t, "nvme0n2", NamespaceOfPath("nvme0c1n2"))
	require.Equal(t, "nvme0n1p1", NamespaceOfPath("nvme0n1p1"))
	require.True(t, WriteProtected(h, "253:0"))
	require.False(t, WriteProtected(h, "259:1"))
}

func TestTheNameOfAFilesystemsDevice(t *testing.T) {
	h := sysfs(t)
	for want, m := range map[string]Mount{
		"nvme0n1p1":        {Device: "259:1", Source: "/dev/root"},
		"nvme1n1":          {Device: "0:30", Source: "/dev/nvme1n1"},
		"10.0.0.1:/export": {Device: "0:31", Source: "10.0.0.1:/export"},
		"0:32":             {Device: "0:32", Source: "/dev/root"},
	} {
		require.Equal(t, want, DeviceName(h, m))
	}
}

func TestAFilesystemIsReachedThroughWhateverThisProcessHasOfIt(t *testing.T) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Skipf("no mount table here: %v", err)
	}
	defer func() { require.NoError(t, f.Close()) }()
	table, err := parse(f, nil)
	require.NoError(t, err)
	root, ok := table.Of("/")
	if !ok || root.Point != "/" {
		t.Skip("the root here is no disk's")
	}
	elsewhere := host.New(t.TempDir())
	path, err := Reach(elsewhere, root.Device, []string{"/nowhere"})
	require.NoError(t, err)
	var status unix.Stat_t
	require.NoError(t, unix.Stat(path, &status))
	require.Equal(t, root.Device, majorMinorOf(status.Dev))
	_, err = Reach(elsewhere, "4095:1", []string{"/nowhere", "/"})
	require.ErrorIs(t, err, ErrUnreachable, "what lies on another filesystem is not taken for it")
}

func FuzzParse(f *testing.F) {
	f.Add(recorded)
	f.Add("")
	f.Add("1 0 0:1 / / rw - x y z\n")
	f.Add("1 0 8:1 / / rw master:1 propagate_from:2 - ext4 /dev/my disk rw,shutdown\n")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := parse(strings.NewReader(text), []string{"/"})
		if err != nil {
			return
		}
		for _, m := range table.Mounts {
			if m.Line() == "" {
				t.Errorf("a mount without words: %+v", m)
			}
		}
		table.Of("/var/lib/kubelet")
	})
}

func BenchmarkReadHere(b *testing.B) {
	for b.Loop() {
		if _, err := Read(host.New(""), "/"); err != nil {
			b.Skip("the mount table cannot be read")
		}
	}
}
