package decision

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

func TestDecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		got := Decide(in)
		requireOneAnswerEach(t, in, got)
		requireWithinBudgets(t, in, got)
		requireWithinWidths(t, in, got)
		requireSameForAnyOrder(t, in, got)
		requireNextPassStartsNothingTwice(t, in, got)
		requireRecoveredAreLeftAlone(t, in, got)
	})
}

// Every sick node has a decision, the admitted have no blocker, and all others have one; nothing else has a decision.
func requireOneAnswerEach(t *rapid.T, in Input, got Result) {
	seen := map[string]bool{}
	for i, d := range got.Decisions {
		require.False(t, seen[d.Node.NodeClaim])
		seen[d.Node.NodeClaim] = true
		require.Equal(t, d.Admitted, len(d.Blockers) == 0)
		require.NotEmpty(t, d.Node.Verdict.Judgements)
		if d.Admitted {
			require.True(t, d.Node.Verdict.Deciding != nil && (d.Node.Verdict.Unhealthy || d.Node.Requested))
			pauses := slices.DeleteFunc(slices.Clone(in.Pauses), func(s Stop) bool { return len(s.Zones) > 0 && !slices.Contains(s.Zones, d.Node.Zone) })
			for _, stops := range [][]Stop{pauses, in.NodePools[d.Node.NodePool].Pauses, d.Node.Vetoes} {
				require.False(t, slices.ContainsFunc(stops, func(s Stop) bool { return s.Active(in.Now) }), "somebody has stopped it")
			}
			require.NotEqual(t, v1alpha1.ModePaused, ModeAt(d.Node.Verdict.Policy, in.Now))
			require.False(t, d.Node.Deleting || d.Node.Terminated)
		}
		if i > 0 && got.Decisions[i-1].Admitted == d.Admitted {
			require.GreaterOrEqual(t, got.Decisions[i-1].Score, d.Score)
		}
		for _, b := range d.Blockers {
			require.NotEmpty(t, b.Message)
			if !b.RetryAt.IsZero() {
				require.True(t, b.RetryAt.After(in.Now), "%s asks to be looked at again in the past", b.Reason)
				require.False(t, got.NextChange.IsZero() || got.NextChange.After(b.RetryAt))
			}
		}
	}
	for _, n := range in.Nodes {
		if n.Verdict.Deciding != nil && !n.Deleting && !n.Terminated {
			require.True(t, seen[n.NodeClaim], "%s is sick and nobody says a word about it", n.NodeClaim)
		}
	}
}

// What is disrupted after the pass, by anyone, is within each budget, or nothing was added to it.
func requireWithinBudgets(t *rapid.T, in Input, got Result) {
	started := map[string]bool{}
	for _, name := range admitted(got) {
		started[name] = true
	}
	for name, p := range in.NodePools {
		size, disrupted, added := 0, 0, 0
		for _, n := range in.Nodes {
			held, weReboot := false, false
			for i := range in.Repairs {
				if r := &in.Repairs[i]; r.Spec.NodeClaim.UID == n.NodeClaimUID && r.HoldsBudget() {
					held, weReboot = true, weReboot || r.Spec.Action == v1alpha1.ActionReboot
				}
			}
			if n.NodePool != name || n.Terminated || (!n.Initialized && !n.Rebooting && !weReboot) {
				continue
			}
			size++
			switch {
			case started[n.NodeClaim]:
				added++
			case held || n.Deleting || n.Rebooting || n.KarpenterDisrupting:
				disrupted++
			}
		}
		limit := p.Object.MustGetAllowedDisruptions(fixedClock{now: in.Now}, size, karpv1.DisruptionReasonUnhealthy)
		if added > 0 {
			require.LessOrEqual(t, disrupted+added, limit, "NodePool %s of %d", name, size)
		}
	}
}

// A domain that is suspect to a policy starts no more repairs under it than the width leaves room for. Repairs that a
// person asked for, or whose policies do not suspect it, go through.
func requireWithinWidths(t *rapid.T, in Input, got Result) {
	ix := newIndex(in)
	held, beside := map[domain]map[threshold]int{}, map[domain]int{}
	for _, d := range got.Decisions {
		if !d.Admitted || isRequested(&d.Node) {
			continue
		}
		for _, dom := range domainsOf(&d.Node) {
			limit, state := thresholdOf(&d.Node), ix.domain(dom)
			if !limit.suspects(state) {
				continue
			}
			w := state.waveOf(limit)
			if !w.has(&d.Node) {
				beside[dom]++
				require.False(t, limit.exceeded(beside[dom], state.nodes), "%s lets more through beside the wave than without it", dom)
				continue
			}
			if _, ok := held[dom]; !ok {
				held[dom] = map[threshold]int{}
			}
			held[dom][limit]++
			require.False(t, state.record.pausedUntil().After(in.Now))
			require.LessOrEqual(t, w.repairing+held[dom][limit], state.record.width(), "%s", dom)
		}
	}
}

