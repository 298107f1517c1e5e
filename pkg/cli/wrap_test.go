package cli

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWrap(t *testing.T) {
	for name, test := range map[string]struct {
		text, first string
		hang, width int
		want        []string
	}{
		"what fits stays":                {text: "a b c", first: "- ", hang: 2, width: 60, want: []string{"- a b c"}},
		"without a width nothing breaks": {text: strings.Repeat("word ", 60), want: []string{strings.TrimSpace(strings.Repeat("word ", 60))}},
		"what does not fit goes on below": {
			text: "one two three four five six seven eight nine ten", first: "  why  ", hang: 7, width: 40,
			want: []string{"  why  one two three four five six seven", "       eight nine ten"},
		},
		"a word that is too long stays whole": {
			text: "a " + strings.Repeat("x", 60) + " b", width: 40, want: []string{"a", strings.Repeat("x", 60), "b"},
		},
		"too narrow to wrap": {text: "a b c d e f", first: strings.Repeat(" ", 30), hang: 30, width: 40, want: []string{strings.Repeat(" ", 30) + "a b c d e f"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, wrap(test.text, test.first, test.hang, test.width))
		})
	}
}

func TestWrapLosesNoWordAndKeepsToTheWidth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.StringMatching(`[a-zäß]{1,12}`)).Draw(t, "words")
		width := rapid.IntRange(narrowest, 100).Draw(t, "width")
		lines := wrap(strings.Join(words, " "), "", 4, width)
		if got := strings.Fields(strings.Join(lines, " ")); len(got) != len(words) || strings.Join(got, " ") != strings.Join(words, " ") {
			t.Fatalf("words are lost: %q", lines)
		}
		for _, line := range lines {
			if utf8.RuneCountInString(line) > width {
				t.Fatalf("%q is longer than %d", line, width)
			}
		}
	})
}

// What is explained on a narrow terminal keeps to it, but for tables and words that are longer.
func TestExplainKeepsToTheWidth(t *testing.T) {
	w := newWorld(withKarpenter(storm())...)
	p, err := w.look(t.Context(), &source{})
	require.NoError(t, err)
	e, err := p.explain(t.Context(), "ip-10-0-0-2")
	require.NoError(t, err)
	var text strings.Builder
	for _, section := range (explanationView{Explanation: e, width: 80}).Sections(true) {
		for _, line := range section.Lines {
			text.WriteString(line + "\n")
			if utf8.RuneCountInString(line) > 80 {
				require.LessOrEqual(t, len(strings.Fields(line)), 6, "%q could be broken", line)
			}
		}
	}
	requireGolden(t, "explain/narrow.table", text.String())
}
