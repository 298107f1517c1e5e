package health

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShorten(t *testing.T) {
	for sentence, row := range map[string]struct {
		text       string
		characters int
		want       string
	}{
		"what fits stays":                      {"eth1", 4, "eth1"},
		"what does not fit says so":            {"eth10", 4, "eth…"},
		"characters are counted, not bytes":    {"äöüß", 4, "äöüß"},
		"a character is never cut in two":      {"äöüßa", 4, "äöü…"},
		"bytes that are no UTF-8 are dropped":  {"a\xffb", 4, "ab"},
		"nothing stays nothing":                {"", 1, ""},
		"one character is the mark of cutting": {"ab", 1, "…"},
	} {
		t.Run(sentence, func(t *testing.T) { require.Equal(t, row.want, Shorten(row.text, row.characters)) })
	}
}
