package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

const (
	checkEvery = 5 * time.Second
	// explainedWithin is how long a sick node may be without a word about it, letGoWithin how long a repair may go on
	// that a person has said no to.
	explainedWithin = 15 * time.Second
	letGoWithin     = 30 * time.Second
	// retryWithin is how late a look that was asked for may come: the pass looks again every 10 s.
	retryWithin = 11 * time.Second
	// reconcilesPerHour bounds all that the controller does for a cluster of this size.
	reconcilesPerHour = 30000
)

// promises are what is watched over in a run.
type promises struct {
	checked   time.Time
	unheard   map[types.UID]time.Time // since when a sick node has no word about it
	refused   map[types.UID]time.Time // since when a person says no
	launches  map[string][]time.Time  // our NodeClaims by NodePool
	gone      map[types.UID]time.Time // when a NodeClaim was gone
	badSince  time.Time               // since when no replacement can be any good
	hour      time.Time
	hourCount int
	// For whoever asks what a run has seen.
	deletes, withdrawals, crashes int
	changes                       int // by others
}

func newPromises() promises {
	return promises{unheard: map[types.UID]time.Time{}, refused: map[types.UID]time.Time{}, launches: map[string][]time.Time{}, gone: map[types.UID]time.Time{}}
}

// wrote looks at every write as it lands.
func (p *promises) wrote(w *world, actor string, before, after client.Object) {
	if claim, ok := before.(*karpv1.NodeClaim); ok && after == nil {
		p.gone[claim.UID] = w.now()
	}
	if actor != actorOurs {
		p.changes++
		return
	}
	switch o := after.(type) {
	case *v1alpha1.NodeRepair:
		if before == nil {
			w.mayBegin(o)
		} else if !before.(*v1alpha1.NodeRepair).Finished() && o.Status.Phase == v1alpha1.PhaseSucceeded {
			w.maySucceed(o)
			w.mayAdopt(o)
		} else if w.mayAdopt(o); o.Finished() && o.Status.Phase != v1alpha1.PhaseSucceeded {
			// Where another NodeClaim has taken over the Node it is the janitor's.
			node, claim := named[corev1.Node](w.api.objects, o.Spec.NodeName), named[karpv1.NodeClaim](w.api.objects, o.Spec.NodeClaim.Name)
			w.demand(node == nil || claim == nil || claim.UID != o.Spec.NodeClaim.UID || node.Annotations[v1alpha1.FenceOwnerAnnotation] != string(o.UID), "NodeRepair %s has ended, and leaves its fence to the janitor", o.Name)
		}
	case *karpv1.NodeClaim:
		switch {
		case before == nil:
			w.mayLaunch(o)
		case before.GetDeletionTimestamp().IsZero() && !o.DeletionTimestamp.IsZero():
			w.mayDelete(o)
		}
	case nil:
		if claim, ok := before.(*karpv1.NodeClaim); ok && claim.DeletionTimestamp.IsZero() {
			w.mayDelete(claim)
		}
	}
}

func (w *world) repairsOf(matches func(*v1alpha1.NodeRepair) bool) []*v1alpha1.NodeRepair {
	return lo.Filter(all[v1alpha1.NodeRepair](w.api.objects), func(r *v1alpha1.NodeRepair, _ int) bool { return matches(r) })
}

func (w *world) atWorkOn(uid types.UID) []*v1alpha1.NodeRepair {
	return w.repairsOf(func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodeClaim.UID == uid && !r.Finished() })
}

// mayBegin is asked about a NodeRepair that has just been made.
func (w *world) mayBegin(r *v1alpha1.NodeRepair) {
	w.demand(len(w.atWorkOn(r.Spec.NodeClaim.UID)) == 1, "two unfinished NodeRepairs for NodeClaim %s", r.Spec.NodeClaim.Name)
	if w.process.cache != nil || w.process.raced {
		return // it cannot know yet; what cannot be undone is looked at again
	}
	claim := named[karpv1.NodeClaim](w.api.objects, r.Spec.NodeClaim.Name)
	w.demand(claim != nil && claim.UID == r.Spec.NodeClaim.UID && claim.DeletionTimestamp.IsZero(), "NodeRepair %s is of a NodeClaim that is gone or going", r.Name)
	w.demand(w.sick(claim), "NodeRepair %s begins for a node that is not sick past its toleration", r.Name)
	w.demand(w.refusal(claim) == "", "NodeRepair %s begins although %s", r.Name, w.refusal(claim))
	w.withinBudget(claim, "NodeRepair "+r.Name+" begins", func(other *karpv1.NodeClaim) bool {
		return slices.ContainsFunc(w.atWorkOn(other.UID), (*v1alpha1.NodeRepair).HoldsBudget)
	})
	w.withinWidth(claim, r)
	w.notTooSoon(claim, r)
}

