package kmsg

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// parseSyslogLine reads one line as syslog(2) gives it:
//
//	<6>[    5.140900] NET: Registered PF_INET protocol family
//	<6>[    5.140900][    T1] with CONFIG_PRINTK_CALLER
//	<6>without printk.time
func parseSyslogLine(line []byte) (Record, error) {
	rest, found := bytes.CutPrefix(line, []byte{'<'})
	if !found {
		return Record{}, fmt.Errorf("%w: no priority", errRecord)
	}
	priority, rest, found := bytes.Cut(rest, []byte{'>'})
	if !found {
		return Record{}, fmt.Errorf("%w: no end of the priority", errRecord)
	}
	p, err := strconv.ParseUint(string(priority), 10, 31)
	if err != nil {
		return Record{}, fmt.Errorf("%w: priority %.20q", errRecord, priority)
	}
	r := Record{Facility: int(p >> 3), Level: int(p & 7), Flags: "-"}
	if stamp, after, ok := bracketed(rest); ok {
		if sinceBoot, ok := parseStamp(stamp); ok {
			r.SinceBoot, rest = sinceBoot, after
			if caller, after, ok := bracketed(rest); ok && isCaller(caller) {
				r.Caller, rest = string(caller), after
			}
			rest = bytes.TrimPrefix(rest, []byte{' '})
		}
	}
	r.Text = clean(rest)
	return r, nil
}

// bracketed gives what stands in the brackets at the start of text, without the padding.
func bracketed(text []byte) (inside, after []byte, ok bool) {
	if len(text) == 0 || text[0] != '[' {
		return nil, nil, false
	}
	inside, after, ok = bytes.Cut(text[1:], []byte{']'})
	return bytes.TrimLeft(inside, " "), after, ok
}

// parseStamp reads seconds with six decimals: the kernel's own format, so that text in brackets is not taken for it.
func parseStamp(stamp []byte) (time.Duration, bool) {
	seconds, micros, found := bytes.Cut(stamp, []byte{'.'})
	if !found || len(micros) != 6 {
		return 0, false
	}
	s, err := strconv.ParseUint(string(seconds), 10, 33)
	if err != nil {
		return 0, false
	}
	us, err := strconv.ParseUint(string(micros), 10, 20)
	if err != nil {
		return 0, false
	}
	return time.Duration(s)*time.Second + time.Duration(us)*time.Microsecond, true
}

// isCaller tells T1234 and C3 from other text in brackets.
func isCaller(text []byte) bool {
	if len(text) < 2 || (text[0] != 'T' && text[0] != 'C') {
		return false
	}
	for _, b := range text[1:] {
		if b < '0' || b > '9' {
			return false
		}
	}
	return true
}
