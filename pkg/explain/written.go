package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// WrittenState says how what the NodeClaim says compares with what holds.
type WrittenState string

const (
	// WrittenCurrent: the NodeClaim says what holds now.
	WrittenCurrent WrittenState = "Current"
	// WrittenDiffers: it says something else; for some seconds after a change that is as it should be.
	WrittenDiffers WrittenState = "Differs"
	// WrittenNothing: it says nothing although there is something to say.
	WrittenNothing WrittenState = "Nothing"
)

// Written compares what the controller last wrote on the NodeClaim with what holds now by the same diagnosis and decision.
type Written struct {
	State WrittenState `json:"state"`
	// At is when our conditions were last written, as far as the API tells: never before it, and by up to the pace of
	// field managers later. Absent where it does not tell.
	At *metav1.Time `json:"at,omitempty"`
	// Controller says whether the controller runs.
	Controller string `json:"controller"`
	// Running is false where the controller is known not to run, and absent where that cannot be told.
	Running *bool `json:"running,omitempty"`
	// Differences between the two.
	Differences []Difference `json:"differences,omitempty"`
	// Advice is what to look at; empty where all is well.
	Advice string `json:"advice,omitempty"`
}

// Difference is one condition that the NodeClaim has otherwise than it holds now. Absent sides are conditions that are not
// there.
type Difference struct {
	Type    string  `json:"type"`
	Written *Stated `json:"written,omitempty"`
	Now     *Stated `json:"now,omitempty"`
}

// Stated is what a condition says.
type Stated struct {
	Status  metav1.ConditionStatus `json:"status"`
	Reason  string                 `json:"reason"`
	Message string                 `json:"message"`
}

func written(now time.Time, about About, repair *v1alpha1.NodeRepair) Written {
	existing := conditionsOf(about.NodeClaim)
	out := Written{State: WrittenCurrent, At: writtenAt(about.NodeClaim)}
	out.Controller, out.Running = running(now, about.Controller)
	if !about.NodeClaim.DeletionTimestamp.IsZero() && len(about.Diagnosis.Facts) == 0 {
		return out // what it says stays when its Node has gone
	}
	out.Differences = differences(existing, Conditions(now, about.Diagnosis, about.Decision, repair))
	switch {
	case len(out.Differences) == 0:
	case len(existing) == 0:
		out.State = WrittenNothing
	default:
		out.State = WrittenDiffers
	}
	out.Advice = advice(out)
	return out
}

func conditionsOf(nodeClaim *karpv1.NodeClaim) map[string]Stated {
	out := map[string]Stated{}
	for _, c := range nodeClaim.Status.Conditions {
		if strings.HasPrefix(c.Type, v1alpha1.Group+"/") {
			out[c.Type] = Stated{Status: c.Status, Reason: c.Reason, Message: c.Message}
		}
	}
	return out
}

// writtenAt is when the field manager wrote; where it has left no trace, when one of our conditions last changed.
func writtenAt(nodeClaim *karpv1.NodeClaim) *metav1.Time {
	var newest time.Time
	for _, entry := range nodeClaim.ManagedFields {
		if entry.Manager == v1alpha1.ConditionsManager && entry.Time != nil && entry.Time.After(newest) {
			newest = entry.Time.Time
		}
	}
	for _, c := range nodeClaim.Status.Conditions {
		if strings.HasPrefix(c.Type, v1alpha1.Group+"/") && c.LastTransitionTime.After(newest) {
			newest = c.LastTransitionTime.Time
		}
	}
	return moment(newest)
}

func differences(existing map[string]Stated, wanted []metav1.Condition) []Difference {
	var out []Difference
	seen := map[string]bool{}
	for _, w := range wanted {
		seen[w.Type] = true
		is := Stated{Status: w.Status, Reason: w.Reason, Message: w.Message}
		was, ok := existing[w.Type]
		switch {
		case !ok:
			out = append(out, Difference{Type: w.Type, Now: &is})
		case was != is:
			out = append(out, Difference{Type: w.Type, Written: &was, Now: &is})
		}
	}
	var gone []Difference
	for conditionType, was := range existing {
		if !seen[conditionType] {
			gone = append(gone, Difference{Type: conditionType, Written: &was})
		}
	}
	sortDifferences(gone)
	return append(out, gone...)
}

// SilentAfter is how old the controller's last word may be: many times the 10 seconds within which its lease is renewed,
// since the clocks of people and clusters differ.
const SilentAfter = 2 * time.Minute

// running says whether the controller runs, by its lease.
func running(now time.Time, c *Controller) (said string, runs *bool) {
	yes, no := true, false
	switch {
	case c == nil:
		return "whether the controller runs cannot be told: its lease is not found, or you may not read leases", nil
	case c.Holder == "" || c.Renewed.IsZero():
		return fmt.Sprintf("no controller runs in namespace %s: nobody holds its lease", c.Namespace), &no
	case now.Sub(c.Renewed) > SilentAfter:
		return fmt.Sprintf("no controller runs: %s in namespace %s was last heard of at %s", c.Holder, c.Namespace, stamp(c.Renewed)), &no
	default:
		return fmt.Sprintf("the controller %s in namespace %s runs", c.Holder, c.Namespace), &yes
	}
}

// advice says what to make of a difference.
func advice(w Written) string {
	switch {
	case w.Running != nil && !*w.Running:
		return "No controller is at work, so nothing of what is said here will happen: see to its Deployment."
	case len(w.Differences) == 0:
		return ""
	case w.Running != nil:
		return "The controller writes changes within seconds. If this stays: it may not write NodeClaims (see its log for \"forbidden\"), " +
			"is of another version than this program, or was started with other flags."
	default:
		return "If this stays, the controller does not run, may not write NodeClaims, is of another version than this program, or was started with other flags."
	}
}

func sortDifferences(d []Difference) {
	slices.SortFunc(d, func(a, b Difference) int { return strings.Compare(a.Type, b.Type) })
}
