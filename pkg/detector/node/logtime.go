package node

import (
	"strconv"
	"strings"
	"time"
)

// logTimeSearch is how far into a line its time is looked for, in bytes.
const logTimeSearch = 512

// logTime reads when a line was written, as far as its log says so; zone is that of times without one.
//
//	2026-11-23T10:00:00.123456789Z stderr F ...          CRI, ISO syslog
//	time="2026-11-23T10:00:00.123456789Z" level=error    logfmt
//	{"level":"error","ts":"2026-11-23T10:00:00.000Z"     zap
//	{"ts":1763892000000.123,"caller":                    klog in JSON: milliseconds
//	Nov 23 10:00:00 host kubelet[1]: ...                 syslog
//	E1123 10:00:00.000000    1 kubelet.go:1] ...         klog
func logTime(line string, now time.Time, zone *time.Location) (time.Time, bool) {
	line = line[:min(len(line), logTimeSearch)]
	if word, _, _ := strings.Cut(line, " "); len(word) >= len("2006-01-02T15:04:05") {
		if at, err := time.Parse(time.RFC3339Nano, word); err == nil {
			return at, true
		}
	}
	for _, name := range []string{`time="`, `"ts":"`, `"time":"`} {
		if at, ok := logQuotedTime(line, name); ok {
			return at, true
		}
	}
	if at, ok := logMilliseconds(line); ok {
		return at, true
	}
	if len(line) >= len(time.Stamp) {
		if at, err := time.ParseInLocation(time.Stamp, line[:len(time.Stamp)], zone); err == nil {
			return logYear(at, now, zone), true
		}
	}
	const klog = "0102 15:04:05.000000"
	if len(line) > len(klog) && strings.IndexByte("IWEF", line[0]) >= 0 {
		if at, err := time.ParseInLocation(klog, line[1:1+len(klog)], zone); err == nil {
			return logYear(at, now, zone), true
		}
	}
	return time.Time{}, false
}

func logQuotedTime(line, name string) (time.Time, bool) {
	_, after, found := strings.Cut(line, name)
	if !found {
		return time.Time{}, false
	}
	text, _, found := strings.Cut(after, `"`)
	if !found {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil
}

func logMilliseconds(line string) (time.Time, bool) {
	_, after, found := strings.Cut(line, `"ts":`)
	if !found {
		return time.Time{}, false
	}
	end := strings.IndexAny(after, ",}")
	if end < 0 {
		return time.Time{}, false
	}
	ms, err := strconv.ParseFloat(after[:end], 64)
	if err != nil || !(ms > 0 && ms < 1e14) {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(ms * 1000)), true
}

// logYear finds the year that a time lacks: this one, or the last where that would lie ahead.
func logYear(at, now time.Time, zone *time.Location) time.Time {
	year := now.In(zone).Year()
	of := func(year int) time.Time {
		return time.Date(year, at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), zone)
	}
	if this := of(year); !this.After(now.Add(24 * time.Hour)) {
		return this
	}
	return of(year - 1)
}
