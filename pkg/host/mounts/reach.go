package mounts

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// ErrUnreachable says that nothing that this process can open lies on a filesystem.
var ErrUnreachable = errors.New("no file of this filesystem can be opened from here")

// maxTried bounds how many paths are tried for one filesystem.
const maxTried = 64

// Reach gives a path that this process can open for reading and that lies on the filesystem: one of its mount points
// as the machine has them, else anything that is mounted from it into the container of this process. The kubelet
// mounts /etc/hosts from its own filesystem, and the runtime /etc/resolv.conf from its own, into every container.
func Reach(h host.Host, device string, points []string) (string, error) {
	tried := make([]string, 0, maxTried)
	for _, point := range points[:min(len(points), maxTried/2)] {
		tried = append(tried, h.Path(point))
	}
	tried = append(tried, ownPoints(device)...)
	for _, path := range tried[:min(len(tried), maxTried)] {
		if on(path, device) {
			return path, nil
		}
	}
	return "", ErrUnreachable
}

func ownPoints(device string) []string {
	f, err := os.Open("/" + pathOwn)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	table, err := parse(f, nil)
	if err != nil {
		return nil
	}
	var points []string
	for _, m := range table.Mounts {
		if m.Device == device {
			points = append(points, m.Point)
		}
	}
	return points
}

// on says whether path can be opened and lies on the device. Only files and folders are opened: a pipe would block.
func on(path, device string) bool {
	var status unix.Stat_t
	if unix.Stat(path, &status) != nil || majorMinorOf(status.Dev) != device {
		return false
	}
	if kind := status.Mode & unix.S_IFMT; kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return false
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

func majorMinorOf(device uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
}