// notTooSoon holds the pause after failures in a row in a NodePool, the one repair at a time that follows it, and the end
// of what fails again and again.
func (w *world) notTooSoon(claim *karpv1.NodeClaim, started *v1alpha1.NodeRepair) {
	failures, attempts := w.failuresOf(claim), int(*named[v1alpha1.RepairPolicy](w.api.objects, "main").Spec.Replacement.Attempts)
	w.demand(failures < attempts, "NodeRepair %s begins after %d failures, of %d", started.Name, failures, attempts)
	past := w.pastOf(func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodePool == started.Spec.NodePool })
	w.demand(!w.oursNow().Before(past.pausedUntil()), "NodeRepair %s begins at once after %d failures in a row", started.Name, past.failures)
	atWork := w.repairsOf(func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodePool == started.Spec.NodePool && !r.Finished() })
	w.demand(past.failures == 0 || len(atWork) == 1, "NodeRepair %s begins: %d repairs are at work in NodePool %s after %d failures in a row",
		started.Name, len(atWork), started.Spec.NodePool, past.failures)
}

// failuresOf counts the failed repairs of a day of a NodeClaim, and of those whose failed repairs left it behind.
func (w *world) failuresOf(claim *karpv1.NodeClaim) int {
	count, name, uid := 0, claim.Name, claim.UID
	failed := w.repairsOf(func(r *v1alpha1.NodeRepair) bool { return r.Status.Phase == v1alpha1.PhaseFailed })
	for range len(failed) + 1 {
		count += lo.CountBy(failed, func(r *v1alpha1.NodeRepair) bool {
			return r.Spec.NodeClaim.UID == uid && w.oursNow().Sub(r.Status.FinishedAt.Time) < 24*time.Hour
		})
		parent, ok := lo.Find(failed, func(r *v1alpha1.NodeRepair) bool {
			return lo.ContainsBy(r.Status.Replacements, func(s v1alpha1.ReplacementStatus) bool { return s.NodeClaim == name && s.WithdrawnAt == nil })
		})
		if !ok {
			break
		}
		name, uid = parent.Spec.NodeClaim.Name, parent.Spec.NodeClaim.UID
	}
	return count
}

// past is what the repairs of the last hour have come to: how often replacements proved healthy since the last failure,
// and how many failed in a row.
type past struct {
	proofs, failures int
	lastFailure      time.Time
}

func (w *world) pastOf(matches func(*v1alpha1.NodeRepair) bool) past {
	p := past{}
	for _, r := range w.byEnd() {
		if !r.Finished() || !matches(r) || w.oursNow().Sub(r.Status.FinishedAt.Time) >= time.Hour {
			continue
		}
		switch {
		case provedHealthy(r):
			p.proofs, p.failures = p.proofs+1, 0
		case r.Status.Phase == v1alpha1.PhaseFailed:
			p = past{failures: p.failures + 1, lastFailure: r.Status.FinishedAt.Time}
		}
	}
	return p
}

// pausedUntil is a minute after the first failure, twice as long after each next, and ten minutes at most.
func (p past) pausedUntil() time.Time {
	if p.failures == 0 {
		return time.Time{}
	}
	return p.lastFailure.Add(min(time.Minute<<min(p.failures-1, 10), 10*time.Minute))
}

// provedHealthy says whether a replacement has stood its time. What came to its end without one proves nothing.
func provedHealthy(r *v1alpha1.NodeRepair) bool {
	return r.Status.Phase == v1alpha1.PhaseSucceeded && meta.FindStatusCondition(r.Status.Conditions, v1alpha1.RepairConditionVerified).Reason == v1alpha1.VerifiedHealthy
}

