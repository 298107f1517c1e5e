package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
)

// FlipsAnnotation on a NodeHealth holds the times at which the Node turned Ready or stopped being it, so that a
// restart of the controller does not forget them.
const FlipsAnnotation = v1alpha1.Group + "/ready-flips"

// ReasonNodeReadinessFlapping is the reason of the source node-readiness.
const ReasonNodeReadinessFlapping = "NodeReadinessFlapping"

const (
	// flapsFrom flips within flapsWithin are flapping; it ends when nothing has flipped for flapsWithin.
	flapsFrom   = 4
	flapsWithin = 30 * time.Minute
	// keptFlips bounds the annotation.
	keptFlips = 16
)

// nodeReadiness finds a node that turns Ready and back again and again. readiness is the report of the source
// kubelet of the same moment.
func nodeReadiness(in Input, readiness detector.Report) (detector.Report, []time.Time, time.Time) {
	report := active(SourceNodeReadiness, v1alpha1.CategoryKubelet)
	flips := recordFlip(in, readiness)
	recent := after(flips, in.Now.Add(-flapsWithin))
	before := in.previously(SourceNodeReadiness, ReasonNodeReadinessFlapping, "")
	if len(recent) == 0 || before == nil && len(recent) < flapsFrom {
		return report, flips, time.Time{}
	}
	last := recent[len(recent)-1]
	message := fmt.Sprintf("the Node turned Ready or stopped being it at least %d times within %s, the last time at %s",
		flapsFrom, flapsWithin, last.UTC().Format(time.RFC3339))
	report.Findings = append(report.Findings, v1alpha1.Finding{
		Source:   SourceNodeReadiness,
		Reason:   ReasonNodeReadinessFlapping,
		Category: v1alpha1.CategoryKubelet,
		Severity: v1alpha1.SeverityFatal,
		Since:    in.since(SourceNodeReadiness, ReasonNodeReadinessFlapping, "", last),
		Message:  message,
	})
	return report, flips, last.Add(flapsWithin)
}

// recordFlip adds a flip where the source kubelet says something else than before. Nothing counts while it could not
// see: when the API server is out of reach for a while, every node of the cluster seems to flip.
func recordFlip(in Input, readiness detector.Report) []time.Time {
	flips := previousFlips(in.Previous)
	was, known := previouslyReady(in.Previous)
	is := len(readiness.Findings) == 0
	if !known || readiness.Source.State != v1alpha1.SourceActive || was == is {
		return flips
	}
	at := in.Now
	if ready := conditionOf(in.Node, corev1.NodeReady); ready != nil && !ready.LastTransitionTime.IsZero() && ready.LastTransitionTime.Time.Before(at) {
		at = ready.LastTransitionTime.Time
	}
	if len(flips) > 0 && !at.After(flips[len(flips)-1]) {
		at = in.Now
	}
	flips = append(after(flips, in.Now.Add(-flapsWithin)), at.UTC().Truncate(time.Second))
	return flips[max(0, len(flips)-keptFlips):]
}

func previouslyReady(previous *v1alpha1.NodeHealth) (ready, known bool) {
	if previous == nil {
		return false, false
	}
	known = slices.ContainsFunc(previous.Sources, func(s v1alpha1.Source) bool {
		return s.Name == SourceKubelet && s.State == v1alpha1.SourceActive
	})
	ready = !slices.ContainsFunc(previous.Findings, func(f v1alpha1.Finding) bool { return f.Source == SourceKubelet })
	return ready, known
}

func after(times []time.Time, limit time.Time) []time.Time {
	var out []time.Time
	for _, t := range times {
		if t.After(limit) {
			out = append(out, t)
		}
	}
	return out
}

// previousFlips reads the annotation. What is no time, or lies in the wrong order, is not ours and counts for nothing.
func previousFlips(previous *v1alpha1.NodeHealth) []time.Time {
	if previous == nil || previous.Annotations[FlipsAnnotation] == "" {
		return nil
	}
	var out []time.Time
	for _, text := range strings.Split(previous.Annotations[FlipsAnnotation], ",") {
		t, err := time.Parse(time.RFC3339, text)
		if err == nil && (len(out) == 0 || !t.Before(out[len(out)-1])) {
			out = append(out, t)
		}
	}
	return out
}

// FormatFlips gives the value of FlipsAnnotation.
func FormatFlips(flips []time.Time) string {
	texts := make([]string, 0, len(flips))
	for _, flip := range flips {
		texts = append(texts, flip.UTC().Format(time.RFC3339))
	}
	return strings.Join(texts, ",")
}
