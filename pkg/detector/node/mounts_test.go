package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// mountsOf gives the faults of filesystems whose mount point the evidence names; the machine has others.
func mountsOf(t *testing.T, m *Mounts, device string) []tracking.Fault {
	t.Helper()
	look, err := m.Look(context.Background())
	require.NoError(t, err)
	require.Empty(t, look.Degraded)
	var faults []tracking.Fault
	for _, f := range look.Faults {
		if f.Subject == filepath.Base(device) {
			faults = append(faults, f)
		}
	}
	return faults
}

func mountsHere(o FilesystemsOptions) *Mounts {
	h := host.New("")
	return NewMounts(h, clock.RealClock{}, NewDevices(h, clock.RealClock{}, o))
}

func TestAFilesystemThatAPersonRemountsReadOnlyIsSeenAndSeenToRecover(t *testing.T) {
	loopNeeds(t, "mkfs.ext4")
	device := loopDevice(t, "32M", "mkfs.ext4", "-q", "-F")
	kubelet := filepath.Join(t.TempDir(), "kubelet")
	loopMount(t, device, kubelet)
	m := mountsHere(FilesystemsOptions{KubeletRoot: kubelet})
	require.Empty(t, mountsOf(t, m, device))

	loopRun(t, "mount", "-o", "remount,ro", kubelet)
	faults := mountsOf(t, m, device)
	require.Len(t, faults, 1)
	require.Equal(t, health.ReasonFilesystemReadOnly, faults[0].Reason)
	require.Equal(t, v1alpha1.SeverityFatal, faults[0].Severity)
	require.Equal(t, "The ext4 filesystem of the node at "+kubelet+" is read-only: it was writable before.", faults[0].Message)

	// An agent that starts anew in the same boot goes on; in another boot it is how the machine was started.
	again := mountsHere(FilesystemsOptions{KubeletRoot: kubelet})
	again.Resume(m.Cursor(), true)
	require.Equal(t, faults, mountsOf(t, again, device))
	booted := mountsHere(FilesystemsOptions{KubeletRoot: kubelet})
	booted.Resume(m.Cursor(), false)
	require.Empty(t, mountsOf(t, booted, device))

	loopRun(t, "mount", "-o", "remount,rw", kubelet)
	require.Empty(t, mountsOf(t, m, device))
}

func TestOnlyTheNodesOwnMountMayNotBecomeReadOnlyWhileItsFilesystemIsWritable(t *testing.T) {
	loopNeeds(t, "mkfs.ext4")
	device := loopDevice(t, "32M", "mkfs.ext4", "-q", "-F")
	kubelet := filepath.Join(t.TempDir(), "kubelet")
	loopMount(t, device, kubelet)
	m := mountsHere(FilesystemsOptions{KubeletRoot: kubelet})
	require.Empty(t, mountsOf(t, m, device))

	bind := filepath.Join(t.TempDir(), "bind")
	loopMount(t, kubelet, bind, "--bind")
	loopRun(t, "mount", "-o", "remount,bind,ro", bind)
	require.Empty(t, mountsOf(t, m, device), "a read-only bind mount is what every container has")

	loopRun(t, "mount", "-o", "remount,bind,ro", kubelet)
	faults := mountsOf(t, m, device)
	require.Len(t, faults, 1)
	require.Contains(t, faults[0].Message, "its mount was writable before")
}

func TestAFilesystemThatMakesItselfReadOnlyIsAWarningForAPodAndFatalForTheNode(t *testing.T) {
	loopNeeds(t, "mkfs.ext4")
	for name, tc := range map[string]struct {
		pod  bool
		want v1alpha1.Severity
	}{
		"a volume of a pod":        {pod: true, want: v1alpha1.SeverityWarning},
		"the kubelet's filesystem": {want: v1alpha1.SeverityFatal},
	} {
		t.Run(name, func(t *testing.T) {
			device := loopDevice(t, "32M", "mkfs.ext4", "-q", "-F")
			trigger := filepath.Join("/sys/fs/ext4", filepath.Base(device), "trigger_fs_error")
			kubelet := filepath.Join(t.TempDir(), "kubelet")
			point := kubelet
			if tc.pod {
				point = filepath.Join(kubelet, "pods/3f1c/volumes/kubernetes.io~csi/pvc-1/mount")
			}
			loopMount(t, device, point, "-o", "errors=remount-ro")
			require.NoError(t, os.WriteFile(trigger, []byte("an error made by a test"), 0o200))

			// The first look of an agent that never saw it writable: the filesystem itself says that it is an error.
			m := mountsHere(FilesystemsOptions{KubeletRoot: kubelet})
			faults := mountsOf(t, m, device)
			require.Len(t, faults, 1)
			require.Equal(t, tc.want, faults[0].Severity)
			if tc.pod {
				require.Contains(t, faults[0].Message, "filesystem of a pod's volume at "+point)
			}
			require.Len(t, faults[0].Evidence, 1)
			require.Contains(t, faults[0].Evidence[0], point)

			loopRun(t, "umount", point)
			require.Empty(t, mountsOf(t, m, device), "what is not mounted is not read-only")
			loopRun(t, "mount", device, point)
			require.Empty(t, mountsOf(t, m, device), "mounted anew it is writable")
		})
	}
}

