package rules

import (
	"regexp/syntax"
	"unicode"
)

// minLiteral is how long a literal must be to sort out ordinary lines, in bytes.
const minLiteral = 3

// literals gives texts of which every match of the pattern holds at least one, in lower case; nil where there are none
// that are long enough.
func literals(pattern string) []string {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil
	}
	found := required(re.Simplify())
	if shortest(found) < minLiteral {
		return nil
	}
	return found
}

// required gives the best set of texts one of which every match must hold; nil where none is known.
func required(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return runs(re)
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, sub := range re.Sub {
			if found := required(sub); shortest(found) > shortest(best) {
				best = found
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			found := required(sub)
			if found == nil {
				return nil
			}
			all = append(all, found...)
		}
		return all
	default:
	}
	return nil
}

// runs gives the longest part of a literal that can be compared in lower case. Where case does not count, characters
// with forms outside of ASCII (the Kelvin sign is a k, the long s an s) end a part.
func runs(re *syntax.Regexp) []string {
	var best, part []rune
	for _, r := range re.Rune {
		if r > unicode.MaxASCII || re.Flags&syntax.FoldCase != 0 && foldsBeyondASCII(r) {
			part = nil
			continue
		}
		part = append(part, unicode.ToLower(r))
		if len(part) > len(best) {
			best = part
		}
	}
	if len(best) == 0 {
		return nil
	}
	return []string{string(best)}
}

func foldsBeyondASCII(r rune) bool {
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if f > unicode.MaxASCII {
			return true
		}
	}
	return false
}

func shortest(texts []string) int {
	if len(texts) == 0 {
		return 0
	}
	least := len(texts[0])
	for _, t := range texts[1:] {
		least = min(least, len(t))
	}
	return least
}
