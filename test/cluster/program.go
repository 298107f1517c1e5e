package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Program is a running process of ours.
type Program struct {
	// Log is the path of its log.
	Log string

	name string
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended, with exit set
	exit error
	file *os.File
}

// starter starts a process and gives how to wait for its end.
type starter func(cmd *exec.Cmd) (wait func() error, err error)

// here starts a process as any other. Its thread is kept until it ends: Pdeathsig comes when the thread that started it
// ends, and Go ends threads of which something cannot be undone, as entering a machine.
func here(cmd *exec.Cmd) (func() error, error) {
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err //nolint:wrapcheck // the caller says what for
	}
	return func() error { return <-ended }, nil
}

// isReady asks the readiness probe that a program serves on a port of this machine.
func isReady(port int) func(context.Context) bool {
	return func(context.Context) bool {
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", port)) //nolint:noctx // our own port
		if err != nil {
			return false // not up yet
		}
		defer response.Body.Close() //nolint:errcheck // nothing was written
		return response.StatusCode == http.StatusOK
	}
}

// startProgram runs a program of ours, with its log appended to a file, until it is ready.
func startProgram(ctx context.Context, name, log string, cmd *exec.Cmd, start starter, ready func(context.Context) bool) (*Program, error) {
	p := &Program{Log: log, name: name, cmd: cmd, done: make(chan struct{})}
	var err error
	if p.file, err = os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("opening the log of the %s, %w", name, err)
	}
	cmd.Stdout, cmd.Stderr = p.file, p.file
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// It must not outlive whoever started it.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	ended, err := start(cmd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the %s, %w", name, err), p.file.Close())
	}
	go func() {
		p.exit = ended()
		close(p.done)
	}()
	if err := p.waitUntil(ctx, ready); err != nil {
		tail, _ := os.ReadFile(log)
		p.Kill()
		return nil, fmt.Errorf("waiting for the %s, %w\n%s", name, err, lastBytes(tail, 2000))
	}
	return p, nil
}

func (p *Program) waitUntil(ctx context.Context, ready func(context.Context) bool) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 60*time.Second, true, func(ctx context.Context) (bool, error) {
		if p.Ended() {
			return false, fmt.Errorf("running the %s (its log is %s), %w", p.name, p.Log, errors.Join(errors.New("it ended"), p.exit))
		}
		return ready(ctx), nil
	})
}

// Ended says whether it runs no longer.
func (p *Program) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait waits until it has ended, and gives how: nil where it exited with 0.
func (p *Program) Wait() error {
	<-p.done
	return p.exit
}

// PID is the number of its process.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Stop ends it as Kubernetes would, and waits for it.
func (p *Program) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the %s, %w", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.Kill()
	}
	if err := p.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("closing the log of the %s, %w", p.name, err)
	}
	return nil
}

// Kill ends it without a word.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ResidentMiB is the memory that it holds now.
func (p *Program) ResidentMiB() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID()))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of the %s, %w", p.name, err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	if err != nil {
		return 0, fmt.Errorf("reading the memory of the %s, %w", p.name, err)
	}
	return pages * float64(os.Getpagesize()) / (1 << 20), nil
}

func lastBytes(text []byte, n int) string {
	if len(text) > n {
		text = text[len(text)-n:]
	}
	return string(text)
}
