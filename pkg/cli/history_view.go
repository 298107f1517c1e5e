package cli

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// History is what has been repaired, the newest first.
type History struct {
	At metav1.Time `json:"at"`
	// Since bounds what is told of: repairs that ended later; absent for all that are kept.
	Since *metav1.Time `json:"since,omitempty"`
	// AtWork is how many repairs have not ended.
	AtWork int `json:"atWork"`
	// Summary of all repairs, then of those of each NodePool.
	Summary   Outcomes     `json:"summary"`
	NodePools []Outcomes   `json:"nodePools"`
	Repairs   []PastRepair `json:"repairs"`
	Gaps      []Gap        `json:"gaps,omitempty"`

	// detailed says that each repair is told of in full.
	detailed bool
}

// Outcomes sums up repairs.
type Outcomes struct {
	NodePool  string `json:"nodePool,omitempty"`
	Repairs   int    `json:"repairs"`
	Succeeded int    `json:"succeeded"`
	Failed    int    `json:"failed"`
	Canceled  int    `json:"canceled"`
	Yielded   int    `json:"yielded"`
	// SuccessRate is the share, from 0 to 1, of those that succeeded among those that succeeded or failed: what was
	// canceled or left to Karpenter proves nothing. Absent where there are none.
	SuccessRate *float64 `json:"successRate,omitempty"`
	// MedianUntilGone is from the decision until the sick node was gone or had been rebooted; MedianUntilProved until its
	// replacement, or the node itself, had proved healthy. Absent where it did not come to that.
	MedianUntilGone   *metav1.Duration `json:"medianUntilGone,omitempty"`
	MedianUntilProved *metav1.Duration `json:"medianUntilProved,omitempty"`
}

// PastRepair is a repair that has ended.
type PastRepair struct {
	NodeRepair     string                       `json:"nodeRepair"`
	Node           string                       `json:"node,omitempty"`
	NodeClaim      string                       `json:"nodeClaim"`
	NodePool       string                       `json:"nodePool,omitempty"`
	Cause          v1alpha1.RepairCause         `json:"cause"`
	Policy         v1alpha1.PolicyReference     `json:"policy"`
	Action         v1alpha1.Action              `json:"action"`
	TerminateFirst bool                         `json:"terminateFirst,omitempty"`
	Outcome        v1alpha1.Phase               `json:"outcome"`
	Message        string                       `json:"message,omitempty"`
	Started        metav1.Time                  `json:"started"`
	Finished       metav1.Time                  `json:"finished"`
	Took           metav1.Duration              `json:"took"`
	Steps          []Step                       `json:"steps"`
	Replacements   []v1alpha1.ReplacementStatus `json:"replacements,omitempty"`
	Evidence       *v1alpha1.RepairEvidence     `json:"evidence,omitempty"`
}

// Step is a turn in a repair.
type Step struct {
	Name string      `json:"name"`
	At   metav1.Time `json:"at"`
	// After is the time since the step before, since the decision for the first.
	After metav1.Duration `json:"after"`
}

// steps are the conditions that become True on the way, and what they are called.
var steps = []struct{ condition, name string }{
	{v1alpha1.RepairConditionFenced, "fenced"},
	{v1alpha1.RepairConditionProvisioned, "replacement stood"},
	{v1alpha1.RepairConditionTerminated, "gone"},
	{v1alpha1.RepairConditionRebooted, "rebooted"},
	{v1alpha1.RepairConditionReleased, "released"},
	{v1alpha1.RepairConditionVerified, "proved"},
}

