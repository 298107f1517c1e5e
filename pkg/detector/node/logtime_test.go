package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLogTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	zone := time.FixedZone("east", 2*3600)
	for name, tc := range map[string]struct {
		line string
		want time.Time
	}{
		"CRI":            {line: "2026-01-02T11:59:58.123456789Z stderr F text", want: time.Date(2026, 1, 2, 11, 59, 58, 123456789, time.UTC)},
		"ISO syslog":     {line: "2026-01-02T13:59:58+02:00 host kubelet[1]: text", want: time.Date(2026, 1, 2, 11, 59, 58, 0, time.UTC)},
		"logfmt":         {line: `time="2026-01-02T11:59:58Z" level=error msg="text"`, want: time.Date(2026, 1, 2, 11, 59, 58, 0, time.UTC)},
		"zap":            {line: `{"level":"error","ts":"2026-01-02T11:59:58.000Z","msg":"text"}`, want: time.Date(2026, 1, 2, 11, 59, 58, 0, time.UTC)},
		"klog in JSON":   {line: `{"ts":1767355198000.5,"msg":"text"}`, want: time.Date(2026, 1, 2, 11, 59, 58, 500000, time.UTC)},
		"klog":           {line: "E0102 13:59:58.000001    1 kubelet.go:1] text", want: time.Date(2026, 1, 2, 11, 59, 58, 1000, time.UTC)},
		"syslog":         {line: "Jan  2 13:59:58 host kubelet[1]: text", want: time.Date(2026, 1, 2, 11, 59, 58, 0, time.UTC)},
		"of last year":   {line: "Dec 31 23:59:58 host kubelet[1]: text", want: time.Date(2025, 12, 31, 21, 59, 58, 0, time.UTC)},
		"no time":        {line: "panic: runtime error"},
		"half a time":    {line: "Jan  2 13:5"},
		"a wrong time":   {line: `time="yesterday" level=error`},
		"a wrong number": {line: `{"ts":-5,"msg":"text"}`},
	} {
		t.Run(name, func(t *testing.T) {
			at, ok := logTime(tc.line, now, zone)
			require.Equal(t, !tc.want.IsZero(), ok)
			if ok {
				require.True(t, tc.want.Equal(at), "%s", at)
			}
		})
	}
}

func FuzzLogTime(f *testing.F) {
	f.Add("2026-01-02T11:59:58.123456789Z stderr F text")
	f.Add(`{"ts":1767355198000.5,"msg":"text"}`)
	f.Add("E0229 13:59:58.000001    1 kubelet.go:1] text")
	f.Add("Feb 29 13:59:58 host kubelet[1]: text")
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(_ *testing.T, line string) { logTime(line, now, time.UTC) })
}
