package decision

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Stop is a person's word against repairs: of one node (a veto), of a NodePool, under a policy, or of all.
type Stop struct {
	// What it is, for example "annotation karpenter.sh/do-not-repair on Node a".
	What string
	// By is who set it, as far as the API tells: the field manager. Empty where it does not.
	By string
	// Why, in the words of who set it; empty where nothing was said.
	Why string
	// Zones that it is for; empty: it is for every zone.
	Zones []string
	// Until is when it ends by itself; zero where it does not.
	Until time.Time
	// Problem is what is wrong with how it is written, and what to write instead. Such a stop has no end.
	Problem string
	// LiftedBy is the command that lifts it.
	LiftedBy string
}

// Active says whether the stop holds.
func (s Stop) Active(now time.Time) bool { return s.Until.IsZero() || s.Until.After(now) }

// StopUntil reads the time at which a stop ends. Empty text is a stop without end; so is one that cannot be read, of
// which problem says what to write instead, since in doubt nothing is done.
func StopUntil(field, text string) (until time.Time, problem string) {
	if text == "" {
		return time.Time{}, ""
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.IsZero() {
		return time.Time{}, fmt.Sprintf("%s %q is no time, so it has no end: write for example \"2030-01-31T18:00:00Z\"", field, Clip(text))
	}
	return at, ""
}

// Clip bounds what is repeated of a value that somebody wrote: 64 characters.
func Clip(text string) string {
	const most = 64
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// Sentence says what stops, for how long, by whom and why.
func (s Stop) Sentence() string {
	var b strings.Builder
	b.WriteString(s.What)
	if !s.Until.IsZero() {
		b.WriteString(" until " + stamp(s.Until))
	}
	if s.By != "" {
		b.WriteString(", set by " + s.By)
	}
	if s.Why != "" {
		b.WriteString(": " + s.Why)
	}
	if s.Problem != "" {
		b.WriteString("; " + s.Problem)
	}
	return b.String()
}

// SetBy says which client wrote a field or an annotation last, and when, as far as the API keeps track: the field
// manager, for example "kubectl-annotate". Empty where nobody is named. An empty field stands for the whole object.
func SetBy(managers []metav1.ManagedFieldsEntry, field string) string {
	var newest *metav1.ManagedFieldsEntry
	for i := range managers {
		entry := &managers[i]
		if entry.Manager == "" || !Manages(entry, field) {
			continue
		}
		if newest == nil || newest.Time == nil || (entry.Time != nil && newest.Time.Before(entry.Time)) {
			newest = entry
		}
	}
	switch {
	case newest == nil:
		return ""
	case newest.Time == nil:
		return Clip(newest.Manager)
	default:
		return Clip(newest.Manager) + " at " + stamp(newest.Time.Time)
	}
}

// Manages says whether a field or an annotation is among those of a field manager. The name alone is looked for, since
// none of those that we ask for occurs twice in an object.
func Manages(entry *metav1.ManagedFieldsEntry, field string) bool {
	return field == "" || (entry.FieldsV1 != nil && bytes.Contains(entry.FieldsV1.GetRawBytes(), []byte(`"f:`+field+`":`)))
}

// Holding gives the stops that hold at now, in their order.
func Holding(stops []Stop, now time.Time) []Stop {
	var out []Stop
	for _, stop := range stops {
		if stop.Active(now) {
			out = append(out, stop)
		}
	}
	return out
}

// blockersOf gives a blocker for each stop that holds.
func blockersOf(stops []Stop, now time.Time, reason BlockerReason, verb string) []Blocker {
	var out []Blocker
	for _, stop := range Holding(stops, now) {
		out = append(out, Blocker{Reason: reason, Message: verb + " " + stop.Sentence(), RetryAt: stop.Until, LiftedBy: stop.LiftedBy})
	}
	return out
}

// gateAllPaused closes while somebody has stopped all repairs.
func gateAllPaused(ix *index, _ *candidate) []Blocker { return ofAll(ix.in) }

// gateZonePaused closes while somebody has stopped the repairs in the node's zone.
func gateZonePaused(ix *index, c *candidate) []Blocker { return ofZone(ix.in, c.node.Zone) }

func ofAll(in Input) []Blocker {
	everywhere := lo.Filter(in.Pauses, func(s Stop, _ int) bool { return len(s.Zones) == 0 })
	return blockersOf(everywhere, in.Now, BlockerAllPaused, "all repairs are stopped by")
}

func ofZone(in Input, zone string) []Blocker {
	here := lo.Filter(in.Pauses, func(s Stop, _ int) bool { return slices.Contains(s.Zones, zone) })
	return blockersOf(here, in.Now, BlockerZonePaused, fmt.Sprintf("repairs in zone %s are stopped by", zone))
}

// PausedZones gives the zones in which nothing is to be repaired or launched at now, in order.
func PausedZones(pauses []Stop, now time.Time) []string {
	zones := lo.FlatMap(Holding(pauses, now), func(s Stop, _ int) []string { return s.Zones })
	slices.Sort(zones)
	return slices.Compact(zones)
}

// gatePoolPaused closes while somebody has stopped the repairs of the NodePool.
func gatePoolPaused(ix *index, c *candidate) []Blocker {
	return blockersOf(c.pool.pauses, ix.in.Now, BlockerNodePoolPaused, "repairs of the NodePool are stopped by")
}

// gateVeto closes while somebody keeps this node from being repaired.
func gateVeto(ix *index, c *candidate) []Blocker {
	return blockersOf(c.node.Vetoes, ix.in.Now, BlockerVeto, "vetoed by")
}

// pausedBy gives what Paused of a policy means at now: a blocker, or nothing once its end has come.
func pausedBy(policy *v1alpha1.RepairPolicy, now time.Time) []Blocker {
	until, problem := StopUntil("pausedUntil", policy.Spec.PausedUntil)
	stop := Stop{
		What: fmt.Sprintf("RepairPolicy %q is Paused", policy.Name), By: SetBy(policy.ManagedFields, "mode"), Until: until, Problem: problem,
		LiftedBy: fmt.Sprintf(`kubectl patch repairpolicy %s --type merge -p '{"spec":{"mode":"Enforce","pausedUntil":null}}'`, policy.Name),
	}
	if !stop.Active(now) {
		return nil
	}
	return []Blocker{{Reason: BlockerPaused, Message: stop.Sentence(), RetryAt: until, LiftedBy: stop.LiftedBy}}
}

// ModeAt gives the mode of a policy at now: Paused counts as Enforce once its end has come.
func ModeAt(policy *v1alpha1.RepairPolicy, now time.Time) v1alpha1.Mode {
	if policy.Spec.Mode == v1alpha1.ModePaused && len(pausedBy(policy, now)) == 0 {
		return v1alpha1.ModeEnforce
	}
	return policy.Spec.Mode
}

// Stops gives what people have said against the repair of a NodeClaim, and nothing else: pauses and vetoes that hold. A
// NodeClaim that is not in the Input has only those of all.
func Stops(in Input, nodeClaim types.UID) []Blocker {
	out := ofAll(in)
	for i := range in.Nodes {
		node := &in.Nodes[i]
		if node.NodeClaimUID != nodeClaim {
			continue
		}
		out = append(out, ofZone(in, node.Zone)...)
		out = append(out, blockersOf(in.NodePools[node.NodePool].Pauses, in.Now, BlockerNodePoolPaused, "repairs of the NodePool are stopped by")...)
		out = append(out, blockersOf(node.Vetoes, in.Now, BlockerVeto, "vetoed by")...)
		if policy := node.Verdict.Policy; policy != nil && policy.Spec.Mode == v1alpha1.ModePaused {
			out = append(out, pausedBy(policy, in.Now)...)
		}
	}
	return out
}
