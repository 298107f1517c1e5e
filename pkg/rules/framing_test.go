package rules_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

// framings are how logs write a line of a stream, bare or structured.
var framings = map[health.Stream][]func(string) string{
	health.StreamKmsg: {
		func(s string) string { return "[   12.345678] " + s },
		func(s string) string { return "[   12.345678][  T812] " + s },
		func(s string) string { return "<3>" + s },
		func(s string) string { return "kern  :err   : [   12.345678] " + s },
		func(s string) string { return "Nov 23 10:00:00 host kernel: " + s },
		func(s string) string { return "2026-11-23T10:00:00.123456+00:00 host kernel: [   12.345678] " + s },
	},
	health.StreamKubelet:    {framedKlog, framedStructured, framedKlogJSON, inJournal("kubelet[812]", framedStructured)},
	health.StreamKubeProxy:  {framedKlog, framedStructured, framedKlogJSON, inContainer(framedStructured), inContainer(framedKlogJSON)},
	health.StreamContainerd: {framedLogfmt, inJournal("containerd[812]", framedLogfmt)},
	health.StreamSystemd:    {inJournal("systemd[1]", func(s string) string { return s })},
	health.StreamIPAMD:      {framedZap, inContainer(framedZap)},
}

// messageOf gives a line before its first field.
func messageOf(s string) (message, fields string) {
	if i := strings.Index(s, ` error="`); i > 0 {
		return s[:i], s[i:]
	}
	if i := strings.Index(s, ` err="`); i > 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

func framedKlog(s string) string { return "E1123 10:00:00.000000     812 file.go:12] " + s }

func framedStructured(s string) string {
	m, fields := messageOf(s)
	return "E1123 10:00:00.000000     812 file.go:12] " + strconv.Quote(m) + fields
}

func framedKlogJSON(s string) string {
	m, fields := messageOf(s)
	object := map[string]any{"ts": 1.5, "caller": "file.go:12", "v": 0, "msg": m}
	if quoted, ok := strings.CutPrefix(fields, " err="); ok {
		if prefix, err := strconv.QuotedPrefix(quoted); err == nil {
			object["err"], _ = strconv.Unquote(prefix)
		}
	}
	out, _ := json.Marshal(object)
	return string(out)
}

func framedLogfmt(s string) string {
	m, fields := messageOf(s)
	return fmt.Sprintf(`time="2026-11-23T10:00:00.123456789Z" level=error msg=%q%s`, m, fields)
}

func framedZap(s string) string {
	out, _ := json.Marshal(map[string]any{"level": "error", "ts": "2026-11-23T10:00:00.000Z", "caller": "ipamd/ipamd.go:12", "msg": s})
	return string(out)
}

func inJournal(program string, line func(string) string) func(string) string {
	return func(s string) string { return "Nov 23 10:00:00 host " + program + ": " + line(s) }
}

func inContainer(line func(string) string) func(string) string {
	return func(s string) string { return "2026-11-23T10:00:00.123456789Z stderr F " + line(s) }
}

// Whatever log a line comes in, it means the same.
func TestSamplesAreFoundInEveryFraming(t *testing.T) {
	c := catalogue(t, rules.Custom{})
	for _, r := range health.LineRules {
		want, ok := c.Match(r.Stream, r.Sample)
		require.True(t, ok, r.Sample)
		for _, frame := range framings[r.Stream] {
			line := frame(r.Sample)
			text, ok := rules.Unwrap(r.Stream, line)
			require.True(t, ok, line)
			got, ok := c.Match(r.Stream, text)
			require.True(t, ok, "%s\nunwrapped: %s", line, text)
			want.Message, got.Message = "", ""
			require.Equal(t, want, got, line)
		}
	}
}