// maySucceed is asked about a NodeRepair that has just ended well: its node is gone, and what took its place has been
// watched since.
func (w *world) maySucceed(r *v1alpha1.NodeRepair) {
	claim := named[karpv1.NodeClaim](w.api.objects, r.Spec.NodeClaim.Name)
	w.demand(claim == nil || claim.UID != r.Spec.NodeClaim.UID, "NodeRepair %s has succeeded, and its NodeClaim is still there", r.Name)
	verified := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.RepairConditionVerified)
	w.demand(verified != nil, "NodeRepair %s has succeeded, and nothing says what that proves", r.Name)
	left := len(r.Status.Replacements) > 0 && r.Status.Replacements[len(r.Status.Replacements)-1].WithdrawnAt == nil
	switch verified.Reason {
	case v1alpha1.VerifiedNotNeeded:
		w.demand(verified.Status == metav1.ConditionTrue && !left, "NodeRepair %s needed no replacement, and has one", r.Name)
		return
	case v1alpha1.VerifiedReplacementGone:
		w.demand(verified.Status == metav1.ConditionUnknown && left, "NodeRepair %s has lost a replacement that it never had", r.Name)
		return
	}
	w.demand(verified.Status == metav1.ConditionTrue && verified.Reason == v1alpha1.VerifiedHealthy && left, "NodeRepair %s has succeeded and is not verified", r.Name)
	if gone, ok := w.seen.gone[r.Spec.NodeClaim.UID]; ok && !gone.Before(w.steppedAt) {
		watched := w.now().Sub(gone) + time.Second // times in the API are cut to seconds
		w.demand(watched >= r.Spec.Replacement.VerifyFor.Duration, "NodeRepair %s has succeeded after %s, and wants %s", r.Name, watched, r.Spec.Replacement.VerifyFor.Duration)
	}
}

// mayAdopt demands that no two repairs take the same NodeClaim for what has come in their node's place.
func (w *world) mayAdopt(r *v1alpha1.NodeRepair) {
	for _, mine := range r.Status.Replacements {
		twice := w.repairsOf(func(other *v1alpha1.NodeRepair) bool {
			return other.UID != r.UID && lo.ContainsBy(other.Status.Replacements, func(s v1alpha1.ReplacementStatus) bool { return s.NodeClaim == mine.NodeClaim })
		})
		w.demand(len(twice) == 0, "NodeRepair %s and another both watch NodeClaim %s", r.Name, mine.NodeClaim)
	}
}

// mayLaunch is asked about a replacement that has just been made.
func (w *world) mayLaunch(claim *karpv1.NodeClaim) {
	name := claim.Labels[v1alpha1.NodeRepairLabel]
	r := named[v1alpha1.NodeRepair](w.api.objects, name)
	w.demand(r != nil && !r.Finished(), "NodeClaim %s is made for no NodeRepair that is at work", claim.Name)
	for _, other := range all[karpv1.NodeClaim](w.api.objects) {
		if other.Name == claim.Name || other.Labels[v1alpha1.NodeRepairLabel] != name || !other.DeletionTimestamp.IsZero() {
			continue
		}
		withdrawn := lo.ContainsBy(r.Status.Replacements, func(s v1alpha1.ReplacementStatus) bool { return s.NodeClaim == other.Name && s.WithdrawnAt != nil })
		w.demand(withdrawn, "NodeClaims %s and %s both stand for NodeRepair %s", other.Name, claim.Name, name)
	}
	key := "repair " + name
	w.seen.launches[key] = append(w.seen.launches[key], w.now())
	w.demand(len(w.seen.launches[key]) <= int(*r.Spec.Replacement.Attempts), "NodeRepair %s has made more NodeClaims than it has attempts", name)
	w.boundedLaunches(claim.Labels[karpv1.NodePoolLabelKey], int(*r.Spec.Replacement.Attempts))
}

// boundedLaunches holds where no replacement has been any good for an hour: after each failed repair of a NodePool the
// next waits, one minute at first and ten in the end, which makes nine starts in an hour after those that were at work.
func (w *world) boundedLaunches(pool string, attempts int) {
	recent := lo.Filter(append(w.seen.launches[pool], w.now()), func(at time.Time, _ int) bool { return w.now().Sub(at) < time.Hour })
	w.seen.launches[pool] = recent
	if bad := w.seen.badSince; bad.IsZero() || w.now().Sub(bad) < time.Hour {
		return
	}
	bound := attempts * (9 + len(w.karpenter.claimsOf(pool)))
	w.demand(len(recent) <= bound, "%d launches in an hour in NodePool %s, where every replacement fails: more than %d", len(recent), pool, bound)
}

