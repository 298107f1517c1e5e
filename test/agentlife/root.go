package agentlife

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// Root is a folder that stands for a machine: what of it there is was recorded, or is written by a test.
type Root string

// NewRoot makes a machine in dir that was booted an hour ago, with an empty kernel log.
func NewRoot(dir string) (Root, error) {
	r := Root(dir)
	boot := time.Now().Add(-time.Hour).Unix()
	for path, text := range map[string]string{
		"proc/sys/kernel/random/boot_id": "6f2f3c1e-1111-4222-8333-444455556666\n",
		"proc/stat":                      fmt.Sprintf("cpu  0 0 0 0 0 0 0 0 0 0\nbtime %d\n", boot),
		"proc/1/mountinfo":               "26 1 259:1 / / rw,relatime - ext4 /dev/nvme0n1p1 rw\n",
		"dev/kmsg":                       "",
	} {
		if err := r.Write(path, text); err != nil {
			return r, err
		}
	}
	return r, nil
}

// Path of a file of the machine.
func (r Root) Path(path string) string { return filepath.Join(string(r), path) }

// Write makes or replaces a file of the machine.
func (r Root) Write(path, text string) error {
	path = r.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making a folder of the machine, %w", err)
	}
	return os.WriteFile(path, []byte(text), 0o644) //nolint:wrapcheck // names the file
}

// KernelLog writes the recorded kernel log of a Root, as the kernel would: numbered, and the newest at its end. It is
// not safe for concurrent use.
type KernelLog struct {
	file     *os.File
	buffer   *bufio.Writer
	sequence int
	boot     time.Time
}

// KernelLog opens the kernel log for writing. There is one at a time.
func (r Root) KernelLog() (*KernelLog, error) {
	file, err := os.OpenFile(r.Path("dev/kmsg"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the recorded kernel log, %w", err)
	}
	boot, err := host.New(string(r)).BootTime()
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it did
	}
	return &KernelLog{file: file, buffer: bufio.NewWriterSize(file, 64<<10), boot: boot}, nil
}

// Kernel writes a line as the kernel does.
func (k *KernelLog) Kernel(line string) error { return k.KernelAt(time.Now(), line) }

// KernelAt writes a line as the kernel did at a time since the machine was booted.
func (k *KernelLog) KernelAt(at time.Time, line string) error {
	const warning = 4 // of the facility kern, 0
	k.sequence++
	_, err := fmt.Fprintf(k.buffer, "%d,%d,%d,-;%s\n", warning, k.sequence, at.Sub(k.boot).Microseconds(), line)
	return err //nolint:wrapcheck // names the file
}

// Flush lets the reader see what was written.
func (k *KernelLog) Flush() error { return k.buffer.Flush() } //nolint:wrapcheck // names the file

// Close flushes too.
func (k *KernelLog) Close() error {
	if err := k.Flush(); err != nil {
		return err
	}
	return k.file.Close() //nolint:wrapcheck // names the file
}

// OutOfMemory is a line of the kernel that it has killed a process.
const OutOfMemory = "Memory cgroup out of memory: Killed process 4711 (java) total-vm:4194304kB, anon-rss:1048576kB, " +
	"file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:2200kB oom_score_adj:984"
