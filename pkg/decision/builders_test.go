package decision

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// noon is the moment of every Input here; the toleration of sick nodes passed at half past eleven.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time        { return noon.Add(-d) }
func metaAgo(d time.Duration) *metav1.Time { return new(metaAt(ago(d))) }
func metaAt(t time.Time) metav1.Time       { return metav1.NewTime(t) }

func policy(options ...func(*v1alpha1.RepairPolicy)) *v1alpha1.RepairPolicy {
	p := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	for _, option := range options {
		option(p)
	}
	return p
}

func inMode(mode v1alpha1.Mode) func(*v1alpha1.RepairPolicy) {
	return func(p *v1alpha1.RepairPolicy) { p.Spec.Mode = mode }
}

// resume is the command that ends a pause of the policy.
const resume = `kubectl patch repairpolicy default --type merge -p '{"spec":{"mode":"Enforce","pausedUntil":null}}'`

func pausedUntil(text string) func(*v1alpha1.RepairPolicy) {
	return func(p *v1alpha1.RepairPolicy) { p.Spec.PausedUntil = text }
}

func terminatingFirst(p *v1alpha1.RepairPolicy) {
	p.Spec.Replacement.Strategy = v1alpha1.StrategyTerminateFirstWhereNeeded
}

func maxUnhealthy(value string) func(*v1alpha1.RepairPolicy) {
	return func(p *v1alpha1.RepairPolicy) { p.Spec.CorrelatedFailure.MaxUnhealthy = new(intstr.Parse(value)) }
}

// judgement of a fault that began an hour ago and was tolerated for half of it.
func judgement(options ...func(*diagnosis.Judgement)) diagnosis.Judgement {
	j := diagnosis.Judgement{
		Finding: v1alpha1.Finding{
			Source: "interfaces", Reason: "InterfaceNotUp", Subject: "eth0", Category: v1alpha1.CategoryNetworking,
			Severity: v1alpha1.SeverityFatal, Since: *metaAgo(time.Hour),
		},
		Policy: "default", Rule: "network", Action: v1alpha1.ActionReplace, EligibleAt: ago(30 * time.Minute),
	}
	for _, option := range options {
		option(&j)
	}
	return j
}

func eligibleAgo(d time.Duration) func(*diagnosis.Judgement) {
	return func(j *diagnosis.Judgement) { j.EligibleAt = ago(d) }
}

func ranked(priority int32) func(*diagnosis.Judgement) {
	return func(j *diagnosis.Judgement) { j.Priority = priority }
}

func acting(action v1alpha1.Action) func(*diagnosis.Judgement) {
	return func(j *diagnosis.Judgement) { j.Action = action }
}

func bounded(d time.Duration) func(*diagnosis.Judgement) {
	return func(j *diagnosis.Judgement) { j.DrainBound = &d }
}

func ruleless(j *diagnosis.Judgement) {
	*j = diagnosis.Judgement{Finding: j.Finding}
}

func requesting(j *diagnosis.Judgement) {
	j.Finding.Category, j.Finding.Reason, j.Finding.Subject = v1alpha1.CategoryRequest, "RepairRequested", "Replace"
	j.Rule, j.EligibleAt = diagnosis.RuleRepairRequested, j.Finding.Since.Time
}

// verdict in which the first judgement decides, if it acts.
func verdict(p *v1alpha1.RepairPolicy, judgements ...diagnosis.Judgement) diagnosis.Verdict {
	v := diagnosis.Verdict{Policy: p, Judgements: judgements}
	if len(judgements) > 0 && judgements[0].Acts() {
		v.Deciding = &v.Judgements[0]
		v.Unhealthy = v.Deciding.Eligible(noon)
	}
	return v
}

type nodeOption func(*Node)

// node of NodePool "default" that is well.
func node(name string, options ...nodeOption) Node {
	n := Node{
		NodeClaim: name, NodeClaimUID: types.UID("uid-" + name), NodeName: "node-" + name, NodePool: "default",
		Initialized: true, ReschedulablePods: 1, ProviderReboots: true,
		Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")},
	}
	for _, option := range options {
		option(&n)
	}
	return n
}

// sick node whose fault is past its toleration.
func sick(name string, options ...nodeOption) Node {
	return node(name, append([]nodeOption{judged(policy(), judgement())}, options...)...)
}

func judged(p *v1alpha1.RepairPolicy, judgements ...diagnosis.Judgement) nodeOption {
	return func(n *Node) { n.Verdict = verdict(p, judgements...) }
}

func inPool(name string) nodeOption { return func(n *Node) { n.NodePool = name } }
func inZone(name string) nodeOption { return func(n *Node) { n.Zone = name } }

func wells(n int, options ...nodeOption) []Node {
	out := make([]Node, 0, n)
	for i := range n {
		out = append(out, node(fmt.Sprintf("well-%d", i), options...))
	}
	return out
}

func sicks(n int, options ...nodeOption) []Node {
	out := make([]Node, 0, n)
	for i := range n {
		out = append(out, sick(fmt.Sprintf("sick-%d", i), options...))
	}
	return out
}

func pool(name string, options ...func(*karpv1.NodePool)) *karpv1.NodePool {
	p := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "100%"}}
	ready(p)
	for _, option := range options {
		option(p)
	}
	return p
}

func budgets(all ...karpv1.Budget) func(*karpv1.NodePool) {
	return func(p *karpv1.NodePool) { p.Spec.Disruption.Budgets = all }
}

func budgetOf(nodes string) func(*karpv1.NodePool) { return budgets(karpv1.Budget{Nodes: nodes}) }

