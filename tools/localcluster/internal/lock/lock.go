// Package lock keeps two commands from working on the same thing at once.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// retryInterval is how often a lock that another holds is tried.
const retryInterval = 100 * time.Millisecond

// Acquire takes an exclusive lock on the file at path, which it creates. The
// kernel frees it when the holder ends, however it ends. While another holds it
// waiting is called once and Acquire waits.
func Acquire(ctx context.Context, path string, waiting func()) (release func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening lock, %w", err)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("locking %s, %w", path, err)
		}
		if !told {
			waiting()
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("waiting for the lock %s, %w", path, ctx.Err())
		case <-time.After(retryInterval):
		}
	}
}
