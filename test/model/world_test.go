package model

import (
	"fmt"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const actorPeople = "people"

// restartsAfter is how long our controller is gone after a crash.
const restartsAfter = 3 * time.Second

// world is one run of the model.
type world struct {
	setup     setup
	clock     *clocktesting.FakeClock
	api       *api
	karpenter *karpenter
	process   *process
	restartAt time.Time
	pods      int

	// crashIn counts the writes of our controller until it crashes, answerLost whether that one still lands.
	crashIn    int
	answerLost bool
	// races are done right before a write of our controller, once it has done so many more.
	races []*race

	// own is what people wrote as karpenter.sh/do-not-disrupt on a Node, by its UID.
	own map[types.UID]string

	// ours is the clock of our controller's machine, steppedAt when it was last set to another time.
	ours      *steppingClock
	steppedAt time.Time

	reconciled map[string]int
	seen       promises
}

type race struct {
	in   int
	then step
}

// violation is a broken promise; it ends the run.
type violation struct{ message string }

func (w *world) demand(holds bool, format string, args ...any) {
	if !holds {
		panic(violation{fmt.Sprintf("%s: %s", w.now().Format(time.TimeOnly), fmt.Sprintf(format, args...))})
	}
}

// now is the true time, by which the API server, Karpenter and the agents live.
func (w *world) now() time.Time { return w.clock.Now() }

// oursNow is what our controller takes for the time. What is promised of times is promised by its clock.
func (w *world) oursNow() time.Time { return w.ours.Now() }

// stepped says whether its clock was set so lately that what it had said before may still stand.
func (w *world) stepped() bool {
	return !w.steppedAt.IsZero() && w.now().Sub(w.steppedAt) < time.Minute
}

// steppingClock is a clock that somebody sets. Timers know nothing of that.
type steppingClock struct {
	*clocktesting.FakeClock
	off time.Duration
}

func (c *steppingClock) Now() time.Time                  { return c.FakeClock.Now().Add(c.off) }
func (c *steppingClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

var start = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC) // a Monday

func newWorld(s setup) *world {
	clk := clocktesting.NewFakeClock(start)
	w := &world{setup: s, clock: clk, ours: &steppingClock{FakeClock: clk}, api: newAPI(clk), own: map[types.UID]string{}, reconciled: map[string]int{}}
	w.seen = newPromises()
	w.karpenter = &karpenter{w: w, fates: map[types.UID]*fate{}}
	_ = w.api.create(actorPeople, policyOf(s.Policy))
	_ = w.api.create(actorPeople, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "held"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "held"}}},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 100},
	})
	for i, p := range s.Pools {
		w.addPool(fmt.Sprintf("pool%d", i), p)
	}
	w.api.wrote = w.wrote
	w.process = newProcess(w)
	return w
}

func (w *world) addPool(name string, p pool) {
	object := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	object.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "example.com", Kind: "Class", Name: "class"}
	object.Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"a", "b", "c"}},
		{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"m1", "m2"}},
	}
	object.Spec.Disruption.Budgets = budgetsOf(p.Budget)
	if p.Limit > 0 {
		object.Spec.Limits = karpv1.Limits{"nodes": *resource.NewQuantity(int64(p.Limit), resource.DecimalSI)}
	}
	if p.Static {
		object.Spec.Replicas = lo.ToPtr(int64(p.Nodes))
	}
	for _, conditionType := range []string{karpv1.ConditionTypeValidationSucceeded, karpv1.ConditionTypeNodeClassReady, status.ConditionReady} {
		object.Status.Conditions = append(object.Status.Conditions, status.Condition{Type: conditionType, Status: metav1.ConditionTrue, Reason: conditionType, LastTransitionTime: metav1.NewTime(start)})
	}
	_ = w.api.create(actorPeople, object)
	for i := range p.Nodes {
		w.addNode(fmt.Sprintf("%s-%d", name, i), object, []string{"a", "b", "c"}[i%3], i < p.Pods)
	}
}

// addNode puts up a node that stands already, with a pod that is held, and one that is not, where it is used.
func (w *world) addNode(name string, pool *karpv1.NodePool, zone string, used bool) {
	claim := pool.Spec.Template.ToNodeClaim()
	claim.ObjectMeta = metav1.ObjectMeta{Name: name, Finalizers: []string{karpv1.TerminationFinalizer}, Labels: map[string]string{
		karpv1.NodePoolLabelKey: pool.Name, corev1.LabelTopologyZone: zone, corev1.LabelInstanceTypeStable: "m1",
	}}
	claim.Status.ProviderID = "fake://" + name
	claim.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
	set(claim, start, karpv1.ConditionTypeLaunched)
	_ = w.api.create(actorKarpenter, claim)
	w.karpenter.register(claim, &fate{})
	w.karpenter.fates[claim.UID] = &fate{launchedAt: start, readyAt: start}
	if used {
		for _, app := range []string{"held", "free"} {
			w.pods++
			_ = w.api.create("replicaset", newPod(fmt.Sprintf("pod-%03d", w.pods), "node-"+name, app))
		}
	}
}

func newPod(name, node, app string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": app}, OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app, UID: types.UID(app), Controller: lo.ToPtr(true)},
	}}}
	pod.Status.Phase = corev1.PodPending
	if node != "" {
		pod.Spec.NodeName, pod.Status.Phase = node, corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return pod
}

func healthOf(node string) *v1alpha1.NodeHealth {
	return &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: node}, Sources: []v1alpha1.Source{{
		Name: "test", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel, v1alpha1.CategoryKubelet},
	}}}
}

