package rules

import (
	"strings"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// MaxRaw is how much of a line is unwrapped, in bytes: structured logs say much around what Match looks at.
const MaxRaw = 64 << 10

// Unwrap takes the framing of its log off a line, and gives what the rules of the stream are for. It knows syslog and
// the journal (short and ISO times, RFC 5424), dmesg, <6> priorities, the CRI's and Docker's container logs, klog in
// text and JSON, logfmt and zap. What has no framing stays as it is. False where the framing names another program, or
// another facility than the kernel, so that the line means nothing in this stream.
//
// Of structured logs it gives the message without quotes, followed by its fields as key="value", without time, level
// and caller: the same for klog's text and JSON, and for logfmt.
func Unwrap(stream health.Stream, line string) (string, bool) {
	line = strings.TrimRight(cut(line, MaxRaw), "\r\n")
	if stream == health.StreamKmsg {
		return unwrapKernel(line)
	}
	rest, kernel := cutPriority(line)
	if kernel {
		return "", false
	}
	if of, text, ok := cutSyslog(rest); ok {
		if streamOf(of) != stream {
			return "", false
		}
		rest = text
	}
	return unstructure(cutContainer(rest)), true
}

// UnwrapMessages takes a line of a syslog file of many programs apart. The program that its header names chooses the
// stream; false where that has no rules.
func UnwrapMessages(line string) (health.Stream, string, bool) {
	line, kernel := cutPriority(strings.TrimRight(cut(line, MaxRaw), "\r\n"))
	of, text, ok := cutSyslog(line)
	stream := streamOf(of)
	switch {
	case !ok || stream == "" || kernel && stream != health.StreamKmsg:
		return "", "", false
	case stream == health.StreamKmsg:
		text, ok = cutDmesg(text)
		return stream, text, ok
	default:
		return stream, unstructure(cutContainer(text)), true
	}
}

// program is who wrote a line of syslog.
type program struct{ tag, pid string }

// streamOf gives the stream that a program writes; empty where it writes none. Of systemd only the manager of the
// system itself counts: users have managers of their own.
func streamOf(p program) health.Stream {
	switch p.tag {
	case "kernel":
		return health.StreamKmsg
	case "kubelet", "hyperkube":
		return health.StreamKubelet
	case "containerd":
		return health.StreamContainerd
	case "systemd":
		if p.pid == "" || p.pid == "1" {
			return health.StreamSystemd
		}
	case "ipamd", "aws-node", "aws-k8s-agent":
		return health.StreamIPAMD
	case "kube-proxy":
		return health.StreamKubeProxy
	}
	return ""
}

func unwrapKernel(line string) (string, bool) {
	rest := line
	if level, after, ok := cutLevel(rest); ok {
		if level>>3 != 0 {
			return "", false
		}
		rest = after
	}
	if of, text, ok := cutSyslog(rest); ok {
		if streamOf(of) != health.StreamKmsg {
			return "", false
		}
		rest = text
	}
	return cutDmesg(rest)
}

// cutPriority takes <30> off; kernel says whether it is the kernel's.
func cutPriority(line string) (rest string, kernel bool) {
	level, rest, ok := cutLevel(line)
	if !ok {
		return line, false
	}
	return rest, level>>3 == 0
}

// cutLevel reads <6>.
func cutLevel(line string) (level int, rest string, ok bool) {
	if len(line) == 0 || line[0] != '<' {
		return 0, line, false
	}
	end := strings.IndexByte(line[:min(len(line), 6)], '>')
	if end < 2 {
		return 0, line, false
	}
	for _, b := range []byte(line[1:end]) {
		if !digit(b) {
			return 0, line, false
		}
		level = 10*level + int(b-'0')
	}
	return level, line[end+1:], true
}

func digit(b byte) bool { return b >= '0' && b <= '9' }

// cutDmesg takes off what dmesg writes before a record: "kern  :info  : ", "[   12.345678] ", a date in the place of the
// seconds, and the caller "[    T1] ".
func cutDmesg(line string) (string, bool) {
	if len(line) > 15 && line[6] == ':' && line[13] == ':' && line[14] == ' ' {
		if facility := strings.TrimRight(line[:6], " "); facility != "kern" && facilities[facility] {
			return "", false
		} else if facility == "kern" {
			line = line[15:]
		}
	}
	if rest, ok := cutISODate(line); ok && strings.IndexByte(line[:len(line)-len(rest)], ',') > 0 {
		return rest, true // dmesg --time-format=iso
	}
	rest, ok := cutBracket(line, dmesgTime)
	if !ok {
		return line, true
	}
	if after, ok := cutBracket(rest, caller); ok {
		rest = after
	}
	return strings.TrimPrefix(rest, " "), true
}

// facilities that dmesg names, other than the kernel's.
var facilities = map[string]bool{
	"user": true, "mail": true, "daemon": true, "auth": true, "syslog": true, "lpr": true, "news": true, "uucp": true,
	"cron": true, "authpr": true, "ftp": true, "res0": true, "res1": true, "res2": true, "res3": true, "local0": true,
	"local1": true, "local2": true, "local3": true, "local4": true, "local5": true, "local6": true, "local7": true,
}

// cutBracket takes "[...]" off, where is says that what stands in it is what is looked for.
func cutBracket(line string, is func(string) bool) (string, bool) {
	if len(line) == 0 || line[0] != '[' {
		return line, false
	}
	end := strings.IndexByte(line[:min(len(line), 34)], ']')
	if end < 0 || !is(strings.TrimSpace(line[1:end])) {
		return line, false
	}
	return line[end+1:], true
}

// dmesgTime reads "12.345678", "+0.000012", "Mon Nov 23 10:00:00 2026" or "Nov23 10:00".
func dmesgTime(s string) bool {
	numbers := strings.TrimLeft(s, "+0123456789.")
	if numbers == "" {
		return strings.IndexByte(s, '.') > 0
	}
	return len(s) > 9 && (weekdays[s[:3]] || months[s[:3]]) && digit(s[len(s)-1])
}

// caller reads T123 (a task) or C1 (a processor).
func caller(s string) bool {
	return len(s) > 1 && (s[0] == 'T' || s[0] == 'C') && strings.Trim(s[1:], "0123456789") == ""
}

var (
	weekdays = map[string]bool{"Mon": true, "Tue": true, "Wed": true, "Thu": true, "Fri": true, "Sat": true, "Sun": true}
	months   = map[string]bool{
		"Jan": true, "Feb": true, "Mar": true, "Apr": true, "May": true, "Jun": true,
		"Jul": true, "Aug": true, "Sep": true, "Oct": true, "Nov": true, "Dec": true,
	}
)

// cutSyslog takes the header of syslog or the journal off: "Nov 23 10:00:00 host program[1]: ", the same with an ISO
// time, or RFC 5424.
func cutSyslog(line string) (program, string, bool) {
	if rest, ok := strings.CutPrefix(line, "1 "); ok {
		return cutRFC5424(rest)
	}
	rest, ok := cutDate(line)
	if !ok {
		if rest, ok = cutISODate(line); !ok {
			return program{}, line, false
		}
	}
	host, rest, ok := strings.Cut(rest, " ")
	if !ok || host == "" {
		return program{}, line, false
	}
	end := strings.IndexByte(rest, ':')
	if end <= 0 || end+1 < len(rest) && rest[end+1] != ' ' || strings.IndexByte(rest[:end], ' ') >= 0 {
		return program{}, line, false
	}
	p := program{tag: rest[:end]}
	if tag, pid, ok := strings.Cut(p.tag, "["); ok {
		p = program{tag: tag, pid: strings.TrimSuffix(pid, "]")}
	}
	return p, strings.TrimPrefix(rest[end+1:], " "), true
}

// cutRFC5424 reads what stands after the version: time, host, program, process, message id, data, message.
func cutRFC5424(line string) (program, string, bool) {
	rest := line
	var fields [5]string
	for i := range fields {
		var ok bool
		if fields[i], rest, ok = strings.Cut(rest, " "); !ok {
			return program{}, line, false
		}
	}
	if _, ok := cutISODate(fields[0] + " "); !ok && fields[0] != "-" {
		return program{}, line, false
	}
	for strings.HasPrefix(rest, "[") {
		end := dataEnd(rest)
		if end < 0 {
			return program{}, line, false
		}
		rest = rest[end+1:]
	}
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "-"), " ")
	return program{tag: fields[2], pid: strings.TrimPrefix(fields[3], "-")}, strings.TrimPrefix(rest, "\uFEFF"), true
}

