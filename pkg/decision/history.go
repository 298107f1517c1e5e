package decision

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const (
	// failurePeriod is how long a failed replacement counts towards spec.replacement.attempts.
	failurePeriod = 24 * time.Hour
	// maxAncestors bounds how far back a replacement of a replacement is followed.
	maxAncestors = 10
	// Defaults of RepairPolicy.spec.reboot and spec.replacement, for policies that were not defaulted by the API server.
	defaultAttempts       = 3
	defaultRebootAttempts = 2
	defaultRebootWindow   = 24 * time.Hour
	defaultMaxLaunching   = 5
)

// history is what earlier repairs have come to, by NodeClaim.
type history struct {
	failed  map[types.UID][]time.Time // when replacing them failed; reboots have a count of their own
	reboots map[types.UID][]time.Time // when those that were asked of Karpenter were committed
	// parents are the NodeClaims whose failed repair left a replacement, by the replacement's name.
	parents map[string]v1alpha1.NodeClaimReference
}

func newHistory() history {
	return history{
		failed:  map[types.UID][]time.Time{},
		reboots: map[types.UID][]time.Time{},
		parents: map[string]v1alpha1.NodeClaimReference{},
	}
}

func (h history) add(repair *v1alpha1.NodeRepair) {
	uid := repair.Spec.NodeClaim.UID
	if repair.Spec.Action == v1alpha1.ActionReboot {
		if wasRequested(repair) {
			h.reboots[uid] = append(h.reboots[uid], repair.CreationTimestamp.Time)
		}
		return
	}
	if repair.Status.Phase != v1alpha1.PhaseFailed || repair.Status.FinishedAt == nil {
		return
	}
	h.failed[uid] = append(h.failed[uid], repair.Status.FinishedAt.Time)
	for _, replacement := range repair.Status.Replacements {
		if replacement.WithdrawnAt == nil {
			h.parents[replacement.NodeClaim] = repair.Spec.NodeClaim
		}
	}
}

// wasRequested says whether a reboot went so far that Karpenter was asked for it. One that was let go before is no
// attempt.
func wasRequested(repair *v1alpha1.NodeRepair) bool {
	switch repair.Status.Phase {
	case v1alpha1.PhaseCanceled, v1alpha1.PhaseYielded:
		return meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionRebooted) != nil
	default:
		return true
	}
}

// FailedBefore counts the replacements of a NodeClaim, and of those that it is the replacement of, that failed within
// the 24 hours before now. A replacement is made the wider for it.
func FailedBefore(repairs []v1alpha1.NodeRepair, claim v1alpha1.NodeClaimReference, now time.Time) int {
	h := newHistory()
	for i := range repairs {
		h.add(&repairs[i])
	}
	return len(h.failures(claim, now))
}

// failures of repairs of a node, and of those that it is the replacement of, newest first. A fault that comes back with
// every replacement is one story, not a new one each time.
func (h history) failures(claim v1alpha1.NodeClaimReference, now time.Time) []time.Time {
	var out []time.Time
	for range maxAncestors {
		for _, at := range h.failed[claim.UID] {
			if recently(at, now, failurePeriod) {
				out = append(out, at)
			}
		}
		parent, ok := h.parents[claim.Name]
		if !ok {
			break
		}
		claim = parent
	}
	slices.SortFunc(out, func(a, b time.Time) int { return b.Compare(a) })
	return out
}

// gateBackoff closes for a growing while after repairs of the NodePool have failed in a row, and from then on lets one
// at a time through until one succeeds, or an hour has passed since the last failure.
//
// So a NodePool whose every replacement is sick costs little. After the first failure at most 9 repairs start there
// within any hour: after pauses of 1, 2, 4 and 8 minutes and then of 10 each. Each makes at most
// spec.replacement.attempts replacements (3), which is 27 launches in an hour at most, on top of what was at work when
// the first repair failed, which the budget bounds.
func gateBackoff(ix *index, c *candidate) []Blocker {
	record := &c.pool.record
	if c.repair != nil || record.failures == 0 {
		return nil
	}
	where := fmt.Sprintf("NodePool %q", c.pool.name)
	if c.pool.name == "" {
		where = "NodeClaims without a NodePool"
	}
	why := fmt.Sprintf("the last %s of %s failed", plural(record.failures, "repair"), where)
	if until := record.pausedUntil(); until.After(ix.in.Now) {
		return []Blocker{{Reason: BlockerBackoff, Message: fmt.Sprintf("%s: the next starts at %s", why, stamp(until)), RetryAt: until}}
	}
	if c.pool.repairing == 0 {
		return nil
	}
	return []Blocker{{
		Reason:  BlockerBackoff,
		Message: fmt.Sprintf("%s: 1 repair at a time until one succeeds, %d at work", why, c.pool.repairing),
		RetryAt: record.lastFailure.Add(recordPeriod),
	}}
}