// mayDelete is asked about a NodeClaim that we have just deleted.
func (w *world) mayDelete(claim *karpv1.NodeClaim) {
	repairs := w.atWorkOn(claim.UID)
	if len(repairs) == 0 {
		owner := named[v1alpha1.NodeRepair](w.api.objects, claim.Labels[v1alpha1.NodeRepairLabel])
		w.demand(owner != nil && !owner.Finished(), "NodeClaim %s (%s) is deleted, and no NodeRepair is at work on it", claim.Name, claim.UID)
		w.seen.withdrawals++
		return
	}
	w.seen.deletes++
	w.demand(w.sick(claim), "NodeClaim %s is deleted although its node has recovered", claim.Name)
	w.demand(w.refusal(claim) == "", "NodeClaim %s is deleted although %s", claim.Name, w.refusal(claim))
	w.withinBudget(claim, "NodeClaim "+claim.Name+" is deleted", func(*karpv1.NodeClaim) bool { return false })
	if r := repairs[0]; r.Spec.Replacements > 0 && !r.Spec.TerminateFirst {
		w.demand(lo.ContainsBy(all[karpv1.NodeClaim](w.api.objects), func(c *karpv1.NodeClaim) bool {
			return c.Labels[v1alpha1.NodeRepairLabel] == r.Name && is(c, karpv1.ConditionTypeInitialized)
		}), "NodeClaim %s is deleted before a replacement stands", claim.Name)
	}
}

// withinBudget reckons as Karpenter does when a disruption starts; also says what else takes a place. What a lagging
// cache cannot show of Karpenter's own doings is left out.
func (w *world) withinBudget(claim *karpv1.NodeClaim, what string, also func(*karpv1.NodeClaim) bool) {
	pool := named[karpv1.NodePool](w.api.objects, claim.Labels[karpv1.NodePoolLabelKey])
	nodes, taken := 0, []string{}
	for _, other := range w.karpenter.claimsOf(pool.Name) {
		node := named[corev1.Node](w.api.objects, other.Status.NodeName)
		if node == nil || is(other, karpv1.ConditionTypeInstanceTerminating) {
			continue
		}
		nodes++
		leaving := !other.DeletionTimestamp.IsZero() || marked(other, node)
		if w.process.cache != nil {
			leaving = !other.DeletionTimestamp.IsZero() && len(w.atWorkOn(other.UID)) > 0
		}
		if other.UID == claim.UID || leaving || also(other) {
			taken = append(taken, other.Name)
		}
	}
	// A node that has gone first takes its place until what Karpenter refills it by is Initialized.
	for _, r := range w.repairsOf(func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodePool == pool.Name && r.Spec.TerminateFirst }) {
		if phase := r.Status.Phase; (phase == v1alpha1.PhaseTerminating || phase == v1alpha1.PhaseReleasing) && w.claimBy(r.Spec.NodeClaim.UID) == nil {
			taken = append(taken, r.Spec.NodeClaim.Name)
		}
	}
	allowed, err := pool.GetAllowedDisruptionsByReason(w.ours, nodes, karpv1.DisruptionReasonUnhealthy)
	w.demand(err == nil, "%s although the budget of NodePool %s cannot be read", what, pool.Name)
	lagging := w.process.cache != nil && strings.HasSuffix(pool.Spec.Disruption.Budgets[0].Nodes, "%")
	w.demand(lagging || len(taken) <= allowed, "%s: %d of %d nodes of NodePool %s are disrupted (%s), and its budget admits %d",
		what, len(taken), nodes, pool.Name, strings.Join(taken, ", "), allowed)
}

