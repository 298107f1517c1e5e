package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Ways in which data objects are compressed.
const (
	packedXZ   = 1 << 0
	packedLZ4  = 1 << 1
	packedZstd = 1 << 2
)

// errPacked says that data cannot be unpacked: XZ (systemd before 246 on few systems), or more than is bearable.
var errPacked = errors.New("compressed data that is not read")

// unpacker undoes compression, with its memory bounded and made only where it is needed.
type unpacker struct {
	zstd *zstd.Decoder
}

// unpack gives as much of the start as a message may have.
func (u *unpacker) unpack(packing byte, payload []byte) ([]byte, error) {
	if len(payload) > maxPacked {
		return nil, errPacked
	}
	switch packing {
	case packedZstd:
		return u.unzstd(payload)
	case packedLZ4:
		return unlz4(payload)
	default:
		return nil, errPacked
	}
}

func (u *unpacker) unzstd(payload []byte) ([]byte, error) {
	if u.zstd == nil {
		decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, fmt.Errorf("making a decoder, %w", err)
		}
		u.zstd = decoder
	}
	if err := u.zstd.Reset(bytes.NewReader(payload)); err != nil {
		return nil, fmt.Errorf("unpacking, %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(u.zstd, MaxMessage+64))
	if err != nil {
		return nil, fmt.Errorf("unpacking, %w", err)
	}
	return text, nil
}

// unlz4 unpacks a block, before which systemd writes how long it is unpacked.
func unlz4(payload []byte) ([]byte, error) {
	if len(payload) < 8 || le64(payload) > maxPacked {
		return nil, errPacked
	}
	text := make([]byte, le64(payload))
	n, err := lz4.UncompressBlock(payload[8:], text)
	if err != nil {
		return nil, fmt.Errorf("unpacking, %w", err)
	}
	return text[:n], nil
}

func (u *unpacker) close() {
	if u.zstd != nil {
		u.zstd.Close()
		u.zstd = nil
	}
}
