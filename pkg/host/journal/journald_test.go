package journal

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

const journaldPath = "/lib/systemd/systemd-journald" // of Debian's package systemd

// journald runs the real daemon in mounts of its own, and gives its process and the host that it writes to.
func journald(t *testing.T) (pid int, h host.Host) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give systemd-journald mounts of its own")
	}
	if _, err := os.Stat(journaldPath); err != nil {
		t.Skip("needs systemd-journald: apt-get install systemd")
	}
	script := `mount -t tmpfs none /run && mkdir -p /run/systemd/journal /run/log/journal &&
		echo ` + machineID + ` > /run/machine-id && mount --bind /run/machine-id /etc/machine-id && exec ` + journaldPath
	command := exec.Command("sh", "-c", script)
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	command.Env = append(os.Environ(), "SYSTEMD_JOURNAL_COMPACT=1")
	var output strings.Builder
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Skipf("needs the right to make mounts: %v", err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	h = host.New(fmt.Sprintf("/proc/%d/root", command.Process.Pid))
	if !eventually(func() bool {
		_, err := os.Stat(h.Path("run/log/journal", machineID, "system.journal"))
		return err == nil
	}) {
		t.Skipf("systemd-journald does not run here: %s", &output)
	}
	return command.Process.Pid, h
}

func eventually(what func() bool) bool {
	for range 200 {
		if what() {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// say writes one line as a program does through syslog(3).
func say(t *testing.T, h host.Host, identifier, text string) {
	t.Helper()
	// The path of a socket has at most 107 bytes; that of /proc/PID/root fits.
	socket, err := net.Dial("unixgram", h.Path("run/systemd/journal/dev-log"))
	require.NoError(t, err)
	_, err = fmt.Fprintf(socket, "<30>%s: %s", identifier, text)
	require.NoError(t, err)
	require.NoError(t, socket.Close())
}

func TestARealJournald(t *testing.T) {
	pid, h := journald(t)
	r := Open(h, Options{Any: []Match{{Field: "SYSLOG_IDENTIFIER", Value: "autorepair-test"}}})
	defer r.Close()
	var got []string
	next := func(want string) {
		t.Helper()
		say(t, h, "somebody-else", "noise")
		say(t, h, "autorepair-test", want)
		require.True(t, eventually(func() bool {
			require.NoError(t, r.Poll(func(e Entry) bool {
				got = append(got, e.Message)
				require.WithinDuration(t, time.Now(), e.Realtime, time.Minute)
				return true
			}))
			return len(got) > 0
		}), "waiting for %q", want)
		require.Equal(t, []string{want}, got)
		got = nil
	}
	next("first")
	next(strings.Repeat("long enough to be compressed ", 100) + "end")
	rotated := func(want int) bool {
		return eventually(func() bool {
			files, err := filepath.Glob(h.Path("run/log/journal", machineID, "system*.journal"))
			return err == nil && len(files) == want
		})
	}
	for i := range 5 {
		require.NoError(t, syscall.Kill(pid, syscall.SIGUSR2)) // rotate
		require.True(t, rotated(i+2), "rotation %d", i)
		next(fmt.Sprintf("after rotation %d", i))
	}
	require.Len(t, r.files, 1, "rotated files are closed")
	require.Zero(t, r.Stats())
}
