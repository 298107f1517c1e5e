package recording

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	yamlnode "go.yaml.in/yaml/v3"
)

// document is one piece of a file.
type document struct {
	line int // of the file, counted from 1, on which it begins
	// lead is how many lines of comments and nothing come before what it says.
	lead int
	text []byte
	json bool
	root *yamlnode.Node // with the lines; read when first asked for
}

// split finds the documents of a file and where they begin. Empty ones are left out.
func split(text []byte) ([]document, error) {
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	if begin := bytes.TrimLeft(text, " \t\r\n"); len(begin) > 0 && begin[0] == '{' {
		if documents, ok := splitJSON(text); ok {
			return documents, nil
		}
	}
	return splitYAML(text)
}

// splitJSON says false where the text is no sequence of JSON values: YAML may begin with { too.
func splitJSON(text []byte) ([]document, bool) {
	var out []document
	decoder := json.NewDecoder(bytes.NewReader(text))
	line, counted := 1, int64(0)
	for {
		value := json.RawMessage{}
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return out, true
		}
		if err != nil || len(out) >= maxDocuments {
			return nil, false
		}
		begin := decoder.InputOffset() - int64(len(value))
		line += bytes.Count(text[counted:begin], []byte("\n"))
		counted = begin
		out = append(out, document{line: line, text: value, json: true})
	}
}

func splitYAML(text []byte) ([]document, error) {
	var out []document
	current := document{line: 1}
	flush := func(next int) {
		if lead, blank := leading(current.text); !blank {
			current.lead = lead
			out = append(out, current)
		}
		current = document{line: next}
	}
	lines := bufio.NewReaderSize(bytes.NewReader(text), 1<<16)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if separates(line) {
			flush(number + 1)
			if len(out) >= maxDocuments {
				return nil, fmt.Errorf("line %d: more than %d documents", number, maxDocuments)
			}
			if rest := bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimRight(line, "\r\n"), []byte("---"))); len(rest) > 0 && rest[0] != '#' {
				current.line, current.text = number, append(rest, '\n')
			}
		} else {
			current.text = append(current.text, line...)
		}
		if err != nil { // the end
			flush(number)
			return out, nil //nolint:nilerr // reading from memory fails in no other way
		}
	}
}

// separates says whether a line ends one document and begins the next, as YAML has it: --- at its very beginning.
func separates(line []byte) bool {
	line = bytes.TrimRight(line, "\r\n")
	return bytes.Equal(line, []byte("---")) || bytes.HasPrefix(line, []byte("--- "))
}

// leading counts the lines of comments and nothing at the beginning; blank says that there is nothing else.
func leading(text []byte) (lines int, blank bool) {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return lines, false
		}
		lines++
	}
	return lines, true
}