// dataEnd finds the bracket that closes structured data; in its values a backslash escapes one.
func dataEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ']':
			return i
		}
	}
	return -1
}

// cutDate takes "Nov 23 10:00:00 " off.
func cutDate(line string) (string, bool) {
	const form = "Nov 23 10:00:00 "
	if len(line) < len(form) || line[3] != ' ' || line[6] != ' ' || line[9] != ':' || line[12] != ':' || !months[line[:3]] {
		return line, false
	}
	rest := line[len(form)-1:]
	if rest[0] == '.' { // the journal's short-precise
		rest = strings.TrimLeft(rest[1:], "0123456789")
	}
	return strings.CutPrefix(rest, " ")
}

// cutISODate takes "2026-11-23T10:00:00.123+00:00 " off.
func cutISODate(line string) (string, bool) {
	const form = "2026-11-23T10:00:00"
	if len(line) <= len(form) || !digit(line[0]) || line[4] != '-' || line[7] != '-' || line[10] != 'T' || line[13] != ':' || line[16] != ':' {
		return line, false
	}
	zone, rest, ok := strings.Cut(line[len(form):], " ")
	if !ok || strings.Trim(zone, "0123456789.,:+-Z") != "" {
		return line, false
	}
	return rest, true
}

// cutContainer takes "2026-11-23T10:00:00.123456789Z stderr F " off, which the CRI writes before what a container says.
func cutContainer(line string) string {
	rest, ok := cutISODate(line)
	if !ok {
		return line
	}
	for _, stream := range []string{"stdout ", "stderr "} {
		if after, ok := strings.CutPrefix(rest, stream); ok {
			if tag, text, ok := strings.Cut(after, " "); ok && (tag == "F" || tag == "P") {
				return text
			}
		}
	}
	return line
}
