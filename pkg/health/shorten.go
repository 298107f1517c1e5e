package health

import (
	"strings"
	"unicode/utf8"
)

// MaxMessage is the longest message that a NodeHealth takes of a finding or a source, in characters.
const MaxMessage = 1024

// Shorten keeps text of any origin within a number of characters, as the API counts them; what is cut ends in "…".
// Bytes that are no UTF-8 are dropped, since the API takes none. It takes any text and a number from 1.
func Shorten(text string, characters int) string {
	text = strings.ToValidUTF8(text, "")
	if len(text) <= characters || utf8.RuneCountInString(text) <= characters {
		return text
	}
	return string([]rune(text)[:characters-1]) + "…"
}
