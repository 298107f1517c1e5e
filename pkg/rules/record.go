package rules

import (
	"errors"
	"strconv"
	"strings"
)

// Record is a record of /dev/kmsg.
type Record struct {
	// Facility that wrote it: 0 is the kernel, anything else a program that wrote to the device.
	Facility int
	// Level from 0 (emergency) to 7 (debug).
	Level    int
	Sequence uint64
	// Microseconds since boot.
	Microseconds int64
	// Text without escapes; it may hold any byte.
	Text string
}

var errRecord = errors.New(`not a record of /dev/kmsg: write PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT, for example "6,339,5140900,-;text"`)

// ParseRecord reads one record as /dev/kmsg gives it: "6,339,5140900,-,caller=T1;text". Lines of it that begin with a
// blank (" SUBSYSTEM=pci") describe the device that the record is of, and are left out.
func ParseRecord(raw string) (Record, error) {
	raw, _, _ = strings.Cut(raw, "\n")
	header, text, ok := strings.Cut(raw, ";")
	if !ok {
		return Record{}, errRecord
	}
	fields := strings.SplitN(header, ",", 5)
	if len(fields) < 4 {
		return Record{}, errRecord
	}
	priority, err := strconv.ParseUint(fields[0], 10, 31)
	if err != nil {
		return Record{}, errRecord
	}
	sequence, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return Record{}, errRecord
	}
	at, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return Record{}, errRecord
	}
	return Record{Facility: int(priority >> 3), Level: int(priority & 7), Sequence: sequence, Microseconds: at, Text: unescape(text)}, nil
}

// unescape reads \x20, in which the kernel writes what is not printable ASCII, and the backslash.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var out strings.Builder
	out.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if b, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				out.WriteByte(byte(b))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