func policyOf(p policy) *v1alpha1.RepairPolicy {
	object := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	object.Spec.Rules = []v1alpha1.RepairRule{{
		Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: p.Tolerate, DrainBound: p.DrainBound,
	}}
	object.Spec.Replacement = v1alpha1.ReplacementSpec{
		VerifyFor: lo.ToPtr(p.VerifyFor), Attempts: lo.ToPtr(p.Attempts), InitializeTimeout: &metav1.Duration{Duration: 5 * time.Minute},
	}
	if p.TerminateFirst {
		object.Spec.Replacement.Strategy = v1alpha1.StrategyTerminateFirstWhereNeeded
	}
	if p.MaxUnhealthy != "" {
		object.Spec.CorrelatedFailure.MaxUnhealthy = lo.ToPtr(intstr.Parse(p.MaxUnhealthy))
	}
	return object
}

func budgetsOf(text string) []karpv1.Budget {
	switch text {
	case "": // none: Karpenter's default of 10 % is set by its API server
		return []karpv1.Budget{{Nodes: "10%"}}
	case "invalid":
		return []karpv1.Budget{{Nodes: "2", Schedule: lo.ToPtr("when it rains"), Duration: &metav1.Duration{Duration: time.Hour}}}
	case "scheduled": // shut for the second quarter of every hour
		return []karpv1.Budget{{Nodes: "2"}, {Nodes: "0", Schedule: lo.ToPtr("15 * * * *"), Duration: &metav1.Duration{Duration: 15 * time.Minute}}}
	default:
		return []karpv1.Budget{{Nodes: text}}
	}
}

func (w *world) wrote(actor string, before, after client.Object) {
	w.seen.wrote(w, actor, before, after)
	if w.process != nil && !w.process.dead {
		w.process.notice(before, after)
	}
}

// beforeWrite does what was to come between two writes of ours. Only a swap of the NodeClaim itself is done between the
// last look at a node and its delete: nothing could be done about anything else.
func (w *world) beforeWrite(verb string, o client.Object) {
	claim, ofClaim := o.(*karpv1.NodeClaim)
	deletes := ofClaim && verb == "delete" && claim.UID != "" // a withdrawal knows no UID
	for _, r := range append([]*race(nil), w.races...) {
		if r.in > 0 {
			r.in--
		}
		swaps := r.then.Do == "swap"
		if r.in > 0 || swaps != deletes {
			continue
		}
		w.races = lo.Without(w.races, r)
		w.process.raced = true
		if swaps {
			w.swap(claim.Name)
		} else {
			w.do(r.then)
		}
	}
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	end := w.now().Add(d)
	for {
		w.turn()
		next := earliest(end, w.next())
		if !next.After(w.now()) {
			next = w.now().Add(50 * time.Millisecond)
		}
		if next.After(end) || !w.now().Before(end) {
			return
		}
		w.clock.SetTime(next)
	}
}

// turn lets everyone do what is due now.
func (w *world) turn() {
	w.karpenter.act()
	if w.process.dead && w.restartAt.IsZero() {
		w.restartAt = w.now().Add(restartsAfter)
	}
	if w.process.dead && !w.now().Before(w.restartAt) {
		w.restartAt = time.Time{}
		w.process = newProcess(w)
	}
	w.process.run()
	w.check()
}

func (w *world) next() time.Time {
	next := w.now().Truncate(time.Second).Add(time.Second)
	if !w.karpenter.busy() {
		next = w.karpenter.nextLoop
	}
	if w.process.dead {
		return earliest(next, w.restartAt)
	}
	return earliest(next, w.process.next())
}

func (w *world) held() bool {
	for _, budget := range all[policyv1.PodDisruptionBudget](w.api.objects) {
		return budget.Status.DisruptionsAllowed == 0
	}
	return false
}

// sicken states a Fatal finding about a node; silent ones are stated by a source that can no longer see.
func (w *world) sicken(node, kind string) {
	health := named[v1alpha1.NodeHealth](w.api.objects, node)
	if health == nil {
		return
	}
	finding := v1alpha1.Finding{
		Source: "test", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal,
		Since: metav1.NewTime(w.now().Truncate(time.Second)), Count: 1, Message: "stuck",
	}
	if kind == "notready" {
		finding.Reason, finding.Category = "KubeletNotReady", v1alpha1.CategoryKubelet
		w.setReady(node, corev1.ConditionFalse)
	}
	change(w.api, "agent", health, func(h *v1alpha1.NodeHealth) {
		if !lo.ContainsBy(h.Findings, func(f v1alpha1.Finding) bool { return f.Reason == finding.Reason }) {
			h.Findings = append(h.Findings, finding)
		}
	})
}

func (w *world) heal(node string) {
	w.setReady(node, corev1.ConditionTrue)
	if health := named[v1alpha1.NodeHealth](w.api.objects, node); health != nil {
		change(w.api, "agent", health, func(h *v1alpha1.NodeHealth) { h.Findings = nil })
	}
}

func (w *world) setReady(name string, to corev1.ConditionStatus) {
	if node := named[corev1.Node](w.api.objects, name); node != nil {
		change(w.api, "kubelet", node, func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: to}}
		})
	}
}

// swap puts another NodeClaim under the name of one, as a restored backup would.
func (w *world) swap(name string) {
	claim := named[karpv1.NodeClaim](w.api.objects, name)
	if claim == nil {
		return
	}
	change(w.api, actorPeople, claim, func(c *karpv1.NodeClaim) {
		c.UID += "-restored"
		unset(c, v1alpha1.ConditionUnhealthy)
	})
	w.karpenter.fates[claim.UID+"-restored"] = w.karpenter.fates[claim.UID]
}
