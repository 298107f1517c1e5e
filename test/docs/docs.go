// Package docs reads the documentation as its readers do: files, headings, links and fenced blocks. What it says is
// tried by the tests here, and by those of the packages that it speaks of.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Block is a fenced block of a document.
type Block struct {
	// File is relative to the root of the repository; Line is that of the opening fence.
	File string
	Line int
	// Language as the fence names it, for example yaml. Mark is the HTML comment in the line before, without its signs.
	Language, Mark string
	Text           string
}

// Name says where the block stands.
func (b Block) Name() string { return fmt.Sprintf("%s:%d", b.File, b.Line) }

// folders that hold documents, besides the README in the root.
var folders = []string{"docs", "designs", "charts"}

// Files lists the documents below root, by their paths relative to it.
func Files(root string) ([]string, error) {
	out := []string{"README.md"}
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if !entry.IsDir() && filepath.Ext(path) == ".md" {
				relative, err := filepath.Rel(root, path)
				if err != nil {
					return err //nolint:wrapcheck // below
				}
				out = append(out, relative)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing the documents of %s, %w", folder, err)
		}
	}
	return out, nil
}

var (
	fence = regexp.MustCompile("^\\s*(```+|~~~+)\\s*([A-Za-z0-9_-]*)")
	mark  = regexp.MustCompile(`^<!-- (.*) -->$`)
)

// Blocks gives the fenced blocks of one document.
func Blocks(root, file string) ([]Block, error) {
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return nil, fmt.Errorf("reading a document, %w", err)
	}
	var out []Block
	var open *Block
	var closing, before string
	var lines []string
	for number, line := range strings.Split(string(text), "\n") {
		switch found := fence.FindStringSubmatch(line); {
		case open == nil && found != nil:
			open, closing, lines = &Block{File: file, Line: number + 1, Language: found[2]}, found[1], nil
			if marked := mark.FindStringSubmatch(before); marked != nil {
				open.Mark = marked[1]
			}
		case open != nil && found != nil && strings.HasPrefix(found[1], closing) && found[2] == "":
			open.Text = strings.Join(lines, "\n") + "\n"
			out = append(out, *open)
			open = nil
		case open != nil:
			lines = append(lines, line)
		}
		before = line
	}
	if open != nil {
		return nil, fmt.Errorf("the block of %s has no end", open.Name())
	}
	return out, nil
}

// AllBlocks gives the fenced blocks of every document in a language.
func AllBlocks(root, language string) ([]Block, error) {
	files, err := Files(root)
	if err != nil {
		return nil, err
	}
	var out []Block
	for _, file := range files {
		blocks, err := Blocks(root, file)
		if err != nil {
			return nil, err
		}
		for _, block := range blocks {
			if block.Language == language {
				out = append(out, block)
			}
		}
	}
	return out, nil
}

// prose is a document without its fenced blocks and code spans: what links and headings are looked for in.
func prose(text string) []string {
	var out []string
	closing := ""
	for _, line := range strings.Split(text, "\n") {
		found := fence.FindStringSubmatch(line)
		switch {
		case closing == "" && found != nil:
			closing = found[1]
		case closing != "" && found != nil && strings.HasPrefix(found[1], closing) && found[2] == "":
			closing = ""
		case closing == "":
			out = append(out, line)
		}
	}
	return out
}

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+(?:\([^()\s]*\))?)(?:\s+"[^"]*")?\)`)
	span    = regexp.MustCompile("``.+?``|`[^`]+`")
	heading = regexp.MustCompile(`^#{1,6}\s+(.+?)\s*#*$`)
	linked  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N}\s_-]`)
	entity  = regexp.MustCompile(`&[a-z]+;`)
)

// Links gives the targets of the links in a document's text.
func Links(text string) []string {
	var out []string
	for _, line := range prose(text) {
		for _, found := range link.FindAllStringSubmatch(span.ReplaceAllString(line, ""), -1) {
			out = append(out, found[1])
		}
	}
	return out
}

// Anchors gives the anchors of a document's headings, as GitHub makes them.
func Anchors(text string) []string {
	var out []string
	for _, line := range prose(text) {
		found := heading.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		title := entity.ReplaceAllString(linked.ReplaceAllString(found[1], "$1"), "")
		anchor := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
		base := anchor
		for n := 1; slices.Contains(out, anchor); n++ {
			anchor = fmt.Sprintf("%s-%d", base, n)
		}
		out = append(out, anchor)
	}
	return out
}