// withinWidth reckons the slow start anew, from what the API holds.
func (w *world) withinWidth(claim *karpv1.NodeClaim, started *v1alpha1.NodeRepair) {
	for _, shares := range [][2]string{{"nodepool", karpv1.NodePoolLabelKey}, {"zone", corev1.LabelTopologyZone}, {"instance-type", corev1.LabelInstanceTypeStable}} {
		kind, key := shares[0], shares[1]
		nodes, sick := 0, []*karpv1.NodeClaim{}
		for _, other := range all[karpv1.NodeClaim](w.api.objects) {
			if other.Labels[key] != claim.Labels[key] || other.Status.NodeName == "" || is(other, karpv1.ConditionTypeInstanceTerminating) {
				continue
			}
			if !other.DeletionTimestamp.IsZero() && len(w.atWorkOn(other.UID)) == 0 {
				continue
			}
			nodes++
			if w.fatal(other) != nil {
				sick = append(sick, other)
			}
		}
		shared, suspect := w.sharedFault(nodes, sick)
		if !suspect || !shared(w.reasonsOf(claim)) {
			continue
		}
		domain := kind + "=" + claim.Labels[key]
		in := func(r *v1alpha1.NodeRepair) bool {
			if len(r.Status.Domains) > 0 {
				return slices.Contains(r.Status.Domains, domain)
			}
			if c := w.claimBy(r.Spec.NodeClaim.UID); c != nil {
				return c.Labels[key] == claim.Labels[key]
			}
			return key == karpv1.NodePoolLabelKey && r.Spec.NodePool == claim.Labels[key]
		}
		atWork := len(w.repairsOf(func(r *v1alpha1.NodeRepair) bool {
			reasons := []string{r.Spec.Cause.Reason}
			if c := w.claimBy(r.Spec.NodeClaim.UID); c != nil {
				reasons = append(reasons, w.reasonsOf(c)...)
			}
			return in(r) && w.keepsPlace(r) && shared(reasons)
		}))
		past := w.pastOf(in)
		width := 1 << min(past.proofs, 16)
		w.demand(!w.oursNow().Before(past.pausedUntil()), "NodeRepair %s begins in %s, which is suspect, at once after %d failures in a row", started.Name, domain, past.failures)
		w.demand(atWork <= width, "NodeRepair %s begins: %d repairs are at work in %s, which is suspect (%d of %d) and %d wide", started.Name, atWork, domain, len(sick), nodes, width)
	}
}

// sharedFault says whether so many of a domain's nodes are sick that the fault is taken for one that they share, and
// which reasons are of it: those that by themselves are of too many nodes, or any where there are none such, or where
// the nodes that have none of them are too many as well.
func (w *world) sharedFault(nodes int, sick []*karpv1.NodeClaim) (shared func(reasons []string) bool, suspect bool) {
	limit := intstr.FromString("20%")
	if set := named[v1alpha1.RepairPolicy](w.api.objects, "main").Spec.CorrelatedFailure.MaxUnhealthy; set != nil {
		limit = *set
	}
	percent, _ := intstr.GetScaledValueFromIntOrPercent(&limit, 100, false)
	tooMany := func(n int) bool {
		if limit.Type == intstr.Int {
			return n > limit.IntValue()
		}
		return n*100 > percent*nodes
	}
	count := map[string]int{}
	for _, claim := range sick {
		for _, reason := range w.reasonsOf(claim) {
			count[reason]++
		}
	}
	common := lo.Keys(lo.PickBy(count, func(_ string, n int) bool { return tooMany(n) }))
	others := lo.CountBy(sick, func(claim *karpv1.NodeClaim) bool { return len(lo.Intersect(w.reasonsOf(claim), common)) == 0 })
	whole := len(common) == 0 || tooMany(others)
	return func(reasons []string) bool { return whole || len(lo.Intersect(reasons, common)) > 0 }, nodes >= 3 && tooMany(len(sick))
}

// keepsPlace says whether a repair is at work, or has ended without a proof not longer ago than the proof would have
// taken.
func (w *world) keepsPlace(r *v1alpha1.NodeRepair) bool {
	if !r.Finished() {
		return true
	}
	return r.Status.Phase == v1alpha1.PhaseSucceeded && !provedHealthy(r) && w.oursNow().Before(r.Status.FinishedAt.Add(r.Spec.Replacement.VerifyFor.Duration))
}

func (w *world) claimBy(uid types.UID) *karpv1.NodeClaim {
	claim, _ := lo.Find(all[karpv1.NodeClaim](w.api.objects), func(c *karpv1.NodeClaim) bool { return c.UID == uid })
	return claim
}