func TestAFilesystemThatHasShutDownTakesNoWrites(t *testing.T) {
	loopNeeds(t, "mkfs.ext4")
	device := loopDevice(t, "32M", "mkfs.ext4", "-q", "-F")
	kubelet := filepath.Join(t.TempDir(), "kubelet")
	loopMount(t, device, kubelet)
	folder, err := os.Open(kubelet)
	require.NoError(t, err)
	const shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	err = unix.IoctlSetPointerInt(int(folder.Fd()), shutdown, 2)
	require.NoError(t, folder.Close())
	if err != nil {
		t.Skipf("this kernel's ext4 cannot be shut down: %v", err)
	}
	m := mountsHere(FilesystemsOptions{KubeletRoot: kubelet})
	faults := mountsOf(t, m, device)
	if len(faults) == 0 && !strings.Contains(loopRun(t, "grep", " "+kubelet+" ", "/proc/1/mountinfo"), "shutdown") {
		t.Skip("this kernel does not tell that an ext4 has shut down: Linux before 6.15; the kernel log does")
	}
	require.Len(t, faults, 1)
	require.Equal(t, v1alpha1.SeverityFatal, faults[0].Severity)
}

func TestAThousandReadOnlyBindMountsAreNothing(t *testing.T) {
	loopNeeds(t, "mkfs.ext4")
	device := loopDevice(t, "32M", "mkfs.ext4", "-q", "-F")
	kubelet := filepath.Join(t.TempDir(), "kubelet")
	loopMount(t, device, kubelet)
	m := mountsHere(FilesystemsOptions{KubeletRoot: kubelet})
	require.Empty(t, mountsOf(t, m, device))
	point := t.TempDir()
	for range 1000 {
		require.NoError(t, unix.Mount(kubelet, point, "", unix.MS_BIND, ""))
		t.Cleanup(func() { _ = unix.Unmount(point, unix.MNT_DETACH) })
		require.NoError(t, unix.Mount("", point, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
	require.Empty(t, mountsOf(t, m, device))
	require.Less(t, len(m.Cursor()), 16<<10, "what is kept stays small")
}

func TestOneFilesystemWithManyMountsIsOneFinding(t *testing.T) {
	loopNeeds(t, "mkfs.ext4")
	device := loopDevice(t, "32M", "mkfs.ext4", "-q", "-F")
	kubelet := filepath.Join(t.TempDir(), "kubelet")
	global := filepath.Join(kubelet, "plugins/kubernetes.io/csi/global")
	loopMount(t, device, global)
	for i := range 8 {
		loopMount(t, global, filepath.Join(kubelet, fmt.Sprintf("pods/%d/volumes/v", i)), "--bind")
	}
	m := mountsHere(FilesystemsOptions{KubeletRoot: kubelet})
	require.Empty(t, mountsOf(t, m, device))
	loopRun(t, "mount", "-o", "remount,ro", global)
	faults := mountsOf(t, m, device)
	require.Len(t, faults, 1)
	require.Equal(t, v1alpha1.SeverityWarning, faults[0].Severity)
	require.Len(t, faults[0].Evidence, 5)
}

func TestWhatIsMountedReadOnlyIsMeantToBe(t *testing.T) {
	loopNeeds(t, "mkfs.ext4", "mksquashfs")
	data := tree(t, map[string]string{"file": "content"})
	squash := filepath.Join(t.TempDir(), "squash")
	loopRun(t, "mksquashfs", data, squash, "-quiet", "-no-progress")
	squashed := loopAttach(t, squash)
	loopMount(t, squashed, filepath.Join(t.TempDir(), "squash"))

	device := loopDevice(t, "32M", "mkfs.ext4", "-q", "-F")
	kubelet := filepath.Join(t.TempDir(), "kubelet")
	writable := filepath.Join(kubelet, "pods/1/volumes/v")
	loopMount(t, device, writable)
	m := mountsHere(FilesystemsOptions{KubeletRoot: kubelet})
	require.Empty(t, mountsOf(t, m, squashed))
	require.Empty(t, mountsOf(t, m, device))

	// The same volume goes to another pod that wants it read-only.
	loopRun(t, "umount", writable)
	readOnly := filepath.Join(kubelet, "pods/2/volumes/v")
	loopMount(t, device, readOnly, "-o", "ro")
	require.Empty(t, mountsOf(t, m, device), "a new mount is how somebody wants it")

	// A filesystem that is made writable for an update only goes back to how it was.
	loopRun(t, "mount", "-o", "remount,rw", readOnly)
	require.Empty(t, mountsOf(t, m, device))
	loopRun(t, "mount", "-o", "remount,ro", readOnly)
	require.Empty(t, mountsOf(t, m, device))
}

func TestRecordedMachinesAreNotReadOnlyByMistake(t *testing.T) {
	for name, lines := range map[string]string{
		"a verified root, read-only from boot on": "21 1 253:0 / / ro,relatime shared:1 - ext4 /dev/dm-0 ro,seclabel\n" +
			"30 21 259:3 / /local rw,nosuid shared:2 - xfs /dev/nvme1n1p1 rw,attr2\n",
		"a root of squashfs under an overlay": "21 1 0:20 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n" +
			"22 21 7:1 / /l rw - squashfs /dev/loop1 ro,errors=continue\n",
		"firmware, memory and projected volumes": "21 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw\n" +
			"22 21 0:31 / /sys/firmware/efi/efivars ro - efivarfs efivarfs ro\n" +
			"23 21 0:32 / /var/lib/kubelet/pods/1/volumes/kubernetes.io~projected/token ro - tmpfs tmpfs ro,size=1k\n" +
			"24 21 11:0 / /media ro - iso9660 /dev/sr0 ro\n",
		"a network's filesystem that is mounted read-only": "21 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw\n" +
			"40 21 0:60 / /var/lib/kubelet/pods/1/volumes/nfs rw - nfs4 10.0.0.1:/export ro,vers=4.1\n",
		"a btrfs of which one subvolume is read-only": "21 1 0:30 /root / rw - btrfs /dev/vda2 rw,subvol=/root\n" +
			"22 21 0:30 /snap /snap ro - btrfs /dev/vda2 rw,subvol=/snap\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := host.New(tree(t, map[string]string{"proc/1/mountinfo": lines}))
			m := NewMounts(h, clock.RealClock{}, NewDevices(h, clock.RealClock{}, FilesystemsOptions{}))
			for range 2 {
				look, err := m.Look(context.Background())
				require.NoError(t, err)
				require.Equal(t, tracking.Look{}, look)
			}
		})
	}
}

func TestAnOlderKernelSaysReadOnlyOfTheFilesystemAlone(t *testing.T) {
	h := host.New(tree(t, map[string]string{"proc/1/mountinfo": "21 1 259:1 / / rw - ext4 /dev/nvme0n1p1 ro,errors=remount-ro\n"}))
	m := NewMounts(h, clock.RealClock{}, NewDevices(h, clock.RealClock{}, FilesystemsOptions{}))
	look, err := m.Look(context.Background())
	require.NoError(t, err)
	require.Len(t, look.Faults, 1)
	require.Equal(t, v1alpha1.SeverityFatal, look.Faults[0].Severity)
}

func TestNoMountTableIsAnErrorAndTheAgentsOwnIsSaid(t *testing.T) {
	empty := host.New(t.TempDir())
	_, err := NewMounts(empty, clock.RealClock{}, NewDevices(empty, clock.RealClock{}, FilesystemsOptions{})).Look(context.Background())
	require.Error(t, err)
	own := host.New(tree(t, map[string]string{"proc/self/mountinfo": "21 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw\n"}))
	look, err := NewMounts(own, clock.RealClock{}, NewDevices(own, clock.RealClock{}, FilesystemsOptions{})).Look(context.Background())
	require.NoError(t, err)
	require.Contains(t, look.Degraded, "only those of the agent")
}

func TestAMountWakesTheDetectorAndAStormOfThemDoesSoRarely(t *testing.T) {
	loopNeeds(t)
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	h := host.New("")
	m := NewMounts(h, clk, NewDevices(h, clk, FilesystemsOptions{}))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m.Start(ctx)
	folder := t.TempDir()
	point := filepath.Join(folder, "point")
	require.Eventually(t, func() bool {
		// Until the watch has begun a mount goes unseen.
		loopMount(t, folder, point, "--bind")
		loopRun(t, "umount", point)
		return len(m.Wake()) == 1
	}, 20*time.Second, 10*time.Millisecond)
	<-m.Wake()
	for i := range 1000 {
		require.NoError(t, mountsBind(folder, point), "mount %d", i)
	}
	require.Empty(t, m.Wake(), "within the pause there is no second wake")
	clk.Step(mountsPause)
	select {
	case <-m.Wake():
	case <-time.After(20 * time.Second):
		t.Fatal("what happened within the pause is never told")
	}
}

func FuzzMountsResume(f *testing.F) {
	for _, seed := range []string{
		`{"at":"2026-01-01T00:00:00Z","filesystems":{"259:1":{"device":"259:1","type":"xfs","mounts":[{"id":21,"point":"/"}],"writable":true}},"paths":{"/":{"id":21,"point":"/","device":"259:1"}}}`,
		`null`, `{}`, `{"filesystems":{"259:1":null}}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	root := f.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "proc/1"), 0o755); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "proc/1/mountinfo"), []byte("21 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw\n"), 0o600); err != nil {
		f.Fatal(err)
	}
	h := host.New(root)
	f.Fuzz(func(t *testing.T, cursor []byte) {
		m := NewMounts(h, clock.RealClock{}, NewDevices(h, clock.RealClock{}, FilesystemsOptions{}))
		m.Resume(cursor, true)
		look, err := m.Look(context.Background())
		if err != nil || len(look.Faults) > 0 {
			t.Errorf("a writable machine has %v, %v", look.Faults, err)
		}
		if !json.Valid(m.Cursor()) {
			t.Errorf("the cursor is %s", m.Cursor())
		}
	})
}
