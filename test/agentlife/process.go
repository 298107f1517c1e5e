package agentlife

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Options of an agent's process.
type Options struct {
	// Command is the program and what comes before its own arguments.
	Command []string
	// Env beside that of this process.
	Env []string
	API *API
	// Dir is where its files are; one that is started again there goes on with its state.
	Dir string
	// HostRoot, ConfigFile and StateFile as its flags; empty: this machine, none, and one in Dir.
	HostRoot, ConfigFile, StateFile string
	// Log is where it writes; nil: a file in Dir.
	Log io.Writer
}

// Process is an agent that runs.
type Process struct {
	cmd     *exec.Cmd
	metrics string
	done    chan struct{} // closed once it has ended
	err     error         // how it ended
}

// Start an agent. It is killed where the process that started it ends.
func Start(o Options) (*Process, error) {
	kubeconfig := filepath.Join(o.Dir, "kubeconfig")
	if err := o.API.WriteKubeconfig(kubeconfig); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if o.StateFile == "" {
		o.StateFile = filepath.Join(o.Dir, "state.json")
	}
	if o.HostRoot == "" {
		o.HostRoot = "/"
	}
	if o.Log == nil {
		file, err := os.OpenFile(filepath.Join(o.Dir, "agent.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the agent's log, %w", err)
		}
		defer file.Close() //nolint:errcheck // the process has its own
		o.Log = file
	}
	args := append(o.Command[1:len(o.Command):len(o.Command)], "run", "--node-name="+NodeName, "--kubeconfig="+kubeconfig, "--config="+o.ConfigFile,
		"--host-root="+o.HostRoot, "--state-file="+o.StateFile, "--liveness-socket="+filepath.Join(o.Dir, "agent.sock"),
		"--metrics-bind-address="+address)
	cmd := exec.Command(o.Command[0], args...)
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Stdout, cmd.Stderr = o.Log, o.Log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the agent, %w", err)
	}
	p := &Process{cmd: cmd, metrics: "http://" + address + "/metrics", done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port, %w", err)
	}
	defer listener.Close() //nolint:errcheck // nothing was sent
	return listener.Addr().String(), nil
}

// Pid of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill ends it as the kernel would, in the midst of whatever it does.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends it as the kubelet would.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping the agent, %w", err)
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(30 * time.Second):
		p.Kill()
		return errors.New("stopping the agent, it did not end within 30 s")
	}
}

// Usage is what a process takes of the machine at one moment.
type Usage struct {
	// RSS is the resident size; Anonymous of it is memory of its own, File pages of its program and the like, which the
	// kernel may take back. PeakRSS is the largest it ever was. In MiB.
	RSS, Anonymous, File, PeakRSS float64
	// CPU that it has used since it began.
	CPU       time.Duration
	OpenFiles int
	Threads   int
}

// Usage of the process now.
func (p *Process) Usage() (Usage, error) {
	proc := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return Usage{}, fmt.Errorf("reading the size of the agent, %w", err)
	}
	value := map[string]float64{}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			value[name], _ = strconv.ParseFloat(fields[0], 64) // not all are numbers
		}
	}
	const kib = 1.0 / 1024
	u := Usage{
		RSS: value["VmRSS"] * kib, Anonymous: value["RssAnon"] * kib, File: (value["RssFile"] + value["RssShmem"]) * kib,
		PeakRSS: value["VmHWM"] * kib, Threads: int(value["Threads"]),
	}
	if u.CPU, err = cpuOf(proc); err != nil {
		return Usage{}, err
	}
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return Usage{}, fmt.Errorf("reading the open files of the agent, %w", err)
	}
	u.OpenFiles = len(files)
	return u, nil
}

// cpuOf sums what the scheduler has given to the threads, in nanoseconds; the ticks of /proc/PID/stat are too coarse for
// a process that sleeps. Threads of Go do not end, so that none is missing.
func cpuOf(proc string) (time.Duration, error) {
	tasks, err := filepath.Glob(filepath.Join(proc, "task", "*", "schedstat"))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("reading the CPU time of the agent, %w", errors.Join(err, os.ErrNotExist))
	}
	total := time.Duration(0)
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		ran, _, _ := strings.Cut(string(text), " ")
		nanoseconds, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading the CPU time of the agent, %w", err)
		}
		total += time.Duration(nanoseconds)
	}
	return total, nil
}

// Metric gives the value of a series of the agent's metrics, written as there: name{label="value"}.
func (p *Process) Metric(ctx context.Context, series string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics, nil)
	if err != nil {
		return 0, fmt.Errorf("asking for metrics, %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("asking for metrics, %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if name, value, ok := cutLast(lines.Text(), " "); ok && name == series {
			return strconv.ParseFloat(value, 64) //nolint:wrapcheck // says what it could not read
		}
	}
	return 0, fmt.Errorf("the agent has no metric %s", series)
}

func cutLast(s, at string) (before, after string, found bool) {
	i := strings.LastIndex(s, at)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(at):], true
}