func requireSameForAnyOrder(t *rapid.T, in Input, got Result) {
	shuffled := in
	shuffled.Nodes = rapid.Permutation(in.Nodes).Draw(t, "nodes")
	shuffled.Repairs = rapid.Permutation(in.Repairs).Draw(t, "repairs")
	require.Equal(t, got, Decide(shuffled))
}

// Once the repairs of a pass are committed the next pass starts none of them again, and nothing beside them.
func requireNextPassStartsNothingTwice(t *rapid.T, in Input, got Result) {
	names := admitted(got)
	for _, name := range names {
		d := decisionOf(got, name)
		in.Repairs = append(in.Repairs, repair(name, "", named("next-"+name), func(r *v1alpha1.NodeRepair) {
			r.Spec.NodePool, r.Spec.Action, r.Spec.TerminateFirst = d.Node.NodePool, d.Action, d.TerminateFirst
			r.Spec.Replacements = int32(min(d.Node.ReschedulablePods, 1))
			r.Status.Domains = Domains(d.Node)
			r.Spec.Cause.Reason = d.Node.Verdict.Deciding.Finding.Reason
			r.CreationTimestamp = metaAt(in.Now)
		}))
	}
	require.Empty(t, admitted(Decide(in)))
}

// A node that has recovered is never repaired, whatever else holds.
func requireRecoveredAreLeftAlone(t *rapid.T, in Input, got Result) {
	names := admitted(got)
	if len(names) == 0 {
		return
	}
	well := rapid.SampledFrom(names).Draw(t, "recovered")
	nodes := make([]Node, 0, len(in.Nodes))
	for _, n := range in.Nodes {
		if n.NodeClaim == well {
			n.Verdict = diagnosis.Verdict{Policy: n.Verdict.Policy}
		}
		nodes = append(nodes, n)
	}
	in.Nodes = nodes
	require.Nil(t, decisionOf(Decide(in), well))
}

func drawInput(t *rapid.T) Input {
	in := input(nil)
	in.Karpenter.RebootSupported = rapid.Bool().Draw(t, "reboots")
	in.ExecutorReboots = rapid.Bool().Draw(t, "executor")
	in.Launching = rapid.IntRange(0, 6).Draw(t, "launching")
	for _, name := range []string{"default", "other"} {
		options := []func(*karpv1.NodePool){budgetOf(rapid.SampledFrom([]string{"0", "1", "3", "20%", "100%"}).Draw(t, "budget"))}
		if rapid.IntRange(0, 3).Draw(t, "limited") == 0 {
			options = append(options, cpuLimit("40", "32"))
		}
		in.NodePools[name] = NodePool{Object: pool(name, options...), Pauses: drawStops(t, 10)}
	}
	in.Pauses = drawStops(t, 10)
	for i := range in.Pauses {
		in.Pauses[i].Zones = rapid.SampledFrom([][]string{nil, {"z1"}, {"z1", "z2"}}).Draw(t, "zones")
	}
	for i := range rapid.IntRange(0, 14).Draw(t, "size") {
		in.Nodes = append(in.Nodes, drawNode(t, fmt.Sprintf("n%d", i)))
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "history") {
		in.Repairs = append(in.Repairs, drawRepair(t, i, in.Nodes))
	}
	return in
}

// drawStops gives stops that have no end, one to come, or one that has come.
func drawStops(t *rapid.T, oneIn int) []Stop {
	if rapid.IntRange(1, oneIn).Draw(t, "stopped") != oneIn {
		return nil
	}
	return []Stop{{What: "a stop", Until: rapid.SampledFrom([]time.Time{{}, noon.Add(time.Minute), noon, ago(time.Minute)}).Draw(t, "until")}}
}

