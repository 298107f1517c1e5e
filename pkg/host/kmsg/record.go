// Package kmsg reads the log of the kernel: the records of /dev/kmsg, or what the syslog system call gives where the
// device cannot be opened.
package kmsg

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// FacilityKernel is the facility of records that the kernel itself wrote. What programs write into the device has
// another: the kernel does not let them use this one.
const FacilityKernel = 0

// Record is one entry of the kernel's log.
type Record struct {
	// Facility of syslog(3); FacilityKernel is the kernel.
	Facility int
	// Level of syslog(3), from 0 (emergency) to 7 (debug).
	Level int
	// Sequence number since boot, without gaps in the kernel; 0 and HasSequence false where the source has none.
	Sequence    uint64
	HasSequence bool
	// SinceBoot is when it was logged, in microseconds; zero where the source does not say.
	SinceBoot time.Duration
	// Flags as the kernel writes them: "-" for a whole line, "c" and "+" for pieces of one. They are hints only, since
	// pieces of several lines may come mixed; kernels since 5.10 put the pieces together themselves.
	Flags string
	// Caller is the thread ("T1234") or processor ("C3") that logged, on kernels built with CONFIG_PRINTK_CALLER.
	Caller string
	// Text of the record, without control characters, in UTF-8.
	Text string
	// Fields are the dictionary that drivers add, such as SUBSYSTEM and DEVICE.
	Fields []Field
	// At is when it was logged by the clock of the wall, filled in by Reader.
	At time.Time
}

// Field is one entry of a record's dictionary.
type Field struct {
	Key   string
	Value string
}

// maxFields bounds the dictionary; the kernel itself writes two.
const maxFields = 16

var errRecord = errors.New("not a record of the kernel log")

// Parse reads one record as a read of /dev/kmsg gives it:
//
//	6,339,5140900,-,caller=T1;NET: Registered PF_INET protocol family
//	 SUBSYSTEM=net
//
// Fields before the semicolon that it does not know are left out, as the kernel's documentation asks for.
func Parse(record []byte) (Record, error) {
	prefix, rest, found := bytes.Cut(record, []byte{';'})
	if !found {
		return Record{}, fmt.Errorf("%w: no semicolon", errRecord)
	}
	r, err := parsePrefix(string(prefix))
	if err != nil {
		return Record{}, err
	}
	text, dictionary, _ := bytes.Cut(rest, []byte{'\n'})
	r.Text = clean(text)
	r.Fields = parseFields(dictionary)
	return r, nil
}

func parsePrefix(prefix string) (Record, error) {
	priority, rest, _ := strings.Cut(prefix, ",")
	sequence, rest, _ := strings.Cut(rest, ",")
	micros, rest, found := strings.Cut(rest, ",")
	if !found {
		return Record{}, fmt.Errorf("%w: fewer than four fields", errRecord)
	}
	flags, more, _ := strings.Cut(rest, ",")
	p, err := strconv.ParseUint(priority, 10, 31)
	if err != nil {
		return Record{}, fmt.Errorf("%w: priority %.20q", errRecord, priority)
	}
	seq, err := strconv.ParseUint(sequence, 10, 64)
	if err != nil {
		return Record{}, fmt.Errorf("%w: sequence %.30q", errRecord, sequence)
	}
	us, err := strconv.ParseUint(micros, 10, 53) // 285 years, and no overflow in nanoseconds
	if err != nil {
		return Record{}, fmt.Errorf("%w: time %.30q", errRecord, micros)
	}
	r := Record{
		Facility: int(p >> 3), Level: int(p & 7), Sequence: seq, HasSequence: true,
		SinceBoot: time.Duration(us) * time.Microsecond, Flags: flags,
	}
	for more != "" {
		var field string
		field, more, _ = strings.Cut(more, ",")
		if caller, ok := strings.CutPrefix(field, "caller="); ok {
			r.Caller = caller
		}
	}
	return r, nil
}

// parseFields reads the lines after the text; each begins with a space.
func parseFields(dictionary []byte) []Field {
	var fields []Field
	for len(dictionary) > 0 && len(fields) < maxFields {
		var line []byte
		line, dictionary, _ = bytes.Cut(dictionary, []byte{'\n'})
		line, indented := bytes.CutPrefix(line, []byte{' '})
		if !indented {
			continue
		}
		if key, value, ok := bytes.Cut(line, []byte{'='}); ok {
			fields = append(fields, Field{Key: clean(key), Value: clean(value)})
		}
	}
	return fields
}

// clean undoes the kernel's escapes (\x0a, \xc3\xa9) and puts a space in the place of each control character, so that
// nothing that a log line is shown in can be tricked; bytes that are no UTF-8 become U+FFFD.
func clean(text []byte) string {
	if plain(text) {
		return string(text)
	}
	raw := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if b, ok := unescape(text[i:]); ok {
			raw = append(raw, b)
			i += 3
			continue
		}
		raw = append(raw, text[i])
	}
	return strings.Map(printable, strings.ToValidUTF8(string(raw), string(utf8.RuneError)))
}

// plain says that clean would change nothing, which holds for nearly every record.
func plain(text []byte) bool {
	for _, b := range text {
		if b < ' ' || b > '~' || b == '\\' {
			return false
		}
	}
	return true
}

func unescape(text []byte) (byte, bool) {
	if len(text) < 4 || text[0] != '\\' || text[1] != 'x' {
		return 0, false
	}
	high, low := unhex(text[2]), unhex(text[3])
	if high > 15 || low > 15 {
		return 0, false
	}
	return high<<4 | low, true
}

func unhex(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return b - '0'
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10
	}
	return 0xff
}

func printable(r rune) rune {
	if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
		return ' '
	}
	return r
}
