package rules

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// unstructure gives the message and fields of a structured line; any other line stays as it is.
func unstructure(line string) string {
	switch {
	case strings.HasPrefix(line, "{"):
		return fromJSON(line)
	case strings.HasPrefix(line, "time=") || strings.HasPrefix(line, "level=") || strings.HasPrefix(line, "ts="):
		return fromLogfmt(line)
	default:
		return fromKlog(line)
	}
}

// framing are the fields that say nothing of what happened.
var framing = map[string]bool{"ts": true, "time": true, "level": true, "caller": true, "v": true, "logger": true, "stacktrace": true, "severity": true}

// fromKlog reads E1123 10:00:00.000000    1234 file.go:12] "message" key="value".
func fromKlog(line string) string {
	if len(line) < 22 || strings.IndexByte("IWEF", line[0]) < 0 || !digit(line[1]) || !digit(line[4]) || line[5] != ' ' || line[8] != ':' {
		return line
	}
	header, text, ok := strings.Cut(line, "] ")
	if !ok || len(header) > 256 {
		return line
	}
	if quoted, err := strconv.QuotedPrefix(text); err == nil && quoted[0] == '"' {
		if message, err := strconv.Unquote(quoted); err == nil {
			return message + text[len(quoted):]
		}
	}
	return text
}

// fromLogfmt reads time="..." level=error msg="message" error="...".
func fromLogfmt(line string) string {
	message, found := "", false
	var fields strings.Builder
	for rest := line; rest != ""; rest = strings.TrimLeft(rest, " ") {
		key, after, ok := strings.Cut(rest, "=")
		if !ok || strings.ContainsAny(key, ` "`) {
			return line
		}
		value := after
		if quoted, err := strconv.QuotedPrefix(after); err == nil && quoted[0] == '"' {
			value = quoted
		} else if end := strings.IndexByte(after, ' '); end >= 0 {
			value = after[:end]
		}
		rest = after[len(value):]
		switch {
		case key == "msg":
			message, found = unquote(value), true
		case !framing[key]:
			fields.WriteString(" " + key + "=" + value)
		}
	}
	if !found {
		return line
	}
	return message + fields.String()
}

func unquote(s string) string {
	if text, err := strconv.Unquote(s); err == nil {
		return text
	}
	return s
}

// fromJSON reads {"ts":1,"caller":"file.go:12","msg":"message","err":"..."}, as klog, zap and logrus write it, and
// {"log":"...","stream":"stderr"}, in which Docker wraps lines.
func fromJSON(line string) string {
	var object map[string]any
	if json.Unmarshal([]byte(line), &object) != nil {
		return line
	}
	if inner, ok := object["log"].(string); ok && object["stream"] != nil && !strings.HasPrefix(inner, "{") {
		return unstructure(strings.TrimRight(inner, "\n"))
	}
	message, ok := object["msg"].(string)
	if !ok {
		return line
	}
	delete(object, "msg")
	keys := make([]string, 0, len(object))
	for key := range object {
		if !framing[key] && key != "err" {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if _, ok := object["err"]; ok {
		keys = append([]string{"err"}, keys...) // where klog's text has it
	}
	var out strings.Builder
	out.WriteString(message)
	for _, key := range keys {
		out.WriteString(" " + key + "=" + field(object[key]))
	}
	return out.String()
}

// field writes a value as klog's text does: an object of the cluster as "namespace/name".
func field(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(v)
	case map[string]any:
		name, named := v["name"].(string)
		if namespace, ok := v["namespace"].(string); ok && named && len(v) == 2 {
			return strconv.Quote(namespace + "/" + name)
		}
		if named && len(v) == 1 {
			return strconv.Quote(name)
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return strconv.Quote("?")
	}
	return string(text)
}