func drawNode(t *rapid.T, name string) Node {
	flip := func(label string, oneIn int) bool { return rapid.IntRange(1, oneIn).Draw(t, label) == oneIn }
	n := node(name,
		inPool(rapid.SampledFrom([]string{"default", "default", "other", ""}).Draw(t, "pool")),
		inZone(rapid.SampledFrom([]string{"", "z1", "z2"}).Draw(t, "zone")))
	n.Initialized, n.Deleting = !flip("uninitialized", 8), flip("deleting", 8)
	n.KarpenterDisrupting, n.Rebooting = flip("disrupting", 8), flip("rebooting", 10)
	n.Terminated = n.Deleting && flip("terminated", 2)
	n.ProviderReboots = !flip("provider", 4)
	n.ReschedulablePods = rapid.IntRange(0, 2).Draw(t, "pods")
	n.DisruptionCost = float64(rapid.IntRange(0, 2).Draw(t, "cost"))
	n.Vetoes = drawStops(t, 8)
	if flip("well", 2) {
		return n
	}
	p := policy(rapid.SampledFrom([]func(*v1alpha1.RepairPolicy){
		func(*v1alpha1.RepairPolicy) {}, open, terminatingFirst, inMode(v1alpha1.ModePaused), maxUnhealthy("1"),
		func(p *v1alpha1.RepairPolicy) { inMode(v1alpha1.ModePaused)(p); pausedUntil("2026-01-02T11:00:00Z")(p) },
	}).Draw(t, "policy"))
	j := judgement(
		eligibleAgo(time.Duration(rapid.IntRange(-30, 90).Draw(t, "eligible"))*time.Minute),
		ranked(int32(rapid.IntRange(0, 3).Draw(t, "priority"))),
		sickOf(rapid.SampledFrom([]string{"InterfaceNotUp", "InterfaceNotUp", "InterfaceNotUp", "KernelDeadlock", "DiskSlow"}).Draw(t, "reason")),
		acting(rapid.SampledFrom([]v1alpha1.Action{v1alpha1.ActionReplace, v1alpha1.ActionReplace, v1alpha1.ActionReboot, v1alpha1.ActionNone}).Draw(t, "action")))
	if flip("ruleless", 10) {
		ruleless(&j)
	}
	if flip("requested", 10) {
		requesting(&j)
	}
	n.Verdict = verdict(p, j)
	return n
}

func drawRepair(t *rapid.T, i int, nodes []Node) v1alpha1.NodeRepair {
	name := fmt.Sprintf("gone-%d", i)
	var domains []string
	if len(nodes) > i {
		name, domains = nodes[i].NodeClaim, Domains(nodes[i])
	}
	r := repair(name, rapid.SampledFrom([]v1alpha1.Phase{
		"", v1alpha1.PhaseWaiting, v1alpha1.PhaseTerminating, v1alpha1.PhaseVerifying, v1alpha1.PhaseSucceeded, v1alpha1.PhaseFailed, v1alpha1.PhaseCanceled,
	}).Draw(t, "phase"), named(fmt.Sprintf("r%d", i)))
	r.Status.Domains = domains
	r.Spec.Cause.Reason = rapid.SampledFrom([]string{"", "InterfaceNotUp", "KernelDeadlock"}).Draw(t, "cause")
	if rapid.IntRange(0, 3).Draw(t, "rebooted") == 0 {
		r.Spec.Action = v1alpha1.ActionReboot
		if r.Status.Phase == v1alpha1.PhaseTerminating {
			r.Status.Phase = v1alpha1.PhaseRebooting
		}
	}
	if len(nodes) > i {
		r.Spec.NodePool = nodes[i].NodePool
	}
	if r.Finished() {
		endedAgo(time.Duration(rapid.IntRange(0, 90).Draw(t, "ended")) * time.Minute)(&r)
	}
	return r
}

// What a re-check lets through right before the deletes never exceeds a budget, however many ask at once.
func TestRecheckNeverExceedsTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 4).Draw(t, "limit")
		in := input(nil, withPool(budgetOf(fmt.Sprint(limit))))
		disrupted := 0
		for i := range rapid.IntRange(0, 8).Draw(t, "size") {
			name := fmt.Sprintf("n%d", i)
			n := sick(name)
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				n.Deleting = true
			case 1:
				n.KarpenterDisrupting = true
			default:
				in.Repairs = append(in.Repairs, repair(name, v1alpha1.PhaseWaiting,
					committedAgo(time.Duration(rapid.IntRange(0, 3).Draw(t, "age"))*time.Minute)))
				in.Nodes = append(in.Nodes, n)
				continue
			}
			disrupted++
			in.Nodes = append(in.Nodes, n)
		}
		through := 0
		for _, r := range in.Repairs {
			if len(Recheck(in, r.Spec.NodeClaim.UID)) == 0 {
				through++
			}
		}
		require.Equal(t, min(len(in.Repairs), max(0, limit-disrupted)), through)
	})
}
