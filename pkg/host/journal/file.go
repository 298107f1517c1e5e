package journal

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Bounds of what is taken of one entry.
const (
	// MaxMessage is how many bytes of a message are given.
	MaxMessage = 64 << 10
	// maxField bounds the other fields.
	maxField = 256
	// maxPacked bounds compressed data, packed and (for LZ4, which must be unpacked whole) unpacked.
	maxPacked = 1 << 20
	// maxCached bounds the small data objects that are remembered, since entries share most of them.
	maxCached = 1024
)

// file is one journal file.
type file struct {
	reader  io.ReaderAt
	header  header
	chains  []*chain
	seen    uint64 // entries of the file at the last poll
	started bool
	fields  map[uint64]field
	scratch [dataCompact + maxField]byte
	items   []byte
}

// field is a data object that has been read.
type field struct {
	kind  fieldKind
	value string
}

type fieldKind byte

const (
	fieldOther fieldKind = iota
	fieldMessage
	fieldPriority
	fieldUnit
	fieldIdentifier
	fieldAbout
)

// kinds of the fields that are read, with what stands before their values.
var kinds = []struct {
	prefix []byte
	kind   fieldKind
}{
	{[]byte("MESSAGE="), fieldMessage},
	{[]byte("PRIORITY="), fieldPriority},
	{[]byte("_SYSTEMD_UNIT="), fieldUnit},
	{[]byte("SYSLOG_IDENTIFIER="), fieldIdentifier},
	{[]byte("UNIT="), fieldAbout},
}

func newFile(reader io.ReaderAt, matches []Match) (*file, error) {
	h, err := readHeader(reader)
	if err != nil {
		return nil, err
	}
	f := &file{reader: reader, header: h, fields: map[uint64]field{}}
	for _, m := range matches {
		f.chains = append(f.chains, &chain{match: []byte(m.Field + "=" + m.Value)})
	}
	return f, nil
}

// refresh reads the header anew, and says whether entries have been added since.
func (f *file) refresh() (grown bool, err error) {
	h, err := readHeader(f.reader)
	if err != nil {
		return false, err
	}
	if h.fileID != f.header.fileID || h.flags != f.header.flags {
		return false, fmt.Errorf("%w: another header", errCorrupt)
	}
	f.header = h
	return h.entries != f.seen, nil
}

// object reads the start of an object into scratch, valid until the next read, and checks what it can be checked for.
func (f *file) object(at uint64, kind byte, length uint64) ([]byte, error) {
	if at%8 != 0 || at == 0 || at > f.header.size || length > f.header.size-at {
		return nil, fmt.Errorf("%w: object at %#x", errCorrupt, at)
	}
	raw := f.scratch[:length]
	if _, err := f.reader.ReadAt(raw, int64(at)); err != nil {
		return nil, fmt.Errorf("reading an object, %w", err)
	}
	size := le64(raw[8:])
	if raw[0] != kind || size < length || size > f.header.size-at {
		return nil, fmt.Errorf("%w: object at %#x of type %d, %d bytes", errCorrupt, at, raw[0], size)
	}
	return raw, nil
}

// arrayItem reads the offset of an entry out of an array that has been entered.
func (f *file) arrayItem(array, index uint64) (uint64, error) {
	width := f.header.item()
	var raw [8]byte
	if _, err := f.reader.ReadAt(raw[:width], int64(array+arrayFixed+index*width)); err != nil {
		return 0, fmt.Errorf("reading an entry array, %w", err)
	}
	return le64(raw[:]), nil
}

// place is where an entry is in time and in the order of its journal.
type place struct {
	seqnum    uint64
	realtime  uint64
	monotonic uint64
	boot      ID
	size      uint64
}

func (f *file) place(at uint64) (place, error) {
	raw, err := f.object(at, objectEntry, entryFixed)
	if err != nil {
		return place{}, err
	}
	return place{
		seqnum: le64(raw[16:]), realtime: le64(raw[24:]), monotonic: le64(raw[32:]),
		boot: ID(raw[40:56]), size: le64(raw[8:]),
	}, nil
}

