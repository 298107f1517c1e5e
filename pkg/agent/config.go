package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	kjson "sigs.k8s.io/json"
	kyaml "sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/node"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

// Config is what the configuration file says, in one YAML document. An empty file changes nothing.
type Config struct {
	// Reasons and Rules change the catalogue.
	rules.Custom `json:",inline"`
	// Detectors are their settings.
	Detectors node.Options `json:"detectors,omitempty"`

	// Catalogue is made of Reasons and Rules.
	Catalogue *rules.Catalogue `json:"-"`
}

// maxConfig is far more than any configuration needs, in bytes.
const maxConfig = 1 << 20

func readConfigFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration, %w", err)
	}
	if info.Size() > maxConfig {
		return nil, fmt.Errorf("reading the configuration, %s has %d bytes: write %d at most", path, info.Size(), maxConfig)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration, %w", err)
	}
	return text, nil
}

// LoadConfig reads and checks the configuration file; an empty path is an empty file.
func LoadConfig(path string) (Config, error) {
	text, err := readConfigFile(path)
	if err != nil {
		return Config{}, err
	}
	return ParseConfig(text)
}

// ParseConfig reads a configuration as a whole or not at all. The error names every mistake with its line and what to
// write instead.
func ParseConfig(text []byte) (Config, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return Config{}, fmt.Errorf("reading the configuration, %w", err) // yaml names the line
	}
	asJSON, err := kyaml.YAMLToJSONStrict(text)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration, %w", err)
	}
	var config Config
	strict, err := kjson.UnmarshalStrict(asJSON, &config)
	if err != nil {
		return Config{}, wrongType(&document, err)
	}
	var wrong []error
	for _, err := range strict {
		wrong = append(wrong, unknownField(&document, err))
	}
	if config.Catalogue, err = rules.New(config.Custom); err != nil {
		for _, problem := range rules.Problems(err) {
			wrong = append(wrong, fmt.Errorf("line %d: %w", lineOf(&document, problem.Path), problem))
		}
	}
	for _, problem := range config.Detectors.Validate() {
		path := "detectors." + problem.Path
		wrong = append(wrong, fmt.Errorf("line %d: %s: %w", lineOf(&document, path), path, problem.Err))
	}
	if len(wrong) > 0 {
		return Config{}, errors.Join(wrong...)
	}
	return config, nil
}

// wrongType says where a value of the wrong kind stands.
func wrongType(document *yaml.Node, err error) error {
	var mismatch *json.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
		return fmt.Errorf("reading the configuration, %w", err)
	}
	// encoding/json names the fields on the way, the embedded one too, and leaves out keys of maps and places in lists.
	field := strings.TrimPrefix(mismatch.Field, "Custom.")
	line := lineOf(document, field)
	if at := keyWithKind(document, field[strings.LastIndex(field, ".")+1:], mismatch.Value); at != nil {
		line = at.Line
	}
	return fmt.Errorf("line %d: %s: a %s stands where a %s should: for a text write it in quotes", line, field, mismatch.Value, mismatch.Type)
}

// keyWithKind finds the first key of that name whose value is of the kind that encoding/json names.
func keyWithKind(at *yaml.Node, name, kind string) *yaml.Node {
	for i, next := range at.Content {
		if at.Kind == yaml.MappingNode && i%2 == 0 && next.Value == name && kindOf(at.Content[i+1]) == kind {
			return next
		}
		if found := keyWithKind(next, name, kind); found != nil {
			return found
		}
	}
	return nil
}

func kindOf(value *yaml.Node) string {
	switch {
	case value.Kind == yaml.MappingNode:
		return "object"
	case value.Kind == yaml.SequenceNode:
		return "array"
	case value.Tag == "!!int" || value.Tag == "!!float":
		return "number"
	case value.Tag == "!!bool":
		return "bool"
	default:
		return "string"
	}
}

var unknown = regexp.MustCompile(`unknown field "([^"]+)"`)

// unknownField says where a name stands that nobody knows.
func unknownField(document *yaml.Node, err error) error {
	field := unknown.FindStringSubmatch(err.Error())
	if field == nil {
		return err
	}
	return fmt.Errorf("line %d: %s: there is no such setting: see the example of `agent run --help`", lineOf(document, field[1]), field[1])
}

// lineOf finds the line of a path such as rules[2].pattern; of what stands there as far as the path leads.
func lineOf(document *yaml.Node, path string) int {
	at := document
	if len(document.Content) > 0 {
		at = document.Content[0]
	}
	line := max(at.Line, 1)
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		next, nextLine := child(at, part)
		if next == nil {
			break
		}
		at, line = next, nextLine
	}
	return line
}

func child(at *yaml.Node, part string) (*yaml.Node, int) {
	if at.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(at.Content) {
			return at.Content[i], at.Content[i].Line
		}
		return nil, 0
	}
	if at.Kind != yaml.MappingNode {
		return nil, 0
	}
	for i := 0; i+1 < len(at.Content); i += 2 {
		if at.Content[i].Value == part {
			return at.Content[i+1], at.Content[i].Line
		}
	}
	return nil, 0
}
