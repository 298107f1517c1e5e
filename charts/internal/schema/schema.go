package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What a comment above a value begins with: the one says what the value is for (as helm-docs reads it), the other, in
// JSON, what it takes beyond the type of its default.
const (
	descriptionMark = "# -- "
	schemaMark      = "# @schema "
)

// Words of a "# @schema" comment that are not JSON schema's.
const (
	// openWord lets a map hold anything: its shape is one of Kubernetes' own types, which the API server checks.
	openWord = "open"
	// typeWord names the type of Go that a program of ours reads the value into: see types.
	typeWord = "go"
)

type object = map[string]any

// generate gives the JSON schema of values.yaml. Maps take the keys of their defaults and no others.
func generate(values []byte) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(values, &document); err != nil {
		return nil, err //nolint:wrapcheck // names the line; the caller names the file
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("there have to be values")
	}
	schema, err := ofMap(document.Content[0], "")
	if err != nil {
		return nil, err
	}
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	// Helm hands these to every chart that is part of another.
	schema["properties"].(object)["global"] = object{"type": "object", "description": "Values that a chart shares with the charts that it consists of."}
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the schema, %w", err)
	}
	return append(text, '\n'), nil
}

// ofMap gives the schema of a map by those of its keys, every one of which has to be described.
func ofMap(at *yaml.Node, path string) (object, error) {
	properties := object{}
	var wrong []error
	for i := 0; i+1 < len(at.Content); i += 2 {
		key, value := at.Content[i], at.Content[i+1]
		property, err := ofValue(key, value, strings.TrimPrefix(path+"."+key.Value, "."))
		wrong = append(wrong, err)
		properties[key.Value] = property
	}
	return object{"type": "object", "properties": properties, "additionalProperties": false}, errors.Join(wrong...)
}

func ofValue(key, value *yaml.Node, path string) (object, error) {
	description, said, err := comment(key.HeadComment)
	if err != nil {
		return nil, fmt.Errorf("line %d: %s: reading its %q, %w", key.Line, path, schemaMark, err)
	}
	if value.Kind == yaml.MappingNode && len(value.Content) > 0 && said == nil {
		schema, err := ofMap(value, path)
		if description != "" {
			schema["description"] = description
		}
		return schema, err
	}
	if strings.Contains(description, " --") {
		return nil, fmt.Errorf("line %d: %s: helm-docs takes \" --\" in a description for its beginning: word it without", key.Line, path)
	}
	if description == "" {
		return nil, fmt.Errorf("line %d: %s: write what it is for, in a comment above it that begins with %q", key.Line, path, descriptionMark)
	}
	schema, err := ofLeaf(value, said)
	if err != nil {
		return nil, fmt.Errorf("line %d: %s: %w", key.Line, path, err)
	}
	schema["description"] = description
	return schema, nil
}

// ofLeaf gives the schema of a value that is documented as a whole.
func ofLeaf(value *yaml.Node, said object) (object, error) {
	schema := object{}
	named, ok := said[typeWord].(string)
	switch {
	case ok:
		t, ok := types[named]
		if !ok {
			return nil, fmt.Errorf("there is no type %q", named)
		}
		var err error
		if schema, err = ofType(t); err != nil {
			return nil, err
		}
	case value.Kind == yaml.MappingNode:
		schema["type"] = "object"
		if said[openWord] == nil && said["additionalProperties"] == nil {
			return nil, fmt.Errorf("write what it may hold: %s{\"additionalProperties\": {\"type\": \"string\"}}, or {%q: true} for anything", schemaMark, openWord)
		}
	case value.Kind == yaml.SequenceNode:
		schema["type"] = "array"
		if said["items"] == nil {
			return nil, fmt.Errorf("write what it may hold: %s{\"items\": {\"type\": \"string\"}}", schemaMark)
		}
	case value.Tag == "!!bool":
		schema["type"] = "boolean"
	case value.Tag == "!!int":
		schema["type"] = "integer"
	case value.Tag == "!!str":
		schema["type"] = "string"
	default:
		return nil, fmt.Errorf("its default %q has no type: write a text, a number, true or false, [] or {}", value.Value)
	}
	for word, value := range said {
		if word != openWord && word != typeWord {
			schema[word] = value
		}
	}
	var byDefault any
	if err := value.Decode(&byDefault); err != nil {
		return nil, fmt.Errorf("reading its default, %w", err)
	}
	schema["default"] = byDefault
	return schema, nil
}

// comment gives the description in a comment, and what its "# @schema" says; nil where it has none.
func comment(text string) (description string, said object, err error) {
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.HasPrefix(line, schemaMark):
			said = object{}
			if err := json.Unmarshal([]byte(strings.TrimPrefix(line, schemaMark)), &said); err != nil {
				return "", nil, err //nolint:wrapcheck // the caller names the place
			}
		case strings.HasPrefix(line, descriptionMark):
			description = strings.TrimPrefix(line, descriptionMark)
		case description != "":
			description += strings.TrimPrefix(line, "#")
		}
	}
	return strings.TrimSpace(description), said, nil
}
