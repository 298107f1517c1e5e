package rules

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds in bytes; the API allows 253 and 1024 characters.
const (
	maxSubject = 253
	maxMessage = 512
)

// clean makes text fit to be shown: valid UTF-8, on one line, without characters that a terminal acts upon, and of at
// most limit bytes, the last three of which say when there was more.
func clean(s string, limit int) string {
	s = strings.TrimSpace(cut(s, 4*limit))
	if !plain(s) {
		s = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				return ' '
			}
			return r
		}, strings.ToValidUTF8(s, "\uFFFD"))
		s = strings.TrimSpace(s)
	}
	if len(s) > limit {
		s = cut(s, limit-3) + "..."
	}
	return s
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// cut shortens s to at most limit bytes, never within a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