// gateReplacementsFailed closes when replacing the node, and what it replaces, has failed so often that once more
// would not help: as often as the policy's spec.replacement.attempts says.
func gateReplacementsFailed(ix *index, c *candidate) []Blocker {
	if c.repair != nil || c.action == v1alpha1.ActionReboot {
		return nil
	}
	attempts := attemptsOf(c.node)
	failures := ix.history.failures(v1alpha1.NodeClaimReference{Name: c.node.NodeClaim, UID: c.node.NodeClaimUID}, ix.in.Now)
	if len(failures) < attempts {
		return nil
	}
	retryAt := failures[attempts-1].Add(failurePeriod)
	return []Blocker{{
		Reason: BlockerReplacementFailed,
		Message: fmt.Sprintf("%d repairs of the node, or of those that it replaces, failed within 24 hours: the next starts at %s",
			len(failures), stamp(retryAt)),
		RetryAt:  retryAt,
		LiftedBy: "find out why (kubectl get noderepairs), then delete the failed NodeRepairs",
	}}
}

func attemptsOf(node *Node) int {
	if policy := node.Verdict.Policy; policy != nil && policy.Spec.Replacement.Attempts != nil {
		return int(max(*policy.Spec.Replacement.Attempts, 1))
	}
	return defaultAttempts
}

// gateLaunching closes while too many of our replacements are unlaunched: each of them stalls Karpenter.
func gateLaunching(ix *index, c *candidate) []Blocker {
	if c.repair != nil || c.terminateFirst || !c.needsReplacement() {
		return nil
	}
	limit := defaultMaxLaunching
	if policy := c.node.Verdict.Policy; policy != nil && policy.Spec.Replacement.MaxLaunching != nil {
		limit = int(*policy.Spec.Replacement.MaxLaunching)
	}
	if ix.in.Launching < limit {
		return nil
	}
	return []Blocker{{
		Reason:  BlockerLaunching,
		Message: fmt.Sprintf("as many replacements as may be unlaunched at a time (%d) have not been launched yet", limit),
	}}
}

// resolveAction gives what is done for the deciding judgement, and why where that is not what the rule says. A reboot
// that cannot be done would end as a delete without replacement, so Replace stands in wherever there is doubt.
func (ix *index) resolveAction(node *Node) (action v1alpha1.Action, why string) {
	action = node.Verdict.Deciding.Action
	if action != v1alpha1.ActionReboot {
		return action, ""
	}
	attempts, window := rebootLimits(node)
	tried := 0
	for _, at := range ix.history.reboots[node.NodeClaimUID] {
		if recently(at, ix.in.Now, window) {
			tried++
		}
	}
	switch {
	case !ix.in.Karpenter.RebootSupported:
		return v1alpha1.ActionReplace, fmt.Sprintf("Karpenter %s cannot reboot nodes (1.15 can), so the node is replaced",
			cmp.Or(ix.in.Karpenter.Version, "of an unknown version"))
	case !ix.in.ExecutorReboots:
		return v1alpha1.ActionReplace, "reboots are not carried out here, so the node is replaced"
	case !node.ProviderReboots:
		return v1alpha1.ActionReplace, "the provider of its node class is not known to reboot instances, so the node is replaced"
	case tried >= attempts:
		return v1alpha1.ActionReplace, fmt.Sprintf("%d of %s within %s are used up, so the node is replaced",
			tried, plural(attempts, "reboot"), window)
	default:
		return action, ""
	}
}

func rebootLimits(node *Node) (attempts int, window time.Duration) {
	attempts, window = defaultRebootAttempts, defaultRebootWindow
	if policy := node.Verdict.Policy; policy != nil {
		if policy.Spec.Reboot.Attempts != nil {
			attempts = int(*policy.Spec.Reboot.Attempts)
		}
		if policy.Spec.Reboot.Window != nil {
			window = policy.Spec.Reboot.Window.Duration
		}
	}
	return attempts, window
}
