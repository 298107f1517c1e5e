package node

import (
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/mounts"
)

const (
	// fsMaxRecords bounds how many filesystems are remembered; a node attaches far fewer volumes.
	fsMaxRecords = 512
	// fsMaxMounts bounds by how many of its mounts a filesystem is known again.
	fsMaxMounts = 4
)

// fsMemory is what the mounts were like before, within one boot.
type fsMemory struct {
	// At is when the table was last read.
	At time.Time `json:"at"`
	// Filesystems by major:minor.
	Filesystems map[string]*fsRecord `json:"filesystems,omitempty"`
	// Paths of the node's own, and the mounts that they lie on.
	Paths map[string]fsPath `json:"paths,omitempty"`
}

// fsRecord is one filesystem, from its mounting until its last mount is gone.
type fsRecord struct {
	Device string `json:"device"`
	Type   string `json:"type"`
	// Mounts by which it is known again: its first ones.
	Mounts []fsMount `json:"mounts"`
	// Since is when it was first seen, at the latest; zero where it was there at the first look.
	Since time.Time `json:"since,omitzero"`
	// Writable says that it has been so from the first look on: only then being read-only is a change. A filesystem
	// that is mounted read-only and made writable for an update, as some systems do with /boot, is meant to go back.
	Writable bool `json:"writable,omitempty"`
}

type fsMount struct {
	ID    int    `json:"id"`
	Point string `json:"point"`
}

// fsPath is the mount below a path of the node's own.
type fsPath struct {
	fsMount
	Device   string `json:"device"`
	Writable bool   `json:"writable,omitempty"`
}

// update takes a new table and gives the first mount of each filesystem that was not there before.
func (f *fsMemory) update(table mounts.Table, paths []string, now time.Time) (appeared []mounts.Mount) {
	grouped := map[string][]fsMount{}
	firsts := make([]mounts.Mount, 0, len(f.Filesystems))
	for _, m := range table.Mounts {
		if !m.Persistent {
			continue
		}
		if grouped[m.Device] == nil {
			firsts = append(firsts, m)
		}
		grouped[m.Device] = append(grouped[m.Device], fsMount{ID: m.ID, Point: m.Point})
	}
	records := make(map[string]*fsRecord, len(firsts))
	for _, m := range firsts {
		record := f.Filesystems[m.Device]
		if record == nil || record.Type != m.Type || !record.overlaps(grouped[m.Device]) {
			if len(records) >= fsMaxRecords {
				continue
			}
			// It was mounted after the look before this one; the earliest moment is the careful answer.
			record = &fsRecord{Device: m.Device, Type: m.Type, Since: f.At, Writable: !m.FilesystemReadOnly}
			appeared = append(appeared, m)
		}
		record.Mounts = grouped[m.Device][:min(fsMaxMounts, len(grouped[m.Device]))]
		records[m.Device] = record
	}
	f.Filesystems = records
	f.updatePaths(table, paths)
	f.At = now
	return appeared
}

func (f *fsMemory) updatePaths(table mounts.Table, paths []string) {
	kept := make(map[string]fsPath, len(paths))
	for _, path := range paths {
		m, ok := table.Of(path)
		if !ok || !m.Persistent {
			continue
		}
		this := fsPath{fsMount: fsMount{ID: m.ID, Point: m.Point}, Device: m.Device, Writable: !m.ReadOnly}
		if before := f.Paths[path]; before.fsMount == this.fsMount && before.Device == this.Device {
			this.Writable = before.Writable
		}
		kept[path] = this
	}
	f.Paths = kept
}

func (r *fsRecord) overlaps(now []fsMount) bool {
	for _, before := range r.Mounts {
		for _, m := range now {
			if m == before {
				return true
			}
		}
	}
	return false
}
