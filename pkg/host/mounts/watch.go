package mounts

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// Watch calls changed after each change of the mount table, until ctx ends: something was mounted, unmounted or
// remounted by a person. The next change is waited for only when changed has returned, and any number of changes
// between are one. A filesystem that makes itself read-only is no change of the table. It blocks.
func Watch(ctx context.Context, h host.Host, changed func()) error {
	// Not os.Open: Go's own poller would be told of the file too, and one of the two takes the event from the other.
	table, err := unix.Open(h.Path(Path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the mount table, %w", err)
	}
	defer func() { _ = unix.Close(table) }()
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("making an event descriptor, %w", err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_, _ = unix.Write(end, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !stop() {
			<-ended
		}
		_ = unix.Close(end)
	}()
	// The kernel announces a change of a mount table as a priority event; see proc_pid_mounts(5).
	fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}, {Fd: int32(end), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("waiting for the mount table, %w", err)
		}
		if fds[0].Revents&unix.POLLNVAL != 0 {
			return errors.New("waiting for the mount table, its descriptor is closed")
		}
		if fds[0].Revents&(unix.POLLPRI|unix.POLLERR) != 0 {
			changed()
		}
	}
}