// reasonsOf gives the reasons of the Fatal findings about a node that can be trusted.
func (w *world) reasonsOf(claim *karpv1.NodeClaim) []string {
	if w.fatal(claim) == nil {
		return nil
	}
	return lo.Map(named[v1alpha1.NodeHealth](w.api.objects, claim.Status.NodeName).Findings, func(f v1alpha1.Finding, _ int) string { return f.Reason })
}

func (w *world) byEnd() []*v1alpha1.NodeRepair {
	repairs := all[v1alpha1.NodeRepair](w.api.objects)
	end := func(r *v1alpha1.NodeRepair) time.Time {
		if r.Status.FinishedAt == nil {
			return w.now().Add(time.Hour)
		}
		return r.Status.FinishedAt.Time
	}
	slices.SortFunc(repairs, func(a, b *v1alpha1.NodeRepair) int {
		return cmp.Or(end(a).Compare(end(b)), cmp.Compare(a.Name, b.Name))
	})
	return repairs
}

// fatal gives a Fatal finding that can be trusted; nil where there is none.
func (w *world) fatal(claim *karpv1.NodeClaim) *v1alpha1.Finding {
	health := named[v1alpha1.NodeHealth](w.api.objects, claim.Status.NodeName)
	if health == nil || len(health.Findings) == 0 || health.Sources[0].State == v1alpha1.SourceUnavailable {
		return nil
	}
	oldest := slices.MinFunc(health.Findings, func(a, b v1alpha1.Finding) int { return a.Since.Compare(b.Since.Time) })
	return &oldest
}

// sick says whether a node has a fault past its toleration.
func (w *world) sick(claim *karpv1.NodeClaim) bool {
	finding, main := w.fatal(claim), named[v1alpha1.RepairPolicy](w.api.objects, "main")
	return finding != nil && !w.oursNow().Before(finding.Since.Add(main.Spec.Rules[0].Tolerate.Duration))
}

// refusal says why a person does not want the node to be repaired; empty where it may be.
func (w *world) refusal(claim *karpv1.NodeClaim) string {
	said := w.refusals(claim)
	for _, reason := range slices.Sorted(maps.Keys(said)) {
		if until := said[reason]; until.IsZero() || w.oursNow().Before(until) {
			return fmt.Sprintf("it is refused: %s", reason)
		}
	}
	return ""
}

// refusals are all that people have said against the repair of a node, and until when; zero where that has no end.
func (w *world) refusals(claim *karpv1.NodeClaim) map[decision.BlockerReason]time.Time {
	out := map[decision.BlockerReason]time.Time{}
	// Of two that say the same, the one that holds longer counts.
	say := func(reason decision.BlockerReason, until string) {
		at, _ := time.Parse(time.RFC3339, until)
		if was, ok := out[reason]; ok && (was.IsZero() || (!at.IsZero() && at.Before(was))) {
			return
		}
		out[reason] = at
	}
	for _, pause := range all[v1alpha1.RepairPause](w.api.objects) {
		say(decision.BlockerAllPaused, pause.Spec.Until)
	}
	if until, ok := named[karpv1.NodePool](w.api.objects, claim.Labels[karpv1.NodePoolLabelKey]).Annotations[v1alpha1.PauseAnnotation]; ok {
		say(decision.BlockerNodePoolPaused, until)
	}
	if node := named[corev1.Node](w.api.objects, claim.Status.NodeName); node != nil {
		theirs, until := node.Annotations[karpv1.DoNotRepairAnnotationKey], node.Annotations[v1alpha1.VetoAnnotation]
		if theirs != "" || until != "" {
			say(decision.BlockerVeto, until) // side by side, the time is that of both
		}
	}
	switch main := named[v1alpha1.RepairPolicy](w.api.objects, "main"); main.Spec.Mode {
	case v1alpha1.ModePaused:
		say(decision.BlockerPaused, main.Spec.PausedUntil)
	case v1alpha1.ModeDryRun:
		say(decision.BlockerDryRun, "")
	default:
	}
	if named[v1alpha1.RepairPolicy](w.api.objects, "other") != nil {
		say(decision.BlockerPolicyConflict, "")
	}
	return out
}