func ready(p *karpv1.NodePool) {
	p.StatusConditions().SetTrue(karpv1.ConditionTypeValidationSucceeded)
	p.StatusConditions().SetTrue(karpv1.ConditionTypeNodeClassReady)
}

func unready(p *karpv1.NodePool) {
	p.StatusConditions().SetFalse(karpv1.ConditionTypeNodeClassReady, "NotFound", "the NodeClass is gone")
}

func unknownReady(p *karpv1.NodePool) {
	p.StatusConditions().SetUnknown(karpv1.ConditionTypeNodeClassReady)
}

func unseen(p *karpv1.NodePool) { p.Status.Conditions = nil }

func notRegistering(p *karpv1.NodePool) {
	p.StatusConditions().SetFalse(karpv1.ConditionTypeNodeRegistrationHealthy, "Unhealthy", "3 of 3 did not register")
}

func registrationUnknown(p *karpv1.NodePool) {
	p.StatusConditions().SetUnknown(karpv1.ConditionTypeNodeRegistrationHealthy)
}

func cpuLimit(limit, used string) func(*karpv1.NodePool) {
	return func(p *karpv1.NodePool) {
		p.Spec.Limits = karpv1.Limits{corev1.ResourceCPU: resource.MustParse(limit)}
		p.Status.Resources = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(used)}
	}
}

func static(p *karpv1.NodePool) { p.Spec.Replicas = new(int64(3)) }

type inputOption func(*Input)

// input of a healthy Karpenter 1.15 with one NodePool "default" whose budget is open.
func input(nodes []Node, options ...inputOption) Input {
	in := Input{
		Now: noon, Nodes: nodes, NodePools: map[string]NodePool{"default": {Object: pool("default")}},
		Karpenter: Karpenter{Version: "1.15.0", HonoursDoNotRepair: true, RebootSupported: true},
	}
	for _, option := range options {
		option(&in)
	}
	return in
}

func withPool(options ...func(*karpv1.NodePool)) inputOption {
	return func(in *Input) { in.NodePools["default"] = NodePool{Object: pool("default", options...)} }
}

func withRepairs(repairs ...v1alpha1.NodeRepair) inputOption {
	return func(in *Input) { in.Repairs = append(in.Repairs, repairs...) }
}

// repair of a NodeClaim of NodePool "default", committed an hour ago.
func repair(nodeClaim string, phase v1alpha1.Phase, options ...func(*v1alpha1.NodeRepair)) v1alpha1.NodeRepair {
	r := v1alpha1.NodeRepair{
		ObjectMeta: metav1.ObjectMeta{Name: "repair-" + nodeClaim, CreationTimestamp: *metaAgo(time.Hour)},
		Spec: v1alpha1.NodeRepairSpec{
			NodeClaim: v1alpha1.NodeClaimReference{Name: nodeClaim, UID: types.UID("uid-" + nodeClaim)},
			NodePool:  "default", Action: v1alpha1.ActionReplace, Replacements: 1,
		},
		Status: v1alpha1.NodeRepairStatus{Phase: phase, Domains: []string{"nodepool=default"}},
	}
	if phase == v1alpha1.PhaseSucceeded {
		verifiedAs(v1alpha1.VerifiedHealthy)(&r)
	}
	for _, option := range options {
		option(&r)
	}
	return r
}

func verifiedAs(reason string) func(*v1alpha1.NodeRepair) {
	return func(r *v1alpha1.NodeRepair) {
		r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.RepairConditionVerified, Status: metav1.ConditionTrue, Reason: reason}}
	}
}

func causedBy(reason string) func(*v1alpha1.NodeRepair) {
	return func(r *v1alpha1.NodeRepair) { r.Spec.Cause.Reason = reason }
}

// sickOf gives judgements the reason.
func sickOf(reason string) func(*diagnosis.Judgement) {
	return func(j *diagnosis.Judgement) { j.Finding.Reason = reason }
}

func reserved(n *Node) { n.CapacityType = karpv1.CapacityTypeReserved }

func capacityTypes(types ...string) func(*karpv1.NodePool) {
	return func(p *karpv1.NodePool) {
		p.Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
			{Key: karpv1.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: types},
		}
	}
}

func endedAgo(d time.Duration) func(*v1alpha1.NodeRepair) {
	return func(r *v1alpha1.NodeRepair) { r.Status.FinishedAt = metaAgo(d) }
}

func named(name string) func(*v1alpha1.NodeRepair) {
	return func(r *v1alpha1.NodeRepair) { r.Name = name }
}

func committedAgo(d time.Duration) func(*v1alpha1.NodeRepair) {
	return func(r *v1alpha1.NodeRepair) { r.CreationTimestamp = *metaAgo(d) }
}

// ended makes repairs of other NodeClaims that ended one after the other, a minute apart, the last d ago.
func ended(d time.Duration, phases ...v1alpha1.Phase) []v1alpha1.NodeRepair {
	var out []v1alpha1.NodeRepair
	for i, phase := range phases {
		at := d + time.Duration(len(phases)-1-i)*time.Minute
		out = append(out, repair(fmt.Sprintf("past-%d", i), phase, endedAgo(at)))
	}
	return out
}

func decisionOf(r Result, nodeClaim string) *Decision {
	i := slices.IndexFunc(r.Decisions, func(d Decision) bool { return d.Node.NodeClaim == nodeClaim })
	if i < 0 {
		return nil
	}
	return &r.Decisions[i]
}

func reasonsOf(blockers []Blocker) []BlockerReason {
	var out []BlockerReason
	for _, b := range blockers {
		out = append(out, b.Reason)
	}
	return out
}

func admitted(r Result) []string {
	var out []string
	for _, d := range r.Decisions {
		if d.Admitted {
			out = append(out, d.Node.NodeClaim)
		}
	}
	return out
}
