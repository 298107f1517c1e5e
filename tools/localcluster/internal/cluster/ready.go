package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	readyTimeout  = 60 * time.Second
	readyInterval = 50 * time.Millisecond
	probeTimeout  = 2 * time.Second
)

// errPortTaken says that somebody else listens where a part was to.
var errPortTaken = errors.New("its port was taken in the meantime")

// waitReady returns once the part answers as ready, or with the end of its log
// if it ends instead.
func (c *Cluster) waitReady(ctx context.Context, p part) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var last error
	for {
		if !c.alive(p) {
			return c.endedEarly(p)
		}
		if last = c.probe(ctx, p); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to be ready, %w, last answer: %w, its log is %s", p.name, ctx.Err(), last, c.logPath(p.name))
		case <-time.After(readyInterval):
		}
	}
}

// dial says whether somebody takes connections at a unix socket.
func dial(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("connecting to it, %w", err)
	}
	return connection.Close()
}

// probe asks the part once whether it is ready.
func (c *Cluster) probe(ctx context.Context, p part) error {
	if p.socket != "" {
		// Behind /proc lies what the process sees, in whichever mount namespace it is.
		return dial(ctx, fmt.Sprintf("/proc/%d/root%s", c.state.Processes[p.name].PID, p.socket))
	}
	address := c.url(p)
	if address == "" {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+p.readyPath, nil)
	if err != nil {
		return fmt.Errorf("asking %s, %w", p.name, err)
	}
	client := http.Client{Timeout: probeTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("asking %s, %w", p.name, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking %s, %s", p.name, response.Status)
	}
	return nil
}

// endedEarly makes an error of the last lines that the part has logged.
func (c *Cluster) endedEarly(p part) error {
	log := tail(c.logPath(p.name))
	if strings.Contains(log, "address already in use") {
		return fmt.Errorf("starting %s, %w", p.name, errPortTaken)
	}
	return fmt.Errorf("starting %s, it ended; the last lines of %s are:\n%s", p.name, c.logPath(p.name), log)
}

// tail returns the last lines of a log.
func tail(path string) string {
	const bytesAtMost, linesAtMost = 8192, 12
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > bytesAtMost {
		_, _ = file.Seek(-bytesAtMost, io.SeekEnd)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) > linesAtMost {
		lines = lines[len(lines)-linesAtMost:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}
