package rules

import (
	"slices"
	"unicode"
)

// matcher finds the rules that a line may match, by an automaton (Aho and Corasick) that reads the line once, whatever
// the number of rules: each byte costs one step in a table. Case does not count in it; the pattern has the last word.
type matcher struct {
	rules []*rule
	// always are the rules without a literal, which every line must be tried against.
	always []int32
	// beyondASCII are the rules that every line must be tried against that is not in ASCII.
	beyondASCII []int32
	// class of a byte: 0 for those that no literal holds, upper and lower case alike.
	class   [256]uint8
	classes int
	// next state, by state and class.
	next []uint16
	// hits are the rules whose literal ends in a state; empty in most.
	hits [][]int32
}

// maxStates of the automaton, about as many as the bytes of all literals; what goes beyond is tried against every line.
const maxStates = 1 << 15

func newMatcher(rules []*rule) *matcher {
	m := &matcher{rules: rules, classes: 1}
	texts := make([][]string, len(rules))
	states := 1
	for i, r := range rules {
		var beyondASCII bool
		texts[i], beyondASCII = literals(r.Pattern)
		if beyondASCII {
			m.beyondASCII = append(m.beyondASCII, int32(i))
		}
		size := 0
		for _, t := range texts[i] {
			size += len(t)
		}
		if size == 0 || states+size > maxStates {
			texts[i], m.always = nil, append(m.always, int32(i))
			continue
		}
		states += size
		for _, t := range texts[i] {
			m.addClasses(t)
		}
	}
	m.build(texts)
	return m
}

func (m *matcher) addClasses(text string) {
	for i := range len(text) {
		b := text[i]
		if m.class[b] != 0 {
			continue
		}
		m.class[b] = uint8(m.classes)
		if b >= 'a' && b <= 'z' {
			m.class[b-'a'+'A'] = m.class[b]
		}
		m.classes++
	}
}

// build makes the trie of all texts, and then, in order of depth, sends each step that a state lacks to where its
// longest proper suffix goes.
func (m *matcher) build(texts [][]string) {
	m.grow()
	for i, of := range texts {
		for _, t := range of {
			m.insert(t, int32(i))
		}
	}
	suffix := make([]uint16, len(m.hits))
	queue := []uint16{0}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		for class := range m.classes {
			step := &m.next[int(state)*m.classes+class]
			fallback := uint16(0)
			if state != 0 {
				fallback = m.next[int(suffix[state])*m.classes+class]
			}
			if *step == 0 {
				*step = fallback
				continue
			}
			suffix[*step] = fallback
			m.hits[*step] = append(m.hits[*step], m.hits[fallback]...)
			queue = append(queue, *step)
		}
	}
}

func (m *matcher) grow() {
	m.next = append(m.next, make([]uint16, m.classes)...)
	m.hits = append(m.hits, nil)
}

func (m *matcher) insert(text string, rule int32) {
	state := 0
	for i := range len(text) {
		step := state*m.classes + int(m.class[text[i]])
		if m.next[step] == 0 {
			m.next[step] = uint16(len(m.hits))
			m.grow()
		}
		state = int(m.next[step])
	}
	m.hits[state] = append(m.hits[state], rule)
}

// candidates appends the rules that the line may match, in order and each once.
func (m *matcher) candidates(line string, into []int32) []int32 {
	into = append(into, m.always...)
	state, bytes := 0, byte(0)
	for i := range len(line) {
		bytes |= line[i]
		state = int(m.next[state*m.classes+int(m.class[line[i]])])
		if len(m.hits[state]) > 0 {
			into = append(into, m.hits[state]...)
		}
	}
	if bytes > unicode.MaxASCII {
		into = append(into, m.beyondASCII...)
	}
	if len(into) > 1 {
		slices.Sort(into)
		into = slices.Compact(into)
	}
	return into
}
