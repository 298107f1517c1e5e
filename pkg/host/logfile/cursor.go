package logfile

import (
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Cursor is a place in a file, with what it takes to know the file again.
type Cursor struct {
	Device uint64 `json:"device,omitempty"`
	Inode  uint64 `json:"inode,omitempty"`
	// Offset of the first line that has not been given.
	Offset int64 `json:"offset,omitempty"`
	// Head is the hash of the first HeadLength bytes (FNV-1a): inode numbers are used again, and truncated files keep
	// theirs.
	Head       uint64 `json:"head,omitempty"`
	HeadLength int    `json:"headLength,omitempty"`
}

// Cursor is where the follower is, at the start of a line.
func (f *Follower) Cursor() Cursor {
	if f.current == nil {
		if f.resume != nil {
			return *f.resume
		}
		return Cursor{}
	}
	of := f.current
	id := identity(of.info)
	return Cursor{
		Device: id.device, Inode: id.inode, Offset: of.offset - int64(len(of.partial)),
		Head: of.head.hash, HeadLength: of.head.length,
	}
}

// headLength is how many bytes tell one file from another; log lines begin with their time.
const headLength = 256

// head is what a file begins with.
type head struct {
	hash   uint64
	length int
	magic  [2]byte
}

// read takes the head anew where the file has grown since.
func (h *head) read(file *os.File) error {
	if h.length == headLength {
		return nil
	}
	text, err := start(file, headLength)
	if err != nil {
		return err
	}
	h.length, h.hash = len(text), hash(text)
	copy(h.magic[:], text)
	return nil
}

// still says whether the file begins as it did.
func (h *head) still(file *os.File) (bool, error) {
	if h.length == 0 {
		return true, nil
	}
	text, err := start(file, h.length)
	return len(text) == h.length && hash(text) == h.hash, err
}

func (h *head) compressed() bool { return h.magic == [2]byte{0x1f, 0x8b} }

func start(file *os.File, length int) ([]byte, error) {
	text := make([]byte, length)
	n, err := file.ReadAt(text, 0)
	if err == io.EOF {
		err = nil
	}
	return text[:n], err
}

func hash(text []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(text) // never fails
	return h.Sum64()
}

// is says whether the cursor is of this file, and still within it.
func (of *file) is(c Cursor) bool {
	id := identity(of.info)
	if id.device != c.Device || id.inode != c.Inode || c.Offset < 0 || c.Offset > of.size {
		return false
	}
	if c.HeadLength < 0 || c.HeadLength > headLength {
		return false
	}
	text, err := start(of.handle, c.HeadLength)
	return err == nil && len(text) == c.HeadLength && (c.HeadLength == 0 || hash(text) == c.Head)
}

// maxSiblings bounds the search for a renamed file.
const maxSiblings = 1000

// findRotated looks beside path for the file that the cursor is of: rotation renames it to path.1, path-20260102 or
// the like.
func findRotated(path string, c Cursor) *file {
	// The path may be a link, as in /var/log/containers; the renamed file lies beside what it points to.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil
	}
	defer func() { _ = folder.Close() }()
	names, _ := folder.Readdirnames(maxSiblings) // what cannot be listed cannot be found
	base := filepath.Base(path)
	stem := strings.TrimSuffix(base, filepath.Ext(base))
	for _, name := range names {
		if name == base || !strings.HasPrefix(name, stem) {
			continue
		}
		sibling := filepath.Join(filepath.Dir(path), name)
		if info, err := os.Stat(sibling); err != nil || identity(info).inode != c.Inode {
			continue
		}
		if of, err := openFile(sibling); err == nil {
			if of.is(c) {
				return of
			}
			of.close()
		}
	}
	return nil
}

type fileID struct{ device, inode uint64 }

func identity(info os.FileInfo) fileID {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return fileID{device: uint64(stat.Dev), inode: stat.Ino}
	}
	return fileID{}
}
