// Package process starts daemons and ends them again, and never ends a process
// that it did not start: a process is ours only if it carries our mark in its
// environment, and, where it was recorded, started at the recorded instant of
// the recorded boot.
package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	// ownerVariable marks a process with the directory of its cluster.
	ownerVariable = "LOCALCLUSTER_PROCESS_OF"
	// partVariable marks a process with the part it plays there.
	partVariable = "LOCALCLUSTER_PART"

	procRoot = "/proc"
)

// Record identifies one process for good, also after its pid has gone to
// another one.
type Record struct {
	PID int `json:"pid"`
	// StartTicks is the start in clock ticks since boot, field 22 of
	// /proc/PID/stat.
	StartTicks uint64 `json:"startTicks"`
	// BootID tells one boot's ticks from another's.
	BootID string `json:"bootID"`
}

// Owner is a cluster's directory and one of its parts.
type Owner struct {
	Directory string
	Part      string
}

func (o Owner) environment() []string {
	return []string{ownerVariable + "=" + o.Directory, partVariable + "=" + o.Part}
}

// Identify makes the record of a live process.
func Identify(pid int) (Record, error) {
	stat, err := readStat(pid)
	if err != nil {
		return Record{}, err
	}
	boot, err := BootID()
	if err != nil {
		return Record{}, err
	}
	return Record{PID: pid, StartTicks: stat.startTicks, BootID: boot}, nil
}

// Alive tells whether the recorded process still runs and is the owner's. A
// zombie, whose parent has not yet asked for its exit code, does not run.
func (r Record) Alive(owner Owner) bool {
	if r.PID <= 0 {
		return false
	}
	boot, err := BootID()
	if err != nil || boot != r.BootID {
		return false
	}
	stat, err := readStat(r.PID)
	if err != nil || stat.dead() || stat.startTicks != r.StartTicks {
		return false
	}
	return carries(r.PID, owner)
}

// Signal sends a signal if the process is still the recorded one of the owner,
// and does nothing otherwise.
func (r Record) Signal(owner Owner, signal syscall.Signal) error {
	// The handle (a pidfd) is taken before the check, so that the signal cannot
	// reach a successor that got the pid in between.
	handle, err := os.FindProcess(r.PID)
	if err != nil {
		return nil // no such process: nothing to end
	}
	defer func() { _ = handle.Release() }()
	if !r.Alive(owner) {
		return nil
	}
	if err := handle.Signal(signal); err != nil && r.Alive(owner) {
		return fmt.Errorf("sending %s to %s (pid %d), %w", signal, owner.Part, r.PID, err)
	}
	return nil
}

// Name returns the name of its program as /proc has it, cut to 15 bytes; empty
// where it has ended.
func (r Record) Name() string {
	text, err := os.ReadFile(procFile(r.PID, "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// ResidentBytes returns the memory that the process holds, 0 if that cannot be
// read.
func (r Record) ResidentBytes() int64 {
	text, err := os.ReadFile(procFile(r.PID, "statm"))
	if err != nil {
		return 0
	}
	// "310284 72011 41020 ...": pages in all, resident pages, shared pages
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// Find returns all live processes that carry the mark of a cluster's directory,
// recorded or not, by part. It finds what an "up" that was killed between
// starting and recording left behind.
func Find(directory string) (map[string][]Record, error) {
	entries, err := os.ReadDir(procRoot)
	if err != nil {
		return nil, fmt.Errorf("listing processes, %w", err)
	}
	found := map[string][]Record{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		part, ok := partOf(pid, directory)
		if !ok {
			continue
		}
		record, err := Identify(pid)
		if err != nil || !record.Alive(Owner{Directory: directory, Part: part}) {
			continue
		}
		found[part] = append(found[part], record)
	}
	return found, nil
}

type stat struct {
	state      string
	startTicks uint64
}

func (s stat) dead() bool { return s.state == "Z" || s.state == "X" || s.state == "x" }

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return stat{}, fmt.Errorf("reading the state of process %d, %w", pid, err)
	}
	return parseStat(string(text))
}

// parseStat reads a line such as
//
//	4711 (a (strange) name) S 1 4711 4711 0 -1 4194560 ... 22nd field: start ticks ...
//
// whose second field may hold spaces and parentheses.
func parseStat(text string) (stat, error) {
	const afterName, startTicksField = 2, 21 // counted from 0
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("parsing process state %q, no name in parentheses", text)
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) <= startTicksField-afterName {
		return stat{}, fmt.Errorf("parsing process state %q, too few fields", text)
	}
	ticks, err := strconv.ParseUint(fields[startTicksField-afterName], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("parsing start of process, %w", err)
	}
	return stat{state: fields[0], startTicks: ticks}, nil
}

func carries(pid int, owner Owner) bool {
	part, ok := partOf(pid, owner.Directory)
	return ok && part == owner.Part
}

func partOf(pid int, directory string) (string, bool) {
	environment, err := os.ReadFile(procFile(pid, "environ"))
	if err != nil {
		return "", false
	}
	var part string
	var ours bool
	for entry := range bytes.SplitSeq(environment, []byte{0}) {
		name, value, _ := strings.Cut(string(entry), "=")
		switch name {
		case ownerVariable:
			ours = value == directory
		case partVariable:
			part = value
		}
	}
	return part, ours && part != ""
}

// BootID names the present boot of the machine.
func BootID() (string, error) {
	text, err := os.ReadFile(filepath.Join(procRoot, "sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("reading the boot ID, %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func procFile(pid int, name string) string {
	return filepath.Join(procRoot, strconv.Itoa(pid), name)
}
