package node

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// serviceTextMost bounds what a service says of itself, in bytes, where it becomes evidence.
const serviceTextMost = 256

// serviceText makes one bounded line of what a service says.
func serviceText(text string) string {
	if len(text) > 4*serviceTextMost {
		text = text[:4*serviceTextMost]
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if len(text) <= serviceTextMost {
		return text
	}
	end := serviceTextMost - len("…")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// serviceCursor is the memory of a detector as JSON; its memory holds nothing that cannot be written so.
func serviceCursor(memory any) json.RawMessage {
	text, err := json.Marshal(memory)
	if err != nil {
		return json.RawMessage("{}")
	}
	return text
}
