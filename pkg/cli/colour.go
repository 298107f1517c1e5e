package cli

import (
	"regexp"
)

// palette colours words, or leaves them alone where nobody would see it.
type palette struct{ on bool }

// colours says whether to colour: on a terminal, unless NO_COLOR is set (to anything, https://no-color.org) or the
// terminal is dumb.
func (o *Options) colours() palette {
	return palette{on: o.Terminal && o.Getenv("NO_COLOR") == "" && o.Getenv("TERM") != "dumb"}
}

// Colours by what they mean, as terminals number them.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (p palette) paint(colour, text string) string {
	if !p.on || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (p palette) title(text string) string { return p.paint(bold, text) }

func (p palette) line(text string) string { return p.words(text) }

func (p palette) table(text string) string { return p.words(text) }

// meanings are the words that are coloured wherever they stand alone.
var meanings = []struct {
	words  *regexp.Regexp
	colour string
}{
	{regexp.MustCompile(`\b(Fatal|Failed|Unavailable)\b`), red},
	{regexp.MustCompile(`\b(Succeeded)\b`), green},
	{regexp.MustCompile(`\b(Warning|Degraded|Paused|DryRun)\b`), yellow},
}

func (p palette) words(text string) string {
	if !p.on {
		return text
	}
	for _, m := range meanings {
		text = m.words.ReplaceAllStringFunc(text, func(word string) string { return p.paint(m.colour, word) })
	}
	return text
}