// check looks at what has to hold over time.
func (w *world) check() {
	p, now := &w.seen, w.now()
	if now.Sub(p.checked) < checkEvery {
		return
	}
	p.checked = now
	k := w.karpenter
	if bad := k.newSick || k.launch == "never" || k.launch == "refused" || k.initialize == "never"; !bad {
		p.badSince = time.Time{}
	} else if p.badSince.IsZero() {
		p.badSince = now
	}
	total := 0
	for _, count := range w.reconciled {
		total += count
	}
	w.demand(total-p.hourCount < reconcilesPerHour, "%d reconciles within an hour: %v", total-p.hourCount, w.reconciled)
	if now.Sub(p.hour) >= time.Hour {
		p.hour, p.hourCount = now, total
	}
	if w.process.dead || w.process.cache != nil {
		p.unheard, p.refused = map[types.UID]time.Time{}, map[types.UID]time.Time{}
		return
	}
	for _, claim := range all[karpv1.NodeClaim](w.api.objects) {
		w.explained(claim)
		w.letGo(claim)
	}
}

// since keeps since when something holds, without a break in which our controller did not live.
func (w *world) since(of map[types.UID]time.Time, uid types.UID, holds bool) time.Duration {
	if !holds {
		delete(of, uid)
		return 0
	}
	if of[uid].IsZero() || of[uid].Before(w.process.started) {
		of[uid] = w.now()
	}
	return w.now().Sub(of[uid])
}

// explained demands a word about every sick node, on its NodeClaim, and looks that are asked for.
func (w *world) explained(claim *karpv1.NodeClaim) {
	sick := w.fatal(claim) != nil && claim.DeletionTimestamp.IsZero()
	told := false
	for _, c := range claim.Status.Conditions {
		told = told || ((c.Type == v1alpha1.ConditionRepairBlocked || c.Type == v1alpha1.ConditionRepairing) && c.Message != "")
	}
	w.demand(w.since(w.seen.unheard, claim.UID, sick && !told) < explainedWithin, "NodeClaim %s is sick, and nothing on it says why it waits", claim.Name)
	d, ok := w.process.board.Get(claim.UID)
	if !ok {
		return
	}
	w.demand(d.Admitted || len(d.Blockers) > 0, "NodeClaim %s waits for no reason", claim.Name)
	for _, b := range d.Blockers {
		w.demand(b.Message != "", "NodeClaim %s waits because of %s, without a word", claim.Name, b.Reason)
		w.demand(b.RetryAt.IsZero() || w.stepped() || w.oursNow().Sub(b.RetryAt) < retryWithin, "NodeClaim %s: %s was to be looked at again at %s", claim.Name, b.Reason, b.RetryAt)
	}
}

// letGo demands that what a person says no to is let go, unless it is too late.
func (w *world) letGo(claim *karpv1.NodeClaim) {
	refused := claim.DeletionTimestamp.IsZero() && w.refusal(claim) != "" && slices.ContainsFunc(w.atWorkOn(claim.UID), func(r *v1alpha1.NodeRepair) bool {
		return r.Status.Phase != v1alpha1.PhaseReleasing && r.Status.Phase != v1alpha1.PhaseVerifying
	})
	w.demand(w.since(w.seen.refused, claim.UID, refused) < letGoWithin, "NodeClaim %s is still held by a repair although %s", claim.Name, w.refusal(claim))
}

const (
	// repairedWithin is how long it may take at most until nothing is left to do, once the world lets it. Twelve sick
	// nodes one after the other, with the longest pauses in between, take about three hours.
	repairedWithin = 8 * time.Hour
	// quietFor leaves time for the janitor, and for Karpenter's own last doings.
	quietFor = 6 * time.Minute
)

// comesToRest lets the world be kind from now on, and demands that all that can be repaired is, in bounded time, and
// that nothing is left behind.
func (w *world) comesToRest() {
	k := w.karpenter
	k.launch, k.initialize, k.newSick = "", "", false
	w.crashIn, w.races = 0, nil
	w.do(step{Do: "pdb", To: "off"})
	for _, pool := range all[karpv1.NodePool](w.api.objects) {
		if n, err := pool.GetAllowedDisruptionsByReason(w.ours, 10, karpv1.DisruptionReasonUnhealthy); err != nil || n == 0 {
			change(w.api, actorPeople, pool, func(p *karpv1.NodePool) { p.Spec.Disruption.Budgets = budgetsOf("1") })
		}
	}
	deadline := w.now().Add(repairedWithin)
	passes, changes := w.reconciled[loopDisruption], w.seen.changes
	for rested := time.Duration(0); rested < quietFor; {
		w.pass(time.Minute)
		if open := w.open(); open != "" {
			w.demand(w.now().Before(deadline), "after %s in a kind world: %s", repairedWithin, open)
			rested, passes, changes = 0, w.reconciled[loopDisruption], w.seen.changes
			continue
		}
		rested += time.Minute
	}
	// One every ten seconds, and one after each change that is not our own.
	passes, changes = w.reconciled[loopDisruption]-passes, w.seen.changes-changes
	w.demand(passes <= changes+60, "%d passes in %s of rest, in which others wrote %d times", passes, quietFor, changes)
	w.nothingIsLeft()
}

