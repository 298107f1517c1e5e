package journal

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
)

// patched is a file in which some bytes are others, and which may end early.
type patched struct {
	content []byte
	offset  int64
	patch   []byte
}

func (p patched) ReadAt(into []byte, at int64) (int, error) {
	if at < 0 || at >= int64(len(p.content)) {
		return 0, io.EOF
	}
	n := copy(into, p.content[at:])
	for i := range p.patch {
		if place := p.offset + int64(i) - at; place >= 0 && place < int64(n) {
			into[place] = p.patch[i]
		}
	}
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}

// readAll does what a Reader does with one file, and counts the entries.
func readAll(reader io.ReaderAt) int {
	f, err := newFile(reader, both)
	if err != nil {
		return 0
	}
	var u unpacker
	defer u.close()
	for _, c := range f.chains {
		if err := c.refresh(f); err != nil {
			c.broken = true
			continue
		}
		err := c.skip(f, func(at uint64) (bool, error) {
			p, err := f.place(at)
			return p.realtime < uint64(start.Add(10*time.Second).UnixMicro()), err
		})
		c.broken = err != nil
	}
	given := 0
	for at := f.next(); at != 0; at = f.next() {
		if p, err := f.place(at); err == nil {
			if _, err := f.entry(at, p, &u); err == nil {
				given++
			}
		}
	}
	return given
}

func FuzzCorruptFiles(f *testing.F) {
	var files [][]byte
	for _, name := range []string{"compact", "keyed", "jenkins"} {
		content := packed(f, name)
		// What follows the last object is empty; without it each run is faster.
		files = append(files, bytes.TrimRight(content, "\x00"))
	}
	f.Add(uint8(0), uint32(8), []byte{0xff}, uint32(0))
	f.Add(uint8(1), uint32(headerHash), bytes.Repeat([]byte{0xff}, 16), uint32(0))
	f.Add(uint8(2), uint32(headerArena), bytes.Repeat([]byte{0x7f}, 8), uint32(100))
	for at := uint32(3 << 20); at < 3<<20+4096; at += 128 {
		f.Add(uint8(at), at, bytes.Repeat([]byte{1}, 64), uint32(at>>8))
	}
	f.Fuzz(func(t *testing.T, variant uint8, offset uint32, patch []byte, cut uint32) {
		content := files[int(variant)%len(files)]
		content = content[:len(content)-int(cut)%len(content)]
		given := readAll(patched{content: content, offset: int64(offset) % int64(len(content)), patch: patch})
		if given > 1000 {
			t.Fatalf("%d entries of 300", given)
		}
	})
}

// FuzzHeader starts from nothing, so that small files of all shapes are tried.
func FuzzHeader(f *testing.F) {
	f.Add([]byte(signature))
	f.Add(append([]byte(signature), make([]byte, 4096)...))
	f.Fuzz(func(_ *testing.T, content []byte) { readAll(patched{content: content}) })
}

func TestReadAllReadsWholeFiles(t *testing.T) {
	for _, name := range []string{"compact", "keyed", "jenkins"} {
		require.Equal(t, len(matching(written(300)[10:])), readAll(patched{content: packed(t, name)}), name)
	}
}

func TestUnpack(t *testing.T) {
	text := []byte("MESSAGE=" + strings.Repeat("long enough ", 100))
	encoder, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	block := make([]byte, lz4.CompressBlockBound(len(text)))
	n, err := lz4.CompressBlock(text, block, nil)
	require.NoError(t, err)
	length := []byte{byte(len(text)), byte(len(text) >> 8), 0, 0, 0, 0, 0, 0}
	large := encoder.EncodeAll(append([]byte("MESSAGE="), make([]byte, 10<<20)...), nil)
	for name, tc := range map[string]struct {
		packing byte
		payload []byte
		want    []byte
		refused bool
	}{
		"zstd":                     {packing: packedZstd, payload: encoder.EncodeAll(text, nil), want: text},
		"LZ4":                      {packing: packedLZ4, payload: append(length, block[:n]...), want: text},
		"XZ":                       {packing: packedXZ, payload: text, refused: true},
		"LZ4 that claims too much": {packing: packedLZ4, payload: append([]byte{0, 0, 0, 0, 1, 0, 0, 0}, block[:n]...), refused: true},
		"LZ4 without its length":   {packing: packedLZ4, payload: []byte{1}, refused: true},
		"zstd that is none":        {packing: packedZstd, payload: text, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			var u unpacker
			defer u.close()
			got, err := u.unpack(tc.packing, tc.payload)
			if tc.refused {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
	t.Run("a bomb is unpacked as far as a message goes", func(t *testing.T) {
		var u unpacker
		defer u.close()
		got, err := u.unpack(packedZstd, large)
		if err == nil {
			require.LessOrEqual(t, len(got), MaxMessage+64)
		}
	})
}

func TestIDs(t *testing.T) {
	id, err := ParseID("01234567-89ab-cdef-0123-456789abcdef")
	require.NoError(t, err)
	require.Equal(t, machineID, id.String())
	for _, bad := range []string{"", "0123", strings.Repeat("g", 32), machineID + "0"} {
		_, err := ParseID(bad)
		require.ErrorIs(t, err, errID)
	}
}

func TestJenkinsHash(t *testing.T) {
	// From the comments of lookup3.c: hashlittle2 of these with zero seeds.
	require.Equal(t, uint64(0xdeadbeefdeadbeef), jenkins(nil))
	require.Equal(t, uint64(0x17770551ce7226e6), jenkins([]byte("Four score and seven years ago")))
}
