package agent

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
)

// maxFindings of one agent; a NodeHealth holds 256, and the cluster detectors need room too.
const maxFindings = 200

// Board holds the newest report of every source of this agent. Its zero value is not ready; see NewBoard.
type Board struct {
	mu      sync.Mutex
	reports map[string]detector.Report
	changed chan struct{}
}

// NewBoard gives an empty board.
func NewBoard() *Board {
	return &Board{reports: map[string]detector.Report{}, changed: make(chan struct{}, 1)}
}

// Put replaces what a source said before.
func (b *Board) Put(report detector.Report) {
	b.mu.Lock()
	b.reports[report.Source.Name] = report
	b.mu.Unlock()
	b.notify()
}

// Remove takes a source off the board: there is nothing on this node that it could look at.
func (b *Board) Remove(source string) {
	b.mu.Lock()
	delete(b.reports, source)
	b.mu.Unlock()
	b.notify()
}

func (b *Board) notify() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Changed holds a value while something was put since it was last received.
func (b *Board) Changed() <-chan struct{} { return b.changed }

// Read gives all sources by name, and their findings in the order of their keys. Of more than maxFindings the Fatal and
// the oldest are kept, and the sources that lost some are Degraded and say so.
func (b *Board) Read() ([]v1alpha1.Source, []v1alpha1.Finding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sources []v1alpha1.Source
	var findings []v1alpha1.Finding
	for _, report := range b.reports {
		sources = append(sources, report.Source)
		findings = append(findings, report.Findings...)
	}
	slices.SortFunc(sources, func(a, b v1alpha1.Source) int { return cmp.Compare(a.Name, b.Name) })
	if len(findings) > maxFindings {
		findings = bounded(sources, findings)
	}
	slices.SortFunc(findings, func(a, b v1alpha1.Finding) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Subject, b.Subject))
	})
	return sources, findings
}

func bounded(sources []v1alpha1.Source, findings []v1alpha1.Finding) []v1alpha1.Finding {
	slices.SortFunc(findings, func(a, b v1alpha1.Finding) int {
		return cmp.Or(
			cmp.Compare(a.Severity, b.Severity), // Fatal comes before Warning
			a.Since.Compare(b.Since.Time),
			cmp.Compare(a.Source, b.Source), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Subject, b.Subject),
		)
	})
	lost := map[string]int{}
	for _, f := range findings[maxFindings:] {
		lost[f.Source]++
	}
	for i := range sources {
		if n := lost[sources[i].Name]; n > 0 && sources[i].State == v1alpha1.SourceActive {
			sources[i].State = v1alpha1.SourceDegraded
			sources[i].Message = fmt.Sprintf("%d more findings than there is room for", n)
		}
	}
	return findings[:maxFindings]
}
