package decision

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const (
	// maxFailures within failurePeriod end the attempts at one node and at what replaced it.
	maxFailures   = 3
	failurePeriod = 24 * time.Hour
	// maxAncestors bounds how far back a replacement of a replacement is followed.
	maxAncestors = 10
	// Defaults of RepairPolicy.spec.reboot and spec.replacement.maxLaunching, for policies that were not defaulted by
	// the API server.
	defaultRebootAttempts = 2
	defaultRebootWindow   = 24 * time.Hour
	defaultMaxLaunching   = 5
)

// history is what earlier repairs have come to, by NodeClaim.
type history struct {
	failed  map[types.UID][]time.Time // when they failed
	reboots map[types.UID][]time.Time // when they were committed
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
		h.reboots[uid] = append(h.reboots[uid], repair.CreationTimestamp.Time)
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

// failures of repairs of a node, and of those that it is the replacement of, newest first. A fault that comes back with
// every replacement is one story, not a new one each time.
func (h history) failures(node *Node, now time.Time) []time.Time {
	var out []time.Time
	claim := v1alpha1.NodeClaimReference{Name: node.NodeClaim, UID: node.NodeClaimUID}
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

// gateBackoff closes for a growing while after repairs of the NodePool have failed in a row.
func gateBackoff(ix *index, c *candidate) []Blocker {
	until := c.pool.record.pausedUntil()
	if c.repair != nil || !until.After(ix.in.Now) {
		return nil
	}
	where := fmt.Sprintf("NodePool %q", c.pool.name)
	if c.pool.name == "" {
		where = "NodeClaims without a NodePool"
	}
	return []Blocker{{
		Reason: BlockerBackoff,
		Message: fmt.Sprintf("the last %s of %s failed: the next starts at %s",
			plural(c.pool.record.failures, "repair"), where, stamp(until)),
		RetryAt: until,
	}}
}

// gateReplacementsFailed closes when repairing the node, and what it replaces, has failed so often that once more
// would not help.
func gateReplacementsFailed(ix *index, c *candidate) []Blocker {
	failures := ix.history.failures(c.node, ix.in.Now)
	if len(failures) < maxFailures || c.repair != nil {
		return nil
	}
	retryAt := failures[maxFailures-1].Add(failurePeriod)
	return []Blocker{{
		Reason: BlockerReplacementFailed,
		Message: fmt.Sprintf("%d repairs of the node, or of those that it replaces, failed within 24 hours: the next starts at %s",
			len(failures), stamp(retryAt)),
		RetryAt:  retryAt,
		LiftedBy: "find out why (kubectl get noderepairs), then delete the failed NodeRepairs",
	}}
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
