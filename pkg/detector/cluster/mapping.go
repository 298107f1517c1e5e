package cluster

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

//go:embed node-conditions.yaml
var defaultMappings []byte

// validReason is what the API takes for the reason of a finding.
var validReason = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)

const maxReason = 128

// Mapping says which finding a Node condition becomes.
type Mapping struct {
	ConditionType   corev1.NodeConditionType `json:"conditionType"`
	ConditionStatus corev1.ConditionStatus   `json:"conditionStatus"`
	// ReasonPattern is a regular expression that the whole reason of the condition has to match; empty: any.
	ReasonPattern string         `json:"reasonPattern,omitempty"`
	Finding       MappingFinding `json:"finding"`

	pattern *regexp.Regexp
}

// MappingFinding is the finding of a Mapping.
type MappingFinding struct {
	// Reason of the finding; empty: the condition's own reason, or its type where that is no reason for a finding.
	Reason   string            `json:"reason,omitempty"`
	Category v1alpha1.Category `json:"category"`
	Severity v1alpha1.Severity `json:"severity"`
	// Message of the finding; empty: the condition's own.
	Message string `json:"message,omitempty"`
}

// DefaultNodeConditions maps the conditions of the EKS Node Monitoring Agent and of node-problem-detector.
func DefaultNodeConditions() ([]Mapping, error) {
	mappings, err := parseMappings(defaultMappings)
	if err != nil {
		return nil, fmt.Errorf("reading the default node conditions, %w", err)
	}
	return mappings, nil
}

// LoadNodeConditions reads the entries of a YAML file and puts them before the defaults; an empty path gives the
// defaults alone. One bad entry rejects the whole file.
func LoadNodeConditions(path string) ([]Mapping, error) {
	defaults, err := DefaultNodeConditions()
	if err != nil || path == "" {
		return defaults, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading node conditions, %w", err)
	}
	mappings, err := parseMappings(text)
	if err != nil {
		return nil, fmt.Errorf("reading node conditions from %s, %w", path, err)
	}
	return append(mappings, defaults...), nil
}

func parseMappings(text []byte) ([]Mapping, error) {
	var entries []json.RawMessage
	if err := yaml.UnmarshalStrict(text, &entries); err != nil {
		return nil, fmt.Errorf("the file has to be a YAML list of entries that begin with \"- conditionType:\", %w", err)
	}
	mappings := make([]Mapping, 0, len(entries))
	for i, entry := range entries {
		mapping, err := parseMapping(entry)
		if err != nil {
			return nil, fmt.Errorf("entry %d, %w", i+1, err)
		}
		mappings = append(mappings, mapping)
	}
	return mappings, nil
}

func parseMapping(entry []byte) (Mapping, error) {
	var m Mapping
	if err := yaml.UnmarshalStrict(entry, &m); err != nil {
		return Mapping{}, fmt.Errorf("write only conditionType, conditionStatus, reasonPattern and finding with reason, category, severity, message, %w", err)
	}
	if m.ConditionType == "" {
		return Mapping{}, fmt.Errorf("conditionType is missing: write the type of a Node condition, for example KernelDeadlock")
	}
	statuses := []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}
	if !slices.Contains(statuses, m.ConditionStatus) {
		return Mapping{}, fmt.Errorf("conditionStatus %q of %s: write %s, in quotes", m.ConditionStatus, m.ConditionType, listed(statuses))
	}
	if !slices.Contains(health.Categories, m.Finding.Category) {
		return Mapping{}, fmt.Errorf("finding.category %q of %s: write %s", m.Finding.Category, m.ConditionType, listed(health.Categories))
	}
	if severities := []v1alpha1.Severity{v1alpha1.SeverityFatal, v1alpha1.SeverityWarning}; !slices.Contains(severities, m.Finding.Severity) {
		return Mapping{}, fmt.Errorf("finding.severity %q of %s: write %s", m.Finding.Severity, m.ConditionType, listed(severities))
	}
	if m.Finding.Reason != "" && !isReason(m.Finding.Reason) {
		return Mapping{}, fmt.Errorf("finding.reason %q of %s: write a word of letters, digits and _ that begins with a letter, of at most %d characters, or leave it out",
			m.Finding.Reason, m.ConditionType, maxReason)
	}
	if m.ReasonPattern != "" {
		pattern, err := regexp.Compile(`^(?:` + m.ReasonPattern + `)$`)
		if err != nil {
			return Mapping{}, fmt.Errorf("reasonPattern %q of %s is no regular expression (RE2 syntax): correct it, or leave it out for any reason, %w",
				m.ReasonPattern, m.ConditionType, err)
		}
		m.pattern = pattern
	}
	return m, nil
}

// fits says whether the mapping speaks of the condition as it stands.
func (m *Mapping) fits(condition *corev1.NodeCondition) bool {
	return m.ConditionType == condition.Type && m.ConditionStatus == condition.Status &&
		(m.pattern == nil || m.pattern.MatchString(condition.Reason))
}

func isReason(text string) bool { return len(text) <= maxReason && validReason.MatchString(text) }

func listed[T ~string](values []T) string {
	texts := make([]string, 0, len(values))
	for _, value := range values {
		texts = append(texts, string(value))
	}
	return strings.Join(texts[:len(texts)-1], ", ") + " or " + texts[len(texts)-1]
}
