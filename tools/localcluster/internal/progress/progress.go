// Package progress tells a waiting person what is going on and for how long.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	// On a terminal the line of a running step is rewritten this often,
	terminalInterval = time.Second
	// and elsewhere, as in the log of a pipeline, written anew this often.
	plainInterval = 15 * time.Second
)

// Printer writes one line per step.
type Printer struct {
	out      io.Writer
	terminal bool
}

// New returns a printer, which rewrites lines if out is a terminal.
func New(out io.Writer) *Printer {
	file, ok := out.(*os.File)
	return &Printer{out: out, terminal: ok && term.IsTerminal(int(file.Fd()))}
}

// Say writes a line.
func (p *Printer) Say(format string, args ...any) {
	fmt.Fprintf(p.out, format+"\n", args...)
}

// Step is something that takes time.
type Step struct {
	printer *Printer
	name    string
	start   time.Time
	done    chan struct{}
	stopped sync.WaitGroup

	mutex  sync.Mutex
	detail string
}

// Begin starts a step and tells of it at intervals until Done or Failed.
func (p *Printer) Begin(name, detail string) *Step {
	step := &Step{printer: p, name: name, detail: detail, start: time.Now(), done: make(chan struct{})}
	interval := plainInterval
	if p.terminal {
		interval = terminalInterval
	}
	step.stopped.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-step.done:
				return
			case <-ticker.C:
				step.tick()
			}
		}
	})
	return step
}

// Update changes what the next lines tell.
func (s *Step) Update(format string, args ...any) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.detail = fmt.Sprintf(format, args...)
}

// Done ends the step.
func (s *Step) Done(format string, args ...any) {
	close(s.done)
	s.stopped.Wait()
	s.line(fmt.Sprintf(format, args...), "\n")
}

// Failed ends the step; the error itself is the caller's to tell.
func (s *Step) Failed() { s.Done("did not succeed") }

func (s *Step) tick() {
	s.mutex.Lock()
	detail := s.detail
	s.mutex.Unlock()
	end := "\n"
	if s.printer.terminal {
		end = ""
	}
	s.line(detail+" ...", end)
}

func (s *Step) line(text, end string) {
	start := ""
	if s.printer.terminal {
		start = "\r\x1b[K" // to the line's beginning, and empty it
	}
	fmt.Fprintf(s.printer.out, "%s  %-12s %s, %s%s", start, s.name, text, elapsed(time.Since(s.start)), end)
}

func elapsed(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
