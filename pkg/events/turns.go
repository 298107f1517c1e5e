// Package events lists every event that the controller writes, and bounds how many it writes.
package events

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Reasons of events that are not made of a category or of a phase.
const (
	ReasonNotObserved          = "NotObserved"
	ReasonUnhealthy            = "Unhealthy"
	ReasonRecovered            = "Recovered"
	ReasonRepairBlocked        = "RepairBlocked"
	ReasonRepairStarted        = "RepairStarted"
	ReasonReplacementWithdrawn = "ReplacementWithdrawn"
	ReasonDomainSuspect        = "DomainSuspect"
	ReasonDomainCleared        = "DomainCleared"
	ReasonRepairsPaused        = "RepairsPaused"
	ReasonRepairsResumed       = "RepairsResumed"
	ReasonNodeNotFound         = "NodeNotFound"
)

// Kinds that events are about.
const (
	nodeClaim  = "NodeClaim"
	node       = "Node"
	nodePool   = "NodePool"
	nodeHealth = "NodeHealth"
)

// Turn is one kind of event.
type Turn struct {
	Reason string
	// Type is Normal or Warning.
	Type string
	// About are the kinds of objects that hear of it.
	About []string
	// When it is written, and what its note says.
	When, Note string
}

// Turns are all events, in the order in which they come.
var Turns = append(append(append(facts(), Turn{
	Reason: ReasonNotObserved, Type: corev1.EventTypeWarning, About: []string{nodeClaim, node},
	When: "conditions that were True or False are Unknown now: no source can tell any more. One event for all of them",
	Note: "the conditions, and why their sources cannot see",
}, Turn{
	Reason: ReasonUnhealthy, Type: corev1.EventTypeWarning, About: []string{nodeClaim, node},
	When: "a finding's toleration has passed: autorepair.sh/Unhealthy is True now",
	Note: "what was found, by which rule it counts, and what will be done",
}, Turn{
	Reason: ReasonRecovered, Type: corev1.EventTypeNormal, About: []string{nodeClaim, node},
	When: "autorepair.sh/Unhealthy has gone, and the node stays",
	Note: "that no Fatal finding is past its toleration",
}, Turn{
	Reason: ReasonRepairBlocked, Type: corev1.EventTypeNormal, About: []string{nodeClaim, node},
	When: "autorepair.sh/RepairBlocked has another first blocker; its reason is the action of the event",
	Note: "every blocker, and who can lift it",
}, Turn{
	Reason: ReasonRepairStarted, Type: corev1.EventTypeNormal, About: []string{node, nodePool},
	When: "a NodeRepair has taken its first step",
	Note: "the node, the action, the cause and the policy",
}), phases()...), Turn{
	Reason: ReasonReplacementWithdrawn, Type: corev1.EventTypeWarning, About: []string{nodeClaim, nodePool},
	When: "a replacement was given up: it did not launch or become Initialized in time, came up sick, or is not needed any more",
	Note: "the replacement, and why",
}, Turn{
	Reason: ReasonDomainSuspect, Type: corev1.EventTypeWarning, About: []string{nodePool},
	When: "so many nodes of a domain (NodePool, zone, instance type, image) are sick that the fault is taken for one that they share; each NodePool with a sick node there hears of it. A restart of the controller tells it anew",
	Note: "the domain, how many of its nodes are sick, and how many repairs it may have at a time",
}, Turn{
	Reason: ReasonDomainCleared, Type: corev1.EventTypeNormal, About: []string{nodePool},
	When: "a domain is no longer suspect",
	Note: "the domain",
}, Turn{
	Reason: ReasonRepairsPaused, Type: corev1.EventTypeNormal, About: []string{nodePool},
	When: "the annotation autorepair.sh/pause has stopped the repairs of the NodePool",
	Note: "who set it, and until when it holds",
}, Turn{
	Reason: ReasonRepairsResumed, Type: corev1.EventTypeNormal, About: []string{nodePool},
	When: "that stop has been lifted, or its time has come",
	Note: "that repairs go on",
}, Turn{
	Reason: ReasonNodeNotFound, Type: corev1.EventTypeWarning, About: []string{nodeHealth},
	When: "a NodeHealth that no Node owns bears the name of no Node",
	Note: "that it counts for nothing",
})

