package cli

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// narrowest is the width below which wrapping would make a text worse.
const narrowest = 40

// width is that of the terminal, in characters; 0 where standard output is none, or is too narrow to wrap for: then nothing
// is wrapped, so that programs find each sentence on one line.
func (o *Options) width() int {
	file, ok := o.Out.(interface{ Fd() uintptr })
	if !o.Terminal || !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width < narrowest {
		return 0
	}
	return width
}

// wrap breaks a text between words into lines of at most width characters, of which the first begins with first and the
// others with as many spaces as hang. A word that is longer than a line is left whole. A width of 0 breaks nothing.
func wrap(text, first string, hang, width int) []string {
	indent := strings.Repeat(" ", hang)
	if width == 0 || hang >= width-narrowest/2 {
		return []string{strings.TrimRight(first+text, " ")}
	}
	var lines []string
	line, used, empty := first, utf8.RuneCountInString(first), true
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if !empty && used+1+n > width {
			lines = append(lines, line)
			line, used, empty = indent, hang, true
		}
		if !empty {
			line, used = line+" ", used+1
		}
		line, used, empty = line+word, used+n, false
	}
	return append(lines, strings.TrimRight(line, " "))
}

// aligned lays rows out in columns of which the last is wrapped. indent is that of all.
func aligned(rows [][]string, indent, width int) []string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			if i >= len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var lines []string
	for _, row := range rows {
		first := strings.Repeat(" ", indent)
		hang := indent
		for i, cell := range row[:len(row)-1] {
			first += cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			hang += widths[i] + 2
		}
		lines = append(lines, wrap(row[len(row)-1], first, hang, width)...)
	}
	return lines
}
