package notation_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health/notation"
)

func TestParseConfirm(t *testing.T) {
	for text, want := range map[string]notation.Confirm{
		"0s": {}, "10s": {For: 10 * time.Second}, "1": {Count: 1}, "3 in 10m": {Count: 3, Within: 10 * time.Minute}, "1 in 1h": {Count: 1, Within: time.Hour},
	} {
		got, err := notation.ParseConfirm(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		require.Equal(t, text, got.String())
	}
	polls, err := notation.ParseConfirm("2 polls")
	require.NoError(t, err)
	require.Equal(t, notation.Confirm{Count: 2}, polls)
	for _, text := range []string{"", " ", "often", "-1s", "-3", "3 in", "3 in 0s", "3 in -1m", "3 of 10m", "2 looks", "1 2 3 4", "3 in 10m x"} {
		_, err := notation.ParseConfirm(text)
		require.ErrorContains(t, err, "write a duration, N, N in DURATION, or N polls", text)
	}
}

func TestParseClears(t *testing.T) {
	for text, want := range map[string]notation.Clears{
		"poll": {By: notation.ByPoll}, "boot": {By: notation.ByBoot}, "pair": {By: notation.ByPair},
		"quiet 15m": {By: notation.ByQuiet, Quiet: 15 * time.Minute}, "pair, quiet 2m": {By: notation.ByPair, Quiet: 2 * time.Minute},
	} {
		got, err := notation.ParseClears(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		require.Equal(t, text, got.String())
	}
	for _, text := range []string{"", "soon", "quiet", "quiet soon", "quiet 0s", "quiet -1m", "boot, quiet 2m", "pair, poll"} {
		_, err := notation.ParseClears(text)
		require.Error(t, err, text)
	}
}

func TestAtOnce(t *testing.T) {
	require.True(t, notation.Confirm{}.AtOnce())
	require.True(t, notation.Confirm{Count: 1, Within: time.Minute}.AtOnce())
	require.False(t, notation.Confirm{Count: 2}.AtOnce())
	require.False(t, notation.Confirm{For: time.Second}.AtOnce())
}

func TestTemplate(t *testing.T) {
	pattern := regexp.MustCompile(`(?P<a>\w+)-(?P<b>\w+)?`)
	for text, want := range map[string]string{"": "", "x": "x", "${a}": "one", "x${b}y${a}z": "xtwoyonez", "$a": "$a"} {
		template, err := notation.ParseTemplate(text, pattern)
		require.NoError(t, err)
		require.Equal(t, want, template.Expand("one-two", pattern.FindStringSubmatchIndex("one-two")))
	}
	template, err := notation.ParseTemplate("${b}", pattern)
	require.NoError(t, err)
	require.Empty(t, template.Expand("one-", pattern.FindStringSubmatchIndex("one-")), "a group that took no part")
	for _, text := range []string{"${c}", "${a", "${}", "${1}"} {
		_, err := notation.ParseTemplate(text, pattern)
		require.ErrorContains(t, err, "has no group", text)
	}
}