// FactReason is the reason of the event about a condition that turned: of Kernel, KernelReady or KernelNotReady.
func FactReason(category v1alpha1.Category, holds bool) string {
	if holds {
		return string(category) + "Ready"
	}
	return string(category) + "NotReady"
}

func facts() []Turn {
	var out []Turn
	for _, category := range health.Categories {
		conditionType := health.ConditionType(category)
		out = append(out, Turn{
			Reason: FactReason(category, false), Type: corev1.EventTypeWarning, About: []string{nodeClaim, node},
			When: conditionType + " is False now", Note: "every finding of the category, with its start and source",
		}, Turn{
			Reason: FactReason(category, true), Type: corev1.EventTypeNormal, About: []string{nodeClaim, node},
			When: conditionType + " is True again", Note: "who looks, and that nothing is found",
		})
	}
	return out
}

// PhaseReason is the reason of the event about a phase of a NodeRepair that was reached.
func PhaseReason(phase v1alpha1.Phase) string { return "Repair" + string(phase) }

// reached says when a phase is.
var reached = []struct {
	phase v1alpha1.Phase
	when  string
	about []string
}{
	{v1alpha1.PhaseFencing, "the node is about to be fenced off from new pods", []string{nodeClaim}},
	{v1alpha1.PhaseProvisioning, "the node is fenced, and a replacement is being made", []string{nodeClaim}},
	{v1alpha1.PhaseWaiting, "the replacement has launched, or none is needed; the node is looked at once more before it goes", []string{nodeClaim}},
	{v1alpha1.PhaseTerminating, "the NodeClaim is deleted; Karpenter drains the node", []string{nodeClaim, node}},
	{v1alpha1.PhaseRebooting, "Karpenter is asked to drain and reboot the node", []string{nodeClaim, node}},
	{v1alpha1.PhaseReleasing, "the node is gone, or has been rebooted", []string{nodeClaim}},
	{v1alpha1.PhaseVerifying, "the replacement, or the rebooted node, has to prove healthy", []string{nodeClaim}},
	{v1alpha1.PhaseLettingGo, "the repair is given up: the fence is undone and an unused replacement withdrawn", []string{nodeClaim, node}},
	{v1alpha1.PhaseSucceeded, "the repair has ended well", []string{nodeClaim, node, nodePool}},
	{v1alpha1.PhaseFailed, "the repair has ended in vain", []string{nodeClaim, node, nodePool}},
	{v1alpha1.PhaseCanceled, "the node has recovered, or a person has stopped the repair, in time", []string{nodeClaim, node, nodePool}},
	{v1alpha1.PhaseYielded, "Karpenter or a person took the node first", []string{nodeClaim, node, nodePool}},
}

func phases() []Turn {
	var out []Turn
	for _, r := range reached {
		t := Turn{
			Reason: PhaseReason(r.phase), Type: corev1.EventTypeNormal, About: r.about,
			When: "a NodeRepair is " + string(r.phase) + ": " + r.when, Note: "what happens next, or why it ended",
		}
		if r.phase == v1alpha1.PhaseFailed {
			t.Type = corev1.EventTypeWarning
		}
		if len(r.about) == 3 {
			t.When += ". The Node hears of it while it stands"
		}
		out = append(out, t)
	}
	return out
}

// Lookup finds the turn of a reason.
func Lookup(reason string) (Turn, bool) {
	for _, turn := range Turns {
		if turn.Reason == reason {
			return turn, true
		}
	}
	return Turn{}, false
}

// Markdown is the table of all events, as docs/events.md has it.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| reason | type | about | when | what the note says |\n|---|---|---|---|---|\n")
	for _, t := range Turns {
		b.WriteString("| `" + t.Reason + "` | " + t.Type + " | " + strings.Join(t.About, ", ") + " | " + t.When + " | " + t.Note + " |\n")
	}
	return b.String()
}
