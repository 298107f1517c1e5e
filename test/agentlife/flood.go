package agentlife

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// LastLine of a flood, which means another fault than the lines before it.
const LastLine = "kernel BUG at mm/slub.c:4013!"

// Flood writes lines into the kernel log of a machine, and one LastLine after them: so many a second, 0 as fast as it
// can.
func Flood(root Root, lines, perSecond int) error {
	log, err := root.KernelLog()
	if err != nil {
		return err
	}
	const turns = 50 // a second
	began := time.Now()
	for i := range lines {
		if err := log.Kernel(OutOfMemory); err != nil {
			return fmt.Errorf("writing the flood, %w", err)
		}
		if perSecond == 0 || (i+1)%(max(perSecond/turns, 1)) != 0 {
			continue
		}
		if err := log.Flush(); err != nil {
			return fmt.Errorf("writing the flood, %w", err)
		}
		time.Sleep(time.Until(began.Add(time.Duration(i+1) * time.Second / time.Duration(perSecond))))
	}
	if err := log.Kernel(LastLine); err != nil {
		return fmt.Errorf("writing the flood, %w", err)
	}
	return log.Close()
}

// WaitFor asks until it is so, at most for the time given.
func WaitFor(ctx context.Context, atMost time.Duration, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for !so() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// ServiceLogs are the log files of the kubelet and of containerd on a machine without a journal.
type ServiceLogs struct {
	root Root
}

var serviceLogFiles = []string{"var/log/kubelet.log", "var/log/containerd.log"}

// NewServiceLogs makes the files.
func NewServiceLogs(root Root) (ServiceLogs, error) {
	for _, file := range serviceLogFiles {
		if err := root.Write(file, ordinary()); err != nil {
			return ServiceLogs{}, err
		}
	}
	return ServiceLogs{root: root}, nil
}

func ordinary() string {
	return fmt.Sprintf("time=%q level=info msg=\"StopPodSandbox for 5c1d returns successfully\"\n", time.Now().Format(time.RFC3339Nano))
}

// Rotate rotates both files once, and writes on: an even number renames them and makes new ones, an odd one copies and
// truncates them.
func (l ServiceLogs) Rotate(number int) error {
	for _, file := range serviceLogFiles {
		path := l.root.Path(file)
		old := fmt.Sprintf("%s.%d", path, number%3+1)
		if err := rotate(path, old, number%2 == 0); err != nil {
			return fmt.Errorf("rotating %s, %w", filepath.Base(path), err)
		}
		if err := appendTo(path, strings.Repeat(ordinary(), 3)); err != nil {
			return err
		}
	}
	return nil
}

func rotate(path, old string, rename bool) error {
	if rename {
		return os.Rename(path, old)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(old, text, 0o644); err != nil {
		return err
	}
	return os.Truncate(path, 0)
}

func appendTo(path, text string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening a log, %w", err)
	}
	if _, err := file.WriteString(text); err != nil {
		_ = file.Close()
		return fmt.Errorf("writing a log, %w", err)
	}
	return file.Close() //nolint:wrapcheck // names the file
}
