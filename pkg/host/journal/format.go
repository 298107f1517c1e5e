// Package journal reads the files of systemd's journal, without libsystemd, which images without a C library do not
// have. The format is that of https://systemd.io/JOURNAL_FILE_FORMAT, up to compact files (systemd 252 and later).
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes and places of the format, in bytes from the start of the header or of an object.
const (
	signature = "LPKSHHRH"

	headerRead     = 208 // what every version has
	headerFlags    = 12
	headerState    = 16
	headerFileID   = 24
	headerSeqnumID = 72
	headerArena    = 96
	headerHash     = 104
	headerHashSize = 112
	headerSize     = 88
	headerEntries  = 152
	headerLastSeq  = 160
	headerFirst    = 184
	headerLast     = 192

	objectHeader = 16

	entryFixed   = 64
	arrayFixed   = 24
	dataFixed    = 64
	dataCompact  = 72
	hashItemSize = 16
)

// Flags of files that a reader must know to read them.
const (
	flagXZ      = 1 << 0
	flagLZ4     = 1 << 1
	flagKeyed   = 1 << 2
	flagZstd    = 1 << 3
	flagCompact = 1 << 4
	flagsKnown  = flagXZ | flagLZ4 | flagKeyed | flagZstd | flagCompact
)

// Types of objects.
const (
	objectData  = 1
	objectEntry = 3
	objectArray = 6
)

const stateArchived = 2

// ID is one of the journal's 128-bit numbers: of a boot, a file, a sequence.
type ID [16]byte

// ParseID reads 32 hexadecimal digits, with or without dashes, as boot_id in /proc has it.
func ParseID(text string) (ID, error) {
	var id ID
	digits := 0
	for _, c := range []byte(text) {
		var value byte
		switch {
		case c == '-':
			continue
		case c >= '0' && c <= '9':
			value = c - '0'
		case c >= 'a' && c <= 'f':
			value = c - 'a' + 10
		default:
			return ID{}, fmt.Errorf("reading the ID %.40q, %w", text, errID)
		}
		if digits == 32 {
			return ID{}, fmt.Errorf("reading the ID %.40q, %w", text, errID)
		}
		id[digits/2] = id[digits/2]<<4 | value
		digits++
	}
	if digits != 32 {
		return ID{}, fmt.Errorf("reading the ID %.40q, %w", text, errID)
	}
	return id, nil
}

// String gives 32 hexadecimal digits.
func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

var (
	errID          = errors.New("not 32 hexadecimal digits")
	errCorrupt     = errors.New("corrupt journal file")
	errUnsupported = errors.New("journal file of a version that is not known")
)

// header is what is read of a file's header at each poll.
type header struct {
	flags    uint32
	state    byte
	fileID   ID
	seqnumID ID
	size     uint64 // of header and arena: no object lies beyond
	hash     uint64 // where the hash table of data begins
	buckets  uint64
	entries  uint64
	lastSeq  uint64 // sequence number of the last entry
	first    uint64 // realtime of the first and of the last entry, in microseconds
	last     uint64
}

func (h header) compact() bool { return h.flags&flagCompact != 0 }
func (h header) keyed() bool   { return h.flags&flagKeyed != 0 }

func (h header) dataFixed() uint64 {
	if h.compact() {
		return dataCompact
	}
	return dataFixed
}

// item is the size of one item of an entry array.
func (h header) item() uint64 {
	if h.compact() {
		return 4
	}
	return 8
}

func readHeader(file io.ReaderAt) (header, error) {
	var raw [headerRead]byte
	if _, err := file.ReadAt(raw[:], 0); err != nil {
		return header{}, fmt.Errorf("reading the header, %w", err)
	}
	if string(raw[:8]) != signature {
		return header{}, fmt.Errorf("%w: no signature", errCorrupt)
	}
	h := header{
		flags: le32(raw[headerFlags:]), state: raw[headerState],
		fileID: ID(raw[headerFileID : headerFileID+16]), seqnumID: ID(raw[headerSeqnumID : headerSeqnumID+16]),
		hash: le64(raw[headerHash:]), buckets: le64(raw[headerHashSize:]) / hashItemSize,
		entries: le64(raw[headerEntries:]), lastSeq: le64(raw[headerLastSeq:]),
		first: le64(raw[headerFirst:]), last: le64(raw[headerLast:]),
	}
	if h.flags&^uint32(flagsKnown) != 0 {
		return header{}, fmt.Errorf("%w: flags %#x", errUnsupported, h.flags)
	}
	headerLength, arena := le64(raw[headerSize:]), le64(raw[headerArena:])
	const most = 1 << 48
	if headerLength < headerRead || headerLength > 1<<16 || arena > most || h.buckets > most || h.hash > most {
		return header{}, fmt.Errorf("%w: sizes of the header", errCorrupt)
	}
	h.size = headerLength + arena
	if h.hash+h.buckets*hashItemSize > h.size {
		return header{}, fmt.Errorf("%w: hash table beyond the end", errCorrupt)
	}
	return h, nil
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
