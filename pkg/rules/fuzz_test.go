package rules_test

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

func requireFit(t *testing.T, m rules.Match) {
	t.Helper()
	require.NotEmpty(t, m.Reason)
	require.NotEmpty(t, m.Category)
	require.NotEmpty(t, m.Severity)
	require.LessOrEqual(t, len(m.Reason), 128)
	require.LessOrEqual(t, len(m.Subject), 253)
	require.LessOrEqual(t, len(m.Message), 512)
	for _, text := range []string{m.Reason, m.Subject, m.Message} {
		require.True(t, utf8.ValidString(text), "%q", text)
		require.NotRegexp(t, `[\x00-\x1f\x7f]`, text)
	}
}

func FuzzMatch(f *testing.F) {
	for i, stream := range health.Streams {
		f.Add(uint8(i), "")
		for _, r := range health.LineRules {
			if r.Stream == stream {
				f.Add(uint8(i), r.Sample)
				f.Add(uint8(i), r.CounterSample+"\x00\x1b[31m\xff")
			}
		}
	}
	c, err := rules.New(rules.Custom{})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, stream uint8, line string) {
		m, ok := c.Match(health.Streams[int(stream)%len(health.Streams)], line)
		if ok {
			requireFit(t, m)
		} else {
			require.Equal(t, rules.Match{}, m)
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	for i, stream := range health.Streams {
		for _, r := range health.LineRules {
			if r.Stream != stream {
				continue
			}
			for _, frame := range framings[stream] {
				f.Add(uint8(i), frame(r.Sample))
			}
		}
	}
	f.Add(uint8(0), "<6>1 2026-11-23T10:00:00Z host kernel - - [a b=\"c\\]\"] text")
	f.Add(uint8(1), `{"msg":"a","err":{"b":[1,2]},"pod":{"name":"p","namespace":"n"}}`)
	f.Add(uint8(2), `time="" level=error msg="a`)
	f.Fuzz(func(t *testing.T, stream uint8, line string) {
		of := health.Streams[int(stream)%len(health.Streams)]
		text, ok := rules.Unwrap(of, line)
		require.True(t, ok || text == "")
		require.LessOrEqual(t, len(text), 8*rules.MaxRaw) // JSON may spell a byte in six
		if stream, text, ok := rules.UnwrapMessages(line); ok {
			require.Contains(t, health.Streams, stream)
			require.LessOrEqual(t, len(text), 8*rules.MaxRaw)
		}
	})
}