// open says what is still to be done; empty where everything is repaired, or waits with a reason that is true.
func (w *world) open() string {
	for _, r := range w.repairsOf(func(r *v1alpha1.NodeRepair) bool { return !r.Finished() }) {
		return fmt.Sprintf("NodeRepair %s is in phase %s: %s", r.Name, r.Status.Phase, r.Status.Message)
	}
	for _, claim := range all[karpv1.NodeClaim](w.api.objects) {
		if !claim.DeletionTimestamp.IsZero() || w.fatal(claim) == nil {
			continue
		}
		d, ok := w.process.board.Get(claim.UID)
		if !ok {
			return fmt.Sprintf("nothing is decided about NodeClaim %s, which is sick", claim.Name)
		}
		if !slices.ContainsFunc(d.Blockers, func(b decision.Blocker) bool { return w.lasts(claim, b.Reason) }) {
			return fmt.Sprintf("NodeClaim %s is sick, and nothing that lasts stands in the way: %v", claim.Name, d.Blockers)
		}
	}
	return ""
}

// lasts says whether a reason is one that only people can change, or a day's time, and is true.
func (w *world) lasts(claim *karpv1.NodeClaim, reason decision.BlockerReason) bool {
	pool := named[karpv1.NodePool](w.api.objects, claim.Labels[karpv1.NodePoolLabelKey])
	main := named[v1alpha1.RepairPolicy](w.api.objects, "main")
	switch reason {
	case decision.BlockerVeto, decision.BlockerAllPaused, decision.BlockerNodePoolPaused, decision.BlockerPaused, decision.BlockerDryRun, decision.BlockerPolicyConflict:
		until, said := w.refusals(claim)[reason]
		return said && until.IsZero()
	case decision.BlockerNodePoolStatic:
		return pool.Spec.Replicas != nil && main.Spec.Replacement.Strategy != v1alpha1.StrategyTerminateFirstWhereNeeded
	case decision.BlockerNodePoolLimits:
		limit := pool.Spec.Limits["nodes"]
		return int64(len(w.karpenter.claimsOf(pool.Name))) >= limit.Value() && main.Spec.Replacement.Strategy != v1alpha1.StrategyTerminateFirstWhereNeeded
	case decision.BlockerReplacementFailed:
		return w.failuresOf(claim) >= int(*main.Spec.Replacement.Attempts)
	default:
		return false
	}
}

// nothingIsLeft looks for what repairs have left behind.
func (w *world) nothingIsLeft() {
	for _, node := range all[corev1.Node](w.api.objects) {
		for _, key := range []string{v1alpha1.FenceOwnerAnnotation, v1alpha1.FenceRestoreAnnotation, v1alpha1.GuardedAnnotation} {
			w.demand(node.Annotations[key] == "", "Node %s still has the annotation %s", node.Name, key)
		}
		w.demand(!lo.ContainsBy(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.UnhealthyTaintKey }), "Node %s still has our taint", node.Name)
		w.demand(node.Annotations[karpv1.DoNotDisruptAnnotationKey] == w.own[node.UID], "Node %s has %s=%q, and people wrote %q",
			node.Name, karpv1.DoNotDisruptAnnotationKey, node.Annotations[karpv1.DoNotDisruptAnnotationKey], w.own[node.UID])
	}
	for _, claim := range all[karpv1.NodeClaim](w.api.objects) {
		w.demand(claim.Annotations[karpv1.DoNotDisruptAnnotationKey] == "", "NodeClaim %s is still protected", claim.Name)
	}
}
