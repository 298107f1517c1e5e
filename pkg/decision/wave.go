package decision

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// Defaults of RepairPolicy.spec.correlatedFailure, for policies that were not defaulted by the API server.
const (
	defaultMinNodes     = 3
	defaultMaxUnhealthy = "20%"
)

// threshold is RepairPolicy.spec.correlatedFailure, made quick to ask.
type threshold struct {
	minNodes int
	// most is how many of a domain may be sick, or which share of it in percent.
	most    int
	percent bool
}

func thresholdOf(node *Node) threshold {
	limits := v1alpha1.CorrelatedFailureSpec{}
	if policy := node.Verdict.Policy; policy != nil {
		limits = policy.Spec.CorrelatedFailure
	}
	t := threshold{minNodes: defaultMinNodes}
	if limits.MinNodes != nil {
		t.minNodes = int(*limits.MinNodes)
	}
	maxUnhealthy := intstr.FromString(defaultMaxUnhealthy)
	if limits.MaxUnhealthy != nil {
		maxUnhealthy = *limits.MaxUnhealthy
	}
	if maxUnhealthy.Type == intstr.Int {
		t.most = maxUnhealthy.IntValue()
		return t
	}
	// Where the policy is invalid, which another gate says, any sick node is one too many.
	t.most, _ = intstr.GetScaledValueFromIntOrPercent(&maxUnhealthy, 100, false)
	t.percent = true
	return t
}

// exceeded says whether so many of a domain's nodes are too many to be so by chance.
func (t threshold) exceeded(sick, nodes int) bool {
	if t.percent {
		return sick*100 > t.most*nodes
	}
	return sick > t.most
}

func (t threshold) suspects(state *domainState) bool {
	return state.nodes >= t.minNodes && t.exceeded(len(state.sick), state.nodes)
}

// wave is the fault that the nodes of a suspect domain share. The reasons that by themselves exceed the threshold make
// it. A node that has none of them is sick of something else, if all such nodes together would not make the domain
// suspect; so no more of them are repaired beside the wave than would be without it. Where no reason prevails, or too
// much is left, all of the domain's faults are taken for one.
type wave struct {
	all     bool
	reasons map[string]bool
	// repairing counts the repairs at work that belong to the wave; nextEnd is when the first of them ends, zero where
	// none is known to.
	repairing int
	nextEnd   time.Time
}

// waveOf gives the wave of a suspect domain.
func (s *domainState) waveOf(limit threshold) *wave {
	if w, ok := s.waves[limit]; ok {
		return w
	}
	w := &wave{reasons: map[string]bool{}}
	counts := map[string]int{}
	for _, node := range s.sick {
		for reason := range faults(node) {
			counts[reason]++
		}
	}
	for reason, count := range counts {
		if limit.exceeded(count, s.nodes) {
			w.reasons[reason] = true
		}
	}
	rest := 0
	for _, node := range s.sick {
		if !w.has(node) {
			rest++
		}
	}
	w.all = len(w.reasons) == 0 || limit.exceeded(rest, s.nodes)
	for _, repair := range s.repairs {
		w.works(repair)
	}
	if s.waves == nil {
		s.waves = map[threshold]*wave{}
	}
	s.waves[limit] = w
	return w
}

// faults are the reasons for which the policy acts on a node.
func faults(node *Node) map[string]bool {
	out := map[string]bool{}
	for _, j := range node.Verdict.Judgements {
		if isFault(j) {
			out[j.Finding.Reason] = true
		}
	}
	return out
}

// isFault says whether a policy acts on a finding, now or later. A person's request is no fault.
func isFault(j diagnosis.Judgement) bool { return j.Acts() && !j.Requested() }

// has says whether a node is sick of what the wave is made of.
func (w *wave) has(node *Node) bool {
	if w.all {
		return true
	}
	return slices.ContainsFunc(node.Verdict.Judgements, func(j diagnosis.Judgement) bool { return isFault(j) && w.reasons[j.Finding.Reason] })
}

// repairs says whether a repair belongs to the wave. One of which the reason is not known does.
func (w *wave) repairs(r domainRepair) bool {
	return w.all || r.reason == "" || w.reasons[r.reason] || (r.node != nil && w.has(r.node))
}

// works counts a repair at work, if it belongs to the wave.
func (w *wave) works(r domainRepair) {
	if w.repairs(r) {
		w.repairing++
		w.nextEnd = earlier(w.nextEnd, r.ends)
	}
}

// whenNext says when the first of the wave's repairs ends.
func (w *wave) whenNext() string {
	if w.nextEnd.IsZero() {
		return "when one of them ends"
	}
	return "when one of them ends, at " + stamp(w.nextEnd) + " at the earliest"
}

// works adds a repair to the domain.
func (s *domainState) works(repair domainRepair) {
	s.repairs = append(s.repairs, repair)
	for _, w := range s.waves {
		w.works(repair)
	}
}
