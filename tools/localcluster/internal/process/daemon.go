package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// pollInterval is how often an ending process is looked at.
const pollInterval = 20 * time.Millisecond

// Command is what to run.
type Command struct {
	Path string
	Args []string
	// Env is the whole environment beside the owner's mark: nothing is
	// inherited, so that a person's KUBECONFIG or FEATURE_GATES do not leak in.
	Env []string
	// LogFile receives standard output and standard error, appended.
	LogFile string
}

// Start runs the command in a session of its own, so that it outlives this
// process and its terminal, and returns how to know it again.
func Start(owner Owner, command Command) (Record, error) {
	log, err := os.OpenFile(command.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return Record{}, fmt.Errorf("opening the log of %s, %w", owner.Part, err)
	}
	defer func() { _ = log.Close() }()

	cmd := exec.Command(command.Path, command.Args...)
	cmd.Dir = owner.Directory
	cmd.Env = append(append([]string{}, command.Env...), owner.environment()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Record{}, fmt.Errorf("starting %s, %w", owner.Part, err)
	}
	record, err := Identify(cmd.Process.Pid)
	if err == nil {
		record.waitMarked(owner)
	}
	// Reap it should it exit while we still run, so that it does not stay as a zombie.
	go func() { _ = cmd.Wait() }()
	if err != nil {
		return Record{}, fmt.Errorf("recording %s, %w", owner.Part, err)
	}
	return record, nil
}

// waitMarked returns once the mark can be read: the kernel reports a program
// as executed a moment before /proc shows its environment.
func (r Record) waitMarked(owner Owner) {
	const patience = 5 * time.Second
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && !carries(r.PID, owner); {
		if stat, err := readStat(r.PID); err != nil || stat.dead() {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Stop asks the process to end, waits for the given grace, then kills it. It
// returns once the process is gone; one that is not the owner's is left alone.
func (r Record) Stop(ctx context.Context, owner Owner, grace time.Duration) error {
	if err := r.Signal(owner, syscall.SIGTERM); err != nil {
		return err
	}
	if grace > 0 && r.waitGone(ctx, owner, grace) == nil {
		return nil
	}
	return r.Kill(ctx, owner)
}

// Kill ends the process without letting it clean up, and waits until it is gone.
func (r Record) Kill(ctx context.Context, owner Owner) error {
	const killed = 10 * time.Second
	if err := r.Signal(owner, syscall.SIGKILL); err != nil {
		return err
	}
	// Ended must mean ended, also where the caller has lost patience.
	return r.waitGone(context.WithoutCancel(ctx), owner, killed)
}

func (r Record) waitGone(ctx context.Context, owner Owner, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for r.Alive(owner) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s (pid %d) to end, %w", owner.Part, r.PID, ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}