// historyOf sums up the repairs that wanted admits and that ended since a moment, which is zero for all.
func historyOf(now time.Time, repairs []v1alpha1.NodeRepair, since time.Time, wanted func(*v1alpha1.NodeRepair) bool) *History {
	h := &History{At: metav1.NewTime(now), Since: orNil(since), Repairs: []PastRepair{}, NodePools: []Outcomes{}}
	for i := range repairs {
		repair := &repairs[i]
		if !wanted(repair) {
			continue
		}
		if !repair.Finished() {
			h.AtWork++
			continue
		}
		past := pastRepair(repair)
		if past.Finished.Time.Before(since) {
			continue
		}
		h.Repairs = append(h.Repairs, past)
	}
	slices.SortFunc(h.Repairs, func(a, b PastRepair) int {
		return cmp.Or(b.Finished.Compare(a.Finished.Time), cmp.Compare(a.NodeRepair, b.NodeRepair))
	})
	h.Summary = outcomesOf("", h.Repairs)
	byPool := map[string][]PastRepair{}
	for _, repair := range h.Repairs {
		byPool[repair.NodePool] = append(byPool[repair.NodePool], repair)
	}
	for pool, of := range byPool {
		h.NodePools = append(h.NodePools, outcomesOf(pool, of))
	}
	slices.SortFunc(h.NodePools, func(a, b Outcomes) int { return cmp.Compare(a.NodePool, b.NodePool) })
	return h
}

func pastRepair(repair *v1alpha1.NodeRepair) PastRepair {
	spec, status := repair.Spec, repair.Status
	past := PastRepair{
		NodeRepair: repair.Name, Node: spec.NodeName, NodeClaim: spec.NodeClaim.Name, NodePool: spec.NodePool, Cause: spec.Cause,
		Policy: spec.Policy, Action: spec.Action, TerminateFirst: spec.TerminateFirst, Outcome: status.Phase, Message: status.Message,
		Started: repair.CreationTimestamp, Finished: repair.CreationTimestamp, Replacements: status.Replacements, Evidence: status.Evidence,
	}
	if status.FinishedAt != nil {
		past.Finished = *status.FinishedAt
	}
	past.Took = between(past.Started, past.Finished)
	past.Steps = stepsOf(repair)
	return past
}

// stepsOf gives the turns of a repair in the order in which they came.
func stepsOf(repair *v1alpha1.NodeRepair) []Step {
	out := []Step{}
	for _, step := range steps {
		condition := meta.FindStatusCondition(repair.Status.Conditions, step.condition)
		if condition != nil && condition.Status == metav1.ConditionTrue {
			out = append(out, Step{Name: step.name, At: condition.LastTransitionTime})
		}
	}
	slices.SortStableFunc(out, func(a, b Step) int { return a.At.Compare(b.At.Time) })
	last := repair.CreationTimestamp
	for i := range out {
		out[i].After = between(last, out[i].At)
		last = out[i].At
	}
	return out
}

// between is never negative: the times of the API are of whole seconds, and of several clocks.
func between(from, to metav1.Time) metav1.Duration {
	return metav1.Duration{Duration: max(to.Sub(from.Time), 0)}
}

func outcomesOf(pool string, repairs []PastRepair) Outcomes {
	out := Outcomes{NodePool: pool, Repairs: len(repairs)}
	var gone, proved []time.Duration
	for _, repair := range repairs {
		switch repair.Outcome {
		case v1alpha1.PhaseSucceeded:
			out.Succeeded++
		case v1alpha1.PhaseFailed:
			out.Failed++
		case v1alpha1.PhaseCanceled:
			out.Canceled++
		case v1alpha1.PhaseYielded:
			out.Yielded++
		default:
		}
		for _, step := range repair.Steps {
			took := between(repair.Started, step.At).Duration
			switch step.Name {
			case "gone", "rebooted":
				gone = append(gone, took)
			case "proved":
				proved = append(proved, took)
			}
		}
	}
	if tried := out.Succeeded + out.Failed; tried > 0 {
		out.SuccessRate = new(float64(out.Succeeded) / float64(tried))
	}
	out.MedianUntilGone, out.MedianUntilProved = median(gone), median(proved)
	return out
}

// median gives the middle one, of two the lower; nil where there is none.
func median(durations []time.Duration) *metav1.Duration {
	if len(durations) == 0 {
		return nil
	}
	slices.Sort(durations)
	return &metav1.Duration{Duration: durations[(len(durations)-1)/2]}
}
