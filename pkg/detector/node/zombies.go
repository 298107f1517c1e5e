package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	// zombiesMaxProcesses bounds one walk; a process costs some ten microseconds.
	zombiesMaxProcesses = 32768
	zombiesBatch        = 256
)

// walk looks through all processes for those that have ended and wait for their parent.
func (p *Processes) walk(ctx context.Context) error {
	proc, err := os.Open(p.host.Path("proc"))
	if err != nil {
		return fmt.Errorf("listing processes, %w", err)
	}
	defer func() { _ = proc.Close() }()
	byParent := map[int]int{}
	total, seen := 0, 0
	buffer := make([]byte, 512)
	p.unwalked = "Processes of others are hidden (hidepid), zombies among them too."
	for seen < zombiesMaxProcesses {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("listing processes, %w", err)
		}
		names, err := proc.Readdirnames(zombiesBatch)
		for _, name := range names {
			if name[0] < '0' || name[0] > '9' {
				continue
			}
			seen++
			if name == "1" {
				p.unwalked = ""
			}
			if parent, zombie := p.zombie(name, buffer); zombie {
				total++
				byParent[parent]++
			}
		}
		if errors.Is(err, io.EOF) {
			p.report(total, byParent)
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing processes, %w", err)
		}
	}
	p.unwalked = fmt.Sprintf("Only %d processes are looked at for zombies.", zombiesMaxProcesses)
	p.report(total, byParent)
	return nil
}

// zombie says whether a process has ended and waits for its parent; not where it has gone meanwhile.
func (p *Processes) zombie(pid string, buffer []byte) (parent int, zombie bool) {
	// Without os.Open, which would offer each file to Go's poller first.
	stat, err := unix.Open(p.host.Path("proc", pid, "stat"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer func() { _ = unix.Close(stat) }()
	n, err := unix.Read(stat, buffer)
	if err != nil {
		return 0, false
	}
	state, parent, ok := parseStat(buffer[:n])
	return parent, ok && state == 'Z'
}

// parseStat reads the state and the parent of a process: 4711 (a name) with ) in it) Z 1 4711 ...
func parseStat(stat []byte) (state byte, parent int, ok bool) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, 0, false
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 2 || len(fields[0]) != 1 {
		return 0, 0, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return fields[0][0], parent, err == nil
}

func (p *Processes) report(total int, byParent map[int]int) {
	p.zombies = nil
	if total < p.options.Zombies {
		return
	}
	worst := -1
	for parent, count := range byParent {
		if worst < 0 || count > byParent[worst] || (count == byParent[worst] && parent < worst) {
			worst = parent
		}
	}
	name, err := disksText(p.host.Path("proc", strconv.Itoa(worst), "comm"))
	if err != nil {
		name = "unknown"
	}
	confirm := processesZombiesFor
	p.zombies = []tracking.Fault{{
		Reason:       health.ReasonExcessiveZombieProcesses,
		Message:      fmt.Sprintf("At least %d ended processes wait for their parents, most of them for %s (%d).", p.options.Zombies, health.Shorten(name, 64), worst),
		Evidence:     []string{fmt.Sprintf("%d zombies, %d of them of %s (%d)", total, byParent[worst], health.Shorten(name, 64), worst)},
		ConfirmAfter: &confirm,
	}}
}
