package rules

import (
	"regexp/syntax"
	"slices"
	"unicode"
)

// minLiteral is how long a literal must be to sort out ordinary lines, in bytes.
const minLiteral = 3

// literals gives texts of which every match of the pattern holds at least one, in lower case; nil where there are none
// that are long enough. Where beyondASCII is true that holds for lines in ASCII alone.
func literals(pattern string) (texts []string, beyondASCII bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, false
	}
	re = re.Simplify()
	texts = required(re)
	if shortest(texts) < minLiteral {
		return nil, false
	}
	return texts, foldsBeyondASCII(re)
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

// runs gives the longest part of a literal that can be compared in lower case.
func runs(re *syntax.Regexp) []string {
	var best, part []rune
	for _, r := range re.Rune {
		if r > unicode.MaxASCII {
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

// foldsBeyondASCII says whether the pattern has a character, in a place where case does not count, with a form outside
// of ASCII: the Kelvin sign is a k, the long s an s.
func foldsBeyondASCII(re *syntax.Regexp) bool {
	if re.Op == syntax.OpLiteral && re.Flags&syntax.FoldCase != 0 {
		for _, r := range re.Rune {
			for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
				if f > unicode.MaxASCII {
					return true
				}
			}
		}
	}
	return slices.ContainsFunc(re.Sub, foldsBeyondASCII)
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
