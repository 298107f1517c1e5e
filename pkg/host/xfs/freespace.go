// Package xfs asks an XFS filesystem how its free space lies.
package xfs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FreeSpace of one filesystem.
type FreeSpace struct {
	// Extents that are free, and the bytes that they have together.
	Extents uint64
	Bytes   uint64
	// BlockSize of the filesystem in bytes, and its size and free space in blocks as statfs has them.
	BlockSize  uint64
	Blocks     uint64
	FreeBlocks uint64
	// Complete is false where there were so many extents that it was enough to know that.
	Complete bool
}

// AverageBlocks is the mean length of the free extents in blocks; of one that is not complete, an upper bound. 0 where
// there are none.
func (f FreeSpace) AverageBlocks() float64 {
	if f.Extents == 0 || f.BlockSize == 0 {
		return 0
	}
	if !f.Complete {
		return float64(f.FreeBlocks) / float64(f.Extents)
	}
	return float64(f.Bytes) / float64(f.BlockSize) / float64(f.Extents)
}

// ErrUnsupported says that the kernel cannot list the free space: Linux before 4.12, or a filesystem other than XFS.
var ErrUnsupported = errors.New("the kernel cannot list the free space")

// The interface is FS_IOC_GETFSMAP of linux/fsmap.h; see ioctl_getfsmap(2).
const (
	getFSMap       = 0xc0c0583b // _IOWR('X', 59, struct fsmap_head)
	specialOwner   = 0x10       // FMR_OF_SPECIAL_OWNER
	lastRecord     = 0x20       // FMR_OF_LAST
	ownerFree      = 1          // FMR_OWN_FREE
	recordsAtOnce  = 1024
	extentsAtLeast = 2 * recordsAtOnce
)

type record struct {
	Device   uint32
	Flags    uint32
	Physical uint64
	Owner    uint64
	Offset   uint64
	Length   uint64
	_        [3]uint64
}

type answer struct {
	InFlags  uint32
	OutFlags uint32
	Count    uint32
	Entries  uint32
	_        [6]uint64
	Keys     [2]record
	Records  [recordsAtOnce]record
}

// Free reads the free extents of the filesystem that path, any readable file or folder, lies on. It stops early once
// there are so many that they must be shorter on average than enough blocks. Without CAP_SYS_ADMIN, which it does not
// need, the kernel answers from the tree of free space alone; with it, and a reverse mapping tree in the filesystem,
// from that tree, which is far longer. most bounds how many records are read; more are an error.
func Free(ctx context.Context, path string, enough uint64, most int) (FreeSpace, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return FreeSpace{}, fmt.Errorf("opening %s, %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var status unix.Stat_t
	if err := unix.Fstat(fd, &status); err != nil {
		return FreeSpace{}, fmt.Errorf("asking for the device of %s, %w", path, err)
	}
	var size unix.Statfs_t
	if err := unix.Fstatfs(fd, &size); err != nil {
		return FreeSpace{}, fmt.Errorf("asking for the size of %s, %w", path, err)
	}
	free := FreeSpace{BlockSize: uint64(size.Bsize), Blocks: size.Blocks, FreeBlocks: size.Bfree}
	err = free.count(ctx, fd, uint32(status.Dev), enough, most)
	if err != nil {
		return FreeSpace{}, fmt.Errorf("listing the free space of %s, %w", path, err)
	}
	return free, nil
}

func (f *FreeSpace) count(ctx context.Context, fd int, device uint32, enough uint64, most int) error {
	a := &answer{Count: recordsAtOnce}
	// A realtime or log device of the filesystem has extents of its own, which are not asked for.
	a.Keys[0].Device = device
	a.Keys[1] = record{Device: device, Flags: ^uint32(0), Physical: ^uint64(0), Owner: ^uint64(0), Offset: ^uint64(0)}
	for read := 0; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := ask(fd, a); err != nil {
			return err
		}
		if a.Entries == 0 {
			f.Complete = true
			return nil
		}
		f.add(a.Records[:min(a.Entries, recordsAtOnce)])
		last := a.Records[min(a.Entries, recordsAtOnce)-1]
		if last.Flags&lastRecord != 0 {
			f.Complete = true
			return nil
		}
		if f.Extents >= extentsAtLeast && f.Extents*enough > f.FreeBlocks {
			return nil
		}
		if read += int(a.Entries); read >= most {
			return fmt.Errorf("it has more than %d extents", most)
		}
		a.Keys[0] = last
	}
}

func (f *FreeSpace) add(records []record) {
	for i := range records {
		if records[i].Flags&specialOwner != 0 && records[i].Owner == ownerFree {
			f.Extents++
			f.Bytes += records[i].Length
		}
	}
}

func ask(fd int, a *answer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getFSMap, uintptr(unsafe.Pointer(a)))
	runtime.KeepAlive(a)
	switch errno {
	case 0:
		return nil
	case unix.ENOTTY, unix.EOPNOTSUPP:
		return ErrUnsupported
	default:
		return errno
	}
}
