package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// loopNeeds skips where the machine cannot make a filesystem on a loop device.
func loopNeeds(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount loop devices")
	}
	for _, tool := range append(tools, "mount", "umount", "losetup") {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: install the Debian packages e2fsprogs, xfsprogs, squashfs-tools and mount", tool)
		}
	}
}

func loopRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return strings.TrimSpace(string(out))
}

// loopDevice gives a loop device of a size such as 64M, made by mkfs with its arguments.
func loopDevice(t *testing.T, size string, mkfs ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	loopRun(t, "truncate", "-s", size, image)
	loopRun(t, mkfs[0], append(mkfs[1:], image)...)
	return loopAttach(t, image)
}

func loopAttach(t *testing.T, image string, args ...string) string {
	t.Helper()
	device := loopRun(t, "losetup", append(args, "--show", "-f", image)...)
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", device).Run() })
	return device
}

// loopMount mounts a device, or binds a folder, until the test ends.
func loopMount(t *testing.T, source, point string, args ...string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(point, 0o755))
	loopRun(t, "mount", append(args, source, point)...)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", point).Run() })
}

// tree writes files below a folder that stands for the root of a machine.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return root
}

// mountsBind mounts and unmounts without a process.
func mountsBind(source, point string) error {
	if err := unix.Mount(source, point, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Unmount(point, 0)
}