// next gives the offset of the next entry of any chain, in the order of the file; 0: no more for now. Entries that
// several chains have come once.
func (f *file) next() uint64 {
	best := uint64(0)
	for _, c := range f.chains {
		head, err := c.peek(f)
		if err != nil {
			c.broken = true
			continue
		}
		if head != 0 && (best == 0 || head < best) {
			best = head
		}
	}
	for _, c := range f.chains {
		if best != 0 && c.head == best {
			c.advance()
		}
	}
	return best
}

// entry reads the fields of an entry.
func (f *file) entry(at uint64, p place, u *unpacker) (Entry, error) {
	e := Entry{
		Seqnum: p.seqnum, SeqnumID: f.header.seqnumID, BootID: p.boot, Priority: -1,
		Realtime: time.UnixMicro(int64(min(p.realtime, 1<<52))), Monotonic: time.Duration(min(p.monotonic, 1<<52)) * time.Microsecond,
	}
	width := uint64(16)
	if f.header.compact() {
		width = 4
	}
	length := min(p.size-entryFixed, maxItems*width) / width * width
	if uint64(cap(f.items)) < length {
		f.items = make([]byte, length)
	}
	items := f.items[:length]
	if _, err := f.reader.ReadAt(items, int64(at+entryFixed)); err != nil {
		return Entry{}, fmt.Errorf("reading an entry, %w", err)
	}
	for ; len(items) > 0; items = items[width:] {
		data := uint64(le32(items))
		if width == 16 {
			data = le64(items)
		}
		if data == 0 {
			continue
		}
		if err := f.addField(&e, data, u); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}

func (f *file) addField(e *Entry, at uint64, u *unpacker) error {
	known, ok := f.fields[at]
	if !ok {
		var err error
		if known, err = f.readField(at, u); err != nil {
			return err
		}
		if known.kind != fieldMessage {
			if len(f.fields) >= maxCached {
				clear(f.fields)
			}
			f.fields[at] = known
		}
	}
	switch known.kind {
	case fieldMessage:
		e.Message = known.value
	case fieldPriority:
		if level, err := strconv.ParseUint(known.value, 10, 3); err == nil {
			e.Priority = int(level)
		}
	case fieldUnit:
		e.Unit = known.value
	case fieldIdentifier:
		e.Identifier = known.value
	case fieldAbout:
		e.AboutUnit = known.value
	case fieldOther:
	}
	return nil
}

// readField reads a data object as far as it is of use.
func (f *file) readField(at uint64, u *unpacker) (field, error) {
	fixed := f.header.dataFixed()
	raw, err := f.object(at, objectData, fixed)
	if err != nil {
		return field{}, err
	}
	size, packing := le64(raw[8:])-fixed, raw[1]
	if packing != 0 {
		payload := make([]byte, min(size, maxPacked+1))
		if _, err := f.reader.ReadAt(payload, int64(at+fixed)); err != nil {
			return field{}, fmt.Errorf("reading compressed data, %w", err)
		}
		text, err := u.unpack(packing, payload)
		return fieldOf(text), err
	}
	start := f.scratch[:min(size, maxField)]
	if _, err := f.reader.ReadAt(start, int64(at+fixed)); err != nil {
		return field{}, fmt.Errorf("reading data, %w", err)
	}
	if size > maxField && bytes.HasPrefix(start, kinds[0].prefix) {
		start = make([]byte, min(size, MaxMessage+uint64(len(kinds[0].prefix))))
		if _, err := f.reader.ReadAt(start, int64(at+fixed)); err != nil {
			return field{}, fmt.Errorf("reading a message, %w", err)
		}
	}
	return fieldOf(start), nil
}

func fieldOf(text []byte) field {
	for _, k := range kinds {
		if value, found := bytes.CutPrefix(text, k.prefix); found {
			if k.kind != fieldMessage {
				value = value[:min(len(value), maxField)]
			}
			return field{kind: k.kind, value: string(value[:min(len(value), MaxMessage)])}
		}
	}
	return field{}
}
