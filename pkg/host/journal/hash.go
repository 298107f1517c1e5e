package journal

import (
	"encoding/binary"
	"math/bits"

	"github.com/dchest/siphash"
)

// dataHash is the hash by which a file finds its data: SipHash-2-4 with the file's ID as key, or before systemd 246
// Jenkins' lookup3.
func dataHash(h header, data []byte) uint64 {
	if h.keyed() {
		return siphash.Hash(binary.LittleEndian.Uint64(h.fileID[:8]), binary.LittleEndian.Uint64(h.fileID[8:]), data)
	}
	return jenkins(data)
}

// jenkins is hashlittle2 of Bob Jenkins' lookup3 with zero seeds, its first result in the upper half
// (https://burtleburtle.net/bob/c/lookup3.c, public domain).
func jenkins(data []byte) uint64 {
	a := 0xdeadbeef + uint32(len(data))
	b, c := a, a
	for len(data) > 12 {
		a += le32(data)
		b += le32(data[4:])
		c += le32(data[8:])
		a, b, c = mix(a, b, c)
		data = data[12:]
	}
	if len(data) > 0 {
		var last [12]byte
		copy(last[:], data)
		a += le32(last[:])
		b += le32(last[4:])
		c += le32(last[8:])
		b, c = final(a, b, c)
	}
	return uint64(c)<<32 | uint64(b)
}

func mix(a, b, c uint32) (uint32, uint32, uint32) {
	a, c = (a-c)^bits.RotateLeft32(c, 4), c+b
	b, a = (b-a)^bits.RotateLeft32(a, 6), a+c
	c, b = (c-b)^bits.RotateLeft32(b, 8), b+a
	a, c = (a-c)^bits.RotateLeft32(c, 16), c+b
	b, a = (b-a)^bits.RotateLeft32(a, 19), a+c
	c, b = (c-b)^bits.RotateLeft32(b, 4), b+a
	return a, b, c
}

func final(a, b, c uint32) (uint32, uint32) {
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	c = (c ^ b) - bits.RotateLeft32(b, 24)
	return b, c
}
