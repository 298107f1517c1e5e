package journal

import (
	"bytes"
	"fmt"
)

// Bounds of what a corrupt file can make a reader do; whole files stay far below them.
const (
	maxHashChain = 10_000
	maxArrays    = 10_000
	maxItems     = 1024 // fields of an entry, systemd's own limit
)

// chain is the list of the entries that have one field with one value, in order. systemd keeps one for each, which is
// what makes reading the lines of one unit out of a busy journal cheap.
type chain struct {
	match []byte // FIELD=value
	data  uint64 // where its data object is; 0: the file does not have it, or not yet
	count uint64 // entries in the list
	taken uint64

	array    uint64 // the array in which the next entry is, once more than one has been taken
	base     uint64 // entries before that array
	capacity uint64

	head   uint64 // the next entry, once looked up
	broken bool
}

// refresh sees whether the list has grown.
func (c *chain) refresh(f *file) error {
	if c.broken {
		return nil
	}
	if c.data == 0 {
		found, err := f.findData(c.match)
		if err != nil || found == 0 {
			return err
		}
		c.data = found
	}
	raw, err := f.object(c.data, objectData, dataFixed)
	if err != nil {
		return err
	}
	c.count = le64(raw[56:])
	return nil
}

// peek gives the offset of the next entry; 0: there is none for now.
func (c *chain) peek(f *file) (uint64, error) {
	if c.head != 0 || c.broken || c.data == 0 || c.taken >= c.count {
		return c.head, nil
	}
	raw, err := f.object(c.data, objectData, dataFixed)
	if err != nil {
		return 0, err
	}
	if c.taken == 0 {
		c.head = le64(raw[40:])
		return c.head, nil
	}
	if c.array == 0 {
		if err := c.enter(f, le64(raw[48:])); err != nil {
			return 0, err
		}
		c.base = 1 // the first entry stands in the data object itself
	}
	for c.taken-c.base >= c.capacity {
		full := c.capacity
		if err := c.nextArray(f); err != nil {
			return 0, err
		}
		c.base += full
	}
	c.head, err = f.arrayItem(c.array, c.taken-c.base)
	return c.head, err
}

func (c *chain) advance() {
	c.taken++
	c.head = 0
}

// enter goes to an array; arrays only ever follow later in the file, so that no chain of them can be endless.
func (c *chain) enter(f *file, array uint64) error {
	if array <= c.array {
		return fmt.Errorf("%w: entry array %#x after %#x", errCorrupt, array, c.array)
	}
	raw, err := f.object(array, objectArray, arrayFixed)
	if err != nil {
		return err
	}
	c.array, c.capacity = array, (le64(raw[8:])-arrayFixed)/f.header.item()
	if c.capacity == 0 {
		return fmt.Errorf("%w: empty entry array", errCorrupt)
	}
	return nil
}

func (c *chain) nextArray(f *file) error {
	raw, err := f.object(c.array, objectArray, arrayFixed)
	if err != nil {
		return err
	}
	return c.enter(f, le64(raw[16:]))
}

// skip goes past the entries that are old; those come before all others.
func (c *chain) skip(f *file, old func(entry uint64) (bool, error)) error {
	for range maxArrays {
		head, err := c.peek(f)
		if err != nil || head == 0 {
			return err
		}
		isOld, err := old(head)
		if err != nil || !isOld {
			return err
		}
		if c.taken == 0 {
			c.advance()
			continue
		}
		// The last entry of the array that is in use tells whether the whole of it is old.
		length := min(c.capacity, c.count-c.base)
		last, err := f.arrayItem(c.array, length-1)
		if err != nil {
			return err
		}
		if isOld, err = old(last); err != nil {
			return err
		}
		if !isOld {
			return c.skipWithin(f, length, old)
		}
		c.taken, c.head = c.base+length, 0
	}
	return fmt.Errorf("%w: too many entry arrays", errCorrupt)
}

// skipWithin searches the array by halves: what is at low is old, what is at high is not.
func (c *chain) skipWithin(f *file, length uint64, old func(uint64) (bool, error)) error {
	low, high := c.taken-c.base, length-1
	for low+1 < high {
		middle := (low + high) / 2
		entry, err := f.arrayItem(c.array, middle)
		if err != nil {
			return err
		}
		isOld, err := old(entry)
		if err != nil {
			return err
		}
		if isOld {
			low = middle
		} else {
			high = middle
		}
	}
	c.taken, c.head = c.base+high, 0
	return nil
}

// findData looks a data object up in the hash table of the file.
func (f *file) findData(match []byte) (uint64, error) {
	if f.header.buckets == 0 {
		return 0, nil
	}
	hash := dataHash(f.header, match)
	var raw [8]byte
	if _, err := f.reader.ReadAt(raw[:], int64(f.header.hash+hash%f.header.buckets*hashItemSize)); err != nil {
		return 0, fmt.Errorf("reading the hash table, %w", err)
	}
	before := uint64(0)
	for at, steps := le64(raw[:]), 0; at != 0; steps++ {
		if at <= before || steps > maxHashChain {
			return 0, fmt.Errorf("%w: loop in the hash table", errCorrupt)
		}
		object, err := f.object(at, objectData, dataFixed)
		if err != nil {
			return 0, err
		}
		before = at
		next, size, same := le64(object[24:]), le64(object[8:]), le64(object[16:]) == hash
		if same && size == f.header.dataFixed()+uint64(len(match)) {
			payload := make([]byte, len(match))
			if _, err := f.reader.ReadAt(payload, int64(at+f.header.dataFixed())); err != nil {
				return 0, fmt.Errorf("reading data, %w", err)
			}
			if bytes.Equal(payload, match) {
				return at, nil
			}
		}
		at = next
	}
	return 0, nil
}
