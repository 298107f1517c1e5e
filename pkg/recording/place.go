package recording

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	yamlnode "go.yaml.in/yaml/v3"
)

// Place is where in the files something stands.
type Place struct {
	File string
	// Document counts from 1; values of JSON count as documents.
	Document int
	// Line counts from 1.
	Line int
}

// String is as compilers write it, so that editors find the place.
func (p Place) String() string { return fmt.Sprintf("%s:%d (document %d)", p.File, p.Line, p.Document) }

// where is a Place of which the line has not been looked for yet: that takes as long as reading the document.
type where struct {
	file     string
	number   int
	document *document
	path     []any // within the document: names of fields, numbers of items
}

// place of the object, or of one of its fields.
func (w where) place(field ...any) Place {
	path := append(append([]any{}, w.path...), field...)
	return Place{File: w.file, Document: w.number, Line: w.document.lineOf(path)}
}

// lineOf gives the line of the file on which the value at the path stands; where there is none, that of what is nearest
// above it.
func (d *document) lineOf(path []any) int {
	if len(path) == 0 {
		return d.line + d.lead
	}
	if d.root == nil {
		d.root = &yamlnode.Node{}
		if err := yamlnode.Unmarshal(d.text, d.root); err != nil || len(d.root.Content) == 0 {
			d.root = &yamlnode.Node{Kind: yamlnode.DocumentNode, Content: []*yamlnode.Node{{Line: 1}}}
		}
	}
	node := d.root.Content[0]
	line := node.Line
	for _, step := range path {
		next, at := child(node, step)
		if next == nil {
			break
		}
		node, line = next, at
	}
	return d.line + line - 1
}

// child gives the value of a field, or the item of a list, and its line.
func child(node *yamlnode.Node, step any) (*yamlnode.Node, int) {
	switch step := step.(type) {
	case string:
		for i := 0; node.Kind == yamlnode.MappingNode && i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i+1], node.Content[i].Line
			}
		}
	case int:
		if node.Kind == yamlnode.SequenceNode && step >= 0 && step < len(node.Content) {
			return node.Content[step], node.Content[step].Line
		}
	}
	return nil, 0
}

// fieldPath takes a path as "spec.rules[0].match" or "metadata.annotations[a.b/c]" apart.
func fieldPath(path string) []any {
	var out []any
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			inner, rest, _ := strings.Cut(path[1:], "]")
			if n, err := strconv.Atoi(inner); err == nil {
				out = append(out, n)
			} else {
				out = append(out, inner)
			}
			path = rest
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			out = append(out, path[:end])
			path = path[end:]
		}
	}
	return out
}

// yamlLine is how the YAML libraries say where: "yaml: line 3: ...", "line 3: ...".
var yamlLine = regexp.MustCompile(`\bline (\d+): `)

// locate takes the line out of an error of the YAML library, and gives it as a line of the file.
func locate(d document, err error) (int, error) {
	message := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	found := yamlLine.FindStringSubmatchIndex(message)
	if found == nil {
		return d.line + d.lead, errors.New(message)
	}
	n, err := strconv.Atoi(message[found[2]:found[3]])
	if err != nil {
		return d.line + d.lead, errors.New(message)
	}
	return d.line + n - 1, errors.New(message[:found[0]] + message[found[1]:])
}
