package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// State is what the agent keeps on disk, so that a restart neither forgets nor repeats.
type State struct {
	// BootID of the boot that it speaks of.
	BootID  string                 `json:"bootID"`
	Sources map[string]SourceState `json:"sources"`
}

// SourceState is that of one source: its open faults, and where its detector was when it found them.
type SourceState struct {
	Entries []tracking.Entry `json:"entries,omitempty"`
	Cursor  json.RawMessage  `json:"cursor,omitempty"`
}

// maxStateFile is far more than any state needs, in bytes.
const maxStateFile = 8 << 20

// ReadState reads what writeState wrote; an empty State where there is none. A file that cannot be understood is an
// error, after which the agent begins anew.
func ReadState(path string) (State, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("reading the state, %w", err)
	}
	if info.Size() > maxStateFile {
		return State{}, fmt.Errorf("reading the state, %s has %d bytes, more than %d", path, info.Size(), maxStateFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return State{}, fmt.Errorf("reading the state, %w", err)
	}
	var state State
	if err := json.Unmarshal(text, &state); err != nil {
		return State{}, fmt.Errorf("reading the state in %s, %w", path, err)
	}
	return state, nil
}

// lasting is the state without the times and numbers that move with every look at a fault that stands.
func (s State) lasting() State {
	out := State{BootID: s.BootID, Sources: make(map[string]SourceState, len(s.Sources))}
	for name, source := range s.Sources {
		entries := slices.Clone(source.Entries)
		for i := range entries {
			if e := &entries[i]; e.Stands {
				e.LastObserved, e.CountedLook, e.StoodFor, e.Looks = time.Time{}, time.Time{}, 0, 0
			}
		}
		out.Sources[name] = SourceState{Entries: entries, Cursor: source.Cursor}
	}
	return out
}

// writeState replaces the file with a State as JSON, as a whole, so that there is never half a state. It does not wait
// for the disk: what a crash of the machine loses is of a boot that has ended.
func writeState(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing the state, %w", err)
	}
	next := path + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return errors.Join(fmt.Errorf("writing the state, %w", err), ignoreMissing(os.Remove(next)))
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("writing the state, %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
