package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

const (
	tickEvery  = 5 * time.Second
	deadAfter  = time.Minute
	alive      = "ok"
	probeLimit = 5 * time.Second
)

// Liveness answers on a unix socket whether the agent lives. It never goes over the network: a node with a dead
// loopback is what the agent is there for. It knows nothing of detectors or of the API server, since neither a detector
// that hangs nor an API server that is away gets better by a restart.
type Liveness struct {
	clock clock.WithTicker
	last  atomic.Int64 // unix nanoseconds of the last tick
}

// NewLiveness counts from now on.
func NewLiveness(clk clock.WithTicker) *Liveness {
	l := &Liveness{clock: clk}
	l.tick()
	return l
}

func (l *Liveness) tick() { l.last.Store(l.clock.Now().UnixNano()) }

// Run ticks, and answers on the socket, until ctx ends. That the socket cannot be made is said in the log and tried
// again; the agent goes on without.
func (l *Liveness) Run(ctx context.Context, socket string, log *slog.Logger) {
	go l.serve(ctx, socket, log)
	ticker := l.clock.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			l.tick()
		}
	}
}

func (l *Liveness) serve(ctx context.Context, socket string, log *slog.Logger) {
	for ctx.Err() == nil {
		err := l.listen(ctx, socket)
		if ctx.Err() != nil {
			return
		}
		log.Error("serving liveness", "socket", socket, "error", err)
		timer := l.clock.NewTimer(tickEvery)
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
		timer.Stop()
	}
}

func (l *Liveness) listen(ctx context.Context, socket string) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return fmt.Errorf("making the folder of the socket, %w", err)
	}
	// What an agent before left there answers nobody.
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the old socket, %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listening, %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("accepting, %w", err)
		}
		_ = connection.SetDeadline(l.clock.Now().Add(probeLimit))
		_, _ = io.WriteString(connection, l.answer()+"\n")
		_ = connection.Close()
	}
}

func (l *Liveness) answer() string {
	if age := l.clock.Now().Sub(time.Unix(0, l.last.Load())); age > deadAfter {
		return fmt.Sprintf("the agent has stood still for %s", age.Round(time.Second))
	}
	return alive
}

// Probe asks a running agent whether it lives.
func Probe(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("asking the agent, %w", err)
	}
	defer connection.Close() //nolint:errcheck // only read
	if deadline, ok := ctx.Deadline(); ok {
		_ = connection.SetDeadline(deadline)
	}
	answer, err := io.ReadAll(io.LimitReader(connection, 1024))
	if err != nil {
		return fmt.Errorf("asking the agent, %w", err)
	}
	if text := strings.TrimSpace(string(answer)); text != alive {
		return fmt.Errorf("asking the agent, %s", text)
	}
	return nil
}
