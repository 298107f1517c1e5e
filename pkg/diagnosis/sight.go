package diagnosis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// sight is a NodeHealth at one moment: which sources can be trusted, and what they find.
type sight struct {
	sources map[string]observer
	// findings of trusted sources, worst first; what other sources said last is left out.
	findings []v1alpha1.Finding
	// lastKnown are the findings of sources that can see no more.
	lastKnown []v1alpha1.Finding
}

type observer struct {
	v1alpha1.Source
	silent bool
	// missing: findings name it, and nothing says that it exists.
	missing bool
}

func (o observer) sees() bool {
	return !o.silent && !o.missing && o.State != v1alpha1.SourceUnavailable
}

// blindness says why the source cannot see.
func (o observer) blindness() string {
	switch {
	case o.missing:
		return fmt.Sprintf("source %s does not say whether it can see", o.Name)
	case o.silent:
		at, _ := health.SilentAt(o.Source)
		return fmt.Sprintf("source %s is silent since %s (last heartbeat %s)", o.Name, stamp(at), stamp(o.LastHeartbeat.Time))
	case o.Message != "":
		return fmt.Sprintf("source %s cannot see: %s", o.Name, o.Message)
	default:
		return fmt.Sprintf("source %s cannot see", o.Name)
	}
}

func look(nodeHealth *v1alpha1.NodeHealth, now time.Time) sight {
	s := sight{sources: map[string]observer{}}
	if nodeHealth == nil {
		return s
	}
	for _, source := range nodeHealth.Sources {
		s.sources[source.Name] = observer{Source: source, silent: health.Silent(source, now)}
	}
	for _, finding := range nodeHealth.Findings {
		source, ok := s.sources[finding.Source]
		if !ok {
			source = observer{Source: v1alpha1.Source{Name: finding.Source}, missing: true}
			s.sources[finding.Source] = source
		}
		if source.sees() {
			s.findings = append(s.findings, finding)
		} else {
			s.lastKnown = append(s.lastKnown, finding)
		}
	}
	slices.SortFunc(s.findings, worstFinding)
	slices.SortFunc(s.lastKnown, worstFinding)
	return s
}

// observers of a category: those that list it, and those that state a finding in it; by name.
func (s sight) observers(category v1alpha1.Category) []observer {
	names := map[string]bool{}
	for name, source := range s.sources {
		if slices.Contains(source.Categories, category) {
			names[name] = true
		}
	}
	for _, findings := range [][]v1alpha1.Finding{s.findings, s.lastKnown} {
		for _, finding := range findings {
			if finding.Category == category {
				names[finding.Source] = true
			}
		}
	}
	out := make([]observer, 0, len(names))
	for name := range names {
		out = append(out, s.sources[name])
	}
	slices.SortFunc(out, func(a, b observer) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// worstFinding orders Fatal before Warning, then the oldest first, then by name, so that the order is the same
// whichever way the findings come.
func worstFinding(a, b v1alpha1.Finding) int {
	return cmp.Or(
		cmp.Compare(severityRank(a.Severity), severityRank(b.Severity)),
		a.Since.Compare(b.Since.Time),
		cmp.Compare(a.Reason, b.Reason),
		cmp.Compare(a.Subject, b.Subject),
		cmp.Compare(a.Source, b.Source),
	)
}

func severityRank(severity v1alpha1.Severity) int {
	if severity == v1alpha1.SeverityFatal {
		return 0
	}
	return 1
}

// Title names a finding in few words, for example "InterfaceNotUp eth0".
func Title(f v1alpha1.Finding) string {
	return strings.TrimSpace(f.Reason + " " + f.Subject)
}

// Describe tells a finding in one line, with its start as an absolute time so that the line changes only when the
// finding does: "InterfaceNotUp eth0 since 2026-01-02T15:04:05Z (Fatal, interfaces): link is down".
func Describe(f v1alpha1.Finding) string {
	line := fmt.Sprintf("%s since %s (%s, %s)", Title(f), stamp(f.Since.Time), f.Severity, f.Source)
	if f.Message != "" {
		line += ": " + strings.TrimRight(f.Message, ".\n ")
	}
	return line
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
