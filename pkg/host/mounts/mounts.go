// Package mounts reads the mount table of the machine, and which block devices its filesystems lie on.
package mounts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// Mount is one mount of a filesystem that can be written to by nature.
type Mount struct {
	// ID is unique while the mount stands, and given anew afterwards.
	ID int
	// Device of the filesystem as major:minor; the same for all its mounts.
	Device string
	Point  string
	Type   string
	Source string
	// ReadOnly is the mount's own option: bind mounts of a writable filesystem have it too.
	ReadOnly bool
	// FilesystemReadOnly is the filesystem's own option, for all its mounts.
	FilesystemReadOnly bool
	// Failed is the filesystem's own word that it takes no more writes after an error; empty while there is none.
	// ext4 of Linux 6.15 and later says emergency_ro where it said ro before, and shutdown.
	Failed string
	// Persistent is false for a mount that is listed only because a path of interest lies on it.
	Persistent bool
}

// Line is the mount as mountinfo has it, shortened to what counts.
func (m Mount) Line() string {
	text := fmt.Sprintf("%s %s %s - %s %s %s", m.Device, m.Point, mode(m.ReadOnly), m.Type, m.Source, mode(m.FilesystemReadOnly))
	if m.Failed != "" {
		text += "," + m.Failed
	}
	return text
}

func mode(readOnly bool) string {
	if readOnly {
		return "ro"
	}
	return "rw"
}

// Table is the mount table at one moment, in its own order: what is mounted later comes later.
type Table struct {
	Mounts []Mount
	// OwnOnly says that the machine's table could not be read, and that this is the table of the reading process.
	OwnOnly bool
}

// Path of the mount table of the machine below its root: that of the first process.
const Path = "proc/1/mountinfo"

const pathOwn = "proc/self/mountinfo"

// maxPersistent bounds what is kept of a table; Linux allows 100,000 mounts, most of which are no disk's.
const maxPersistent = 20000

// Read gives the mounts of filesystems that can be written to by nature, and those that the paths lie on.
func Read(h host.Host, paths ...string) (Table, error) {
	f, err := os.Open(h.Path(Path))
	own := false
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		own = true
		f, err = os.Open(h.Path(pathOwn))
	}
	if err != nil {
		return Table{}, fmt.Errorf("opening the mount table, %w", err)
	}
	defer func() { _ = f.Close() }()
	table, err := parse(f, paths)
	table.OwnOnly = own
	return table, err
}

func parse(r io.Reader, paths []string) (Table, error) {
	var table Table
	tooMany := false
	// What is kept is copied, for the parser's strings hold on to whole lines.
	_, err := mountinfo.GetMountsFromReader(r, func(info *mountinfo.Info) (skip, stop bool) {
		persistent := Persistent(info.FSType, info.Major)
		if !persistent && !coversAny(info.Mountpoint, paths) {
			return true, false
		}
		if len(table.Mounts) >= maxPersistent {
			tooMany = true
			return true, true
		}
		table.Mounts = append(table.Mounts, mountOf(info, persistent))
		return true, false
	})
	if err != nil {
		return Table{}, fmt.Errorf("reading the mount table, %w", err)
	}
	if tooMany {
		return Table{}, fmt.Errorf("reading the mount table, it has more than %d mounts of disks", maxPersistent)
	}
	return table, nil
}

func mountOf(info *mountinfo.Info, persistent bool) Mount {
	m := Mount{
		ID:         info.ID,
		Device:     fmt.Sprintf("%d:%d", info.Major, info.Minor),
		Point:      strings.Clone(info.Mountpoint),
		Type:       strings.Clone(info.FSType),
		Source:     strings.Clone(info.Source),
		Persistent: persistent,
	}
	for option := range strings.SplitSeq(info.Options, ",") {
		m.ReadOnly = m.ReadOnly || option == "ro"
	}
	for option := range strings.SplitSeq(info.VFSOptions, ",") {
		switch option {
		case "ro":
			m.FilesystemReadOnly = true
		case "emergency_ro", "shutdown":
			m.Failed = strings.Clone(option)
		}
	}
	return m
}

// neverWritten are filesystems on block devices that are read-only by nature.
var neverWritten = map[string]bool{
	"squashfs": true, "iso9660": true, "udf": true, "erofs": true, "cramfs": true, "romfs": true,
}

// withoutDevice are filesystems that keep data though mountinfo names no block device of theirs (major 0).
var withoutDevice = map[string]bool{
	"btrfs": true, "zfs": true, "bcachefs": true, "nfs": true, "nfs4": true, "cifs": true, "smb3": true, "ceph": true,
	"lustre": true, "9p": true, "virtiofs": true, "ubifs": true,
}

// Persistent says whether a filesystem keeps data and can be written to by nature. An overlay, tmpfs, proc or any
// other that lives in memory or on top of another is not.
func Persistent(fsType string, major int) bool {
	if neverWritten[fsType] || fsType == "overlay" {
		return false
	}
	return major != 0 || withoutDevice[fsType]
}

// Covers says whether path is at or below point.
func Covers(point, path string) bool {
	if point == "/" || point == path {
		return true
	}
	return strings.HasPrefix(path, point) && path[len(point)] == '/'
}

func coversAny(point string, paths []string) bool {
	for _, path := range paths {
		if Covers(point, path) {
			return true
		}
	}
	return false
}

// Of gives the mount that path lies on; path must have been given to Read. false where none is known.
func (t Table) Of(path string) (Mount, bool) {
	best, found := Mount{}, false
	for _, m := range t.Mounts {
		// Of two at one point the later hides the earlier.
		if Covers(m.Point, path) && (!found || len(m.Point) >= len(best.Point)) {
			best, found = m, true
		}
	}
	return best, found
}
