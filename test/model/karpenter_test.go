package model

import (
	"fmt"
	"slices"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const actorKarpenter = "karpenter"

// What Karpenter 1.15 takes its time for. The drain is the model's own.
const (
	disruptionEvery = 10 * time.Second
	validateFor     = 15 * time.Second // consolidation and emptiness look again after this
	simulateFor     = 3 * time.Second  // drift marks what it chose this much later, without another look
	launchTimeout   = 5 * time.Minute
	registerTimeout = 15 * time.Minute
	consolidatable  = 30 * time.Second
	drainFor        = 5 * time.Second
	endFor          = 5 * time.Second
	podsPerNode     = 2
)

// karpenter is a small model of Karpenter, its provider, the kubelets and the scheduler.
type karpenter struct {
	w *world
	// queue is what its disruption controller has decided; it does not outlive a crash.
	queue    []*command
	nextLoop time.Time
	downTill time.Time
	made     int

	// What the provider does with the NodeClaims that it sees first from now on.
	launch, initialize string
	newSick            bool
	// fates by UID of the NodeClaim: the provider's, so they outlive a crash.
	fates map[types.UID]*fate
}

type fate struct {
	launch     string
	launchAt   time.Time
	initialize time.Duration // zero for never
	sick       bool
	launchedAt time.Time
	readyAt    time.Time
	endsAt     time.Time // once drained
}

type command struct {
	claim       types.UID
	name        string
	reason      karpv1.DisruptionReason
	marksAt     time.Time
	marked      bool
	replacement string
}

func (k *karpenter) now() time.Time { return k.w.now() }

func (k *karpenter) crash() { k.queue, k.downTill = nil, k.now().Add(20*time.Second) }

// busy says whether something goes on that has to be looked at every second.
func (k *karpenter) busy() bool {
	if len(k.queue) > 0 {
		return true
	}
	for _, claim := range all[karpv1.NodeClaim](k.w.api.objects) {
		if !claim.DeletionTimestamp.IsZero() || !is(claim, karpv1.ConditionTypeInitialized) {
			return true
		}
	}
	return slices.ContainsFunc(all[corev1.Pod](k.w.api.objects), func(p *corev1.Pod) bool { return p.Spec.NodeName == "" })
}

func (k *karpenter) act() {
	k.schedule()
	for _, claim := range all[karpv1.NodeClaim](k.w.api.objects) {
		k.provider(claim)
	}
	if k.now().Before(k.downTill) {
		return
	}
	for _, claim := range all[karpv1.NodeClaim](k.w.api.objects) {
		k.lifecycle(claim)
	}
	k.carryOut()
	if !k.now().Before(k.nextLoop) {
		k.nextLoop = k.now().Add(disruptionEvery)
		k.strip()
		k.disrupt()
	}
	k.provision()
	k.count()
}

func is(claim *karpv1.NodeClaim, conditionType string) bool {
	return lo.ContainsBy(claim.Status.Conditions, func(c status.Condition) bool { return c.Type == conditionType && c.Status == metav1.ConditionTrue })
}

func set(claim *karpv1.NodeClaim, now time.Time, conditionType string) {
	claim.Status.Conditions = append(lo.Reject(claim.Status.Conditions, func(c status.Condition, _ int) bool { return c.Type == conditionType }),
		status.Condition{Type: conditionType, Status: metav1.ConditionTrue, Reason: conditionType, LastTransitionTime: metav1.NewTime(now)})
}

func unset(claim *karpv1.NodeClaim, conditionType string) {
	claim.Status.Conditions = lo.Reject(claim.Status.Conditions, func(c status.Condition, _ int) bool { return c.Type == conditionType })
}

// provider starts and ends instances, whose kubelets register.
func (k *karpenter) provider(claim *karpv1.NodeClaim) {
	f := k.fates[claim.UID]
	if f == nil || !claim.DeletionTimestamp.IsZero() {
		return
	}
	if !f.launchedAt.IsZero() && f.readyAt.IsZero() && f.initialize > 0 && !k.now().Before(f.launchedAt.Add(f.initialize)) {
		f.readyAt = k.now()
	}
}

// lifecycle is what Karpenter does to one NodeClaim.
func (k *karpenter) lifecycle(claim *karpv1.NodeClaim) {
	now, a := k.now(), k.w.api
	f := k.fates[claim.UID]
	switch {
	case !claim.DeletionTimestamp.IsZero():
		k.finalize(claim)
	case f == nil:
		k.fates[claim.UID] = k.drawFate()
		change(a, actorKarpenter, claim, func(c *karpv1.NodeClaim) { c.Finalizers = []string{karpv1.TerminationFinalizer} })
	case f.launchedAt.IsZero():
		switch {
		case f.launch == "refused" && !now.Before(f.launchAt), now.Sub(claim.CreationTimestamp.Time) > launchTimeout:
			_ = a.delete(actorKarpenter, claim, metav1.Preconditions{})
		case f.launch != "never" && !now.Before(f.launchAt):
			f.launchedAt = now
			change(a, actorKarpenter, claim, func(c *karpv1.NodeClaim) {
				c.Status.ProviderID = "fake://" + string(c.UID)
				c.Labels = lo.Assign(c.Labels, map[string]string{
					corev1.LabelTopologyZone: valueOf(c, corev1.LabelTopologyZone, "a"), corev1.LabelInstanceTypeStable: valueOf(c, corev1.LabelInstanceTypeStable, "m1"),
				})
				c.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
				set(c, now, karpv1.ConditionTypeLaunched)
			})
		}
	case !is(claim, karpv1.ConditionTypeInitialized):
		switch {
		case !f.readyAt.IsZero():
			k.register(claim, f)
		case now.Sub(f.launchedAt) > registerTimeout:
			_ = a.delete(actorKarpenter, claim, metav1.Preconditions{})
		}
	case k.w.setup.Consolidate && !is(claim, karpv1.ConditionTypeConsolidatable) && now.Sub(f.readyAt) > consolidatable:
		change(a, actorKarpenter, claim, func(c *karpv1.NodeClaim) { set(c, now, karpv1.ConditionTypeConsolidatable) })
	}
}

func valueOf(claim *karpv1.NodeClaim, key, otherwise string) string {
	for _, r := range claim.Spec.Requirements {
		if r.Key == key && len(r.Values) > 0 {
			return r.Values[0]
		}
	}
	return otherwise
}

func (k *karpenter) drawFate() *fate {
	f := &fate{launch: k.launch, launchAt: k.now().Add(3 * time.Second), initialize: 25 * time.Second, sick: k.newSick}
	if k.launch == "slow" {
		f.launchAt = k.now().Add(60 * time.Second)
	}
	switch k.initialize {
	case "never":
		f.initialize = 0
	case "slow":
		f.initialize = 4 * time.Minute
	}
	return f
}

// register makes the Node, with the annotations that its NodeClaim bears at this time.
func (k *karpenter) register(claim *karpv1.NodeClaim, f *fate) {
	now, name := k.now(), "node-"+claim.Name
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: claim.Annotations,
		Labels: lo.Assign(claim.Labels, map[string]string{karpv1.NodeInitializedLabelKey: "true"})}}
	node.Spec.ProviderID = claim.Status.ProviderID
	node.Status.Capacity = claim.Status.Capacity
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	_ = k.w.api.create(actorKarpenter, node)
	_ = k.w.api.create(actorKarpenter, healthOf(name))
	change(k.w.api, actorKarpenter, claim, func(c *karpv1.NodeClaim) {
		c.Status.NodeName = name
		set(c, now, karpv1.ConditionTypeRegistered)
		set(c, now, karpv1.ConditionTypeInitialized)
	})
	if f.sick {
		k.w.sicken(name, "kernel")
	}
}

// finalize drains the node, within its PodDisruptionBudgets until a deadline ends them, and lets it go.
func (k *karpenter) finalize(claim *karpv1.NodeClaim) {
	now, a := k.now(), k.w.api
	f := k.fates[claim.UID]
	if f == nil {
		f = k.drawFate()
		k.fates[claim.UID] = f
	}
	node := named[corev1.Node](a.objects, claim.Status.NodeName)
	if node == nil {
		delete(k.fates, claim.UID)
		change(a, actorKarpenter, claim, func(c *karpv1.NodeClaim) { c.Finalizers = nil })
		return
	}
	change(a, actorKarpenter, node, func(n *corev1.Node) {
		if !slices.ContainsFunc(n.Spec.Taints, disrupted) {
			n.Spec.Taints = append(n.Spec.Taints, karpv1.DisruptedNoScheduleTaint)
		}
	})
	if now.Sub(claim.DeletionTimestamp.Time) < drainFor {
		return
	}
	forced := false
	if value, ok := claim.Annotations[karpv1.NodeClaimTerminationTimestampAnnotationKey]; ok {
		deadline, err := time.Parse(time.RFC3339, value)
		k.w.demand(err == nil, "Karpenter cannot read the termination timestamp %q of NodeClaim %s", value, claim.Name)
		forced = !now.Before(deadline)
	}
	left := 0
	for _, pod := range k.podsOf(node.Name) {
		if pod.Labels["app"] == "held" && k.w.held() && !forced {
			left++
			continue
		}
		k.evict(pod)
	}
	switch {
	case left > 0:
	case f.endsAt.IsZero():
		f.endsAt = now.Add(endFor)
		change(a, actorKarpenter, claim, func(c *karpv1.NodeClaim) {
			set(c, now, karpv1.ConditionTypeInstanceTerminating)
		})
	case !now.Before(f.endsAt):
		delete(k.fates, claim.UID)
		delete(a.objects[kindOf(node)], client.ObjectKeyFromObject(node))
		a.wrote(actorKarpenter, node, nil)
		if health := named[v1alpha1.NodeHealth](a.objects, node.Name); health != nil {
			_ = a.delete(actorKarpenter, health, metav1.Preconditions{})
		}
		change(a, actorKarpenter, claim, func(c *karpv1.NodeClaim) { c.Finalizers = nil })
	}
}

func (k *karpenter) podsOf(node string) []*corev1.Pod {
	return lo.Filter(all[corev1.Pod](k.w.api.objects), func(p *corev1.Pod, _ int) bool { return p.Spec.NodeName == node })
}

// evict ends a pod, in whose place its ReplicaSet makes another at once.
func (k *karpenter) evict(pod *corev1.Pod) {
	_ = k.w.api.delete(actorKarpenter, pod, metav1.Preconditions{})
	k.w.pods++
	_ = k.w.api.create("replicaset", newPod(fmt.Sprintf("pod-%03d", k.w.pods), "", pod.Labels["app"]))
}

// schedule binds pods to nodes that take them.
func (k *karpenter) schedule() {
	for _, pod := range all[corev1.Pod](k.w.api.objects) {
		if pod.Spec.NodeName != "" {
			continue
		}
		for _, node := range all[corev1.Node](k.w.api.objects) {
			if len(node.Spec.Taints) == 0 && ready(node) && len(k.podsOf(node.Name)) < podsPerNode {
				change(k.w.api, "scheduler", pod, func(p *corev1.Pod) {
					p.Spec.NodeName, p.Status.Phase = node.Name, corev1.PodRunning
					p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				})
				break
			}
		}
	}
}

func ready(node *corev1.Node) bool {
	return lo.ContainsBy(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func disrupted(t corev1.Taint) bool { return t.Key == karpv1.DisruptedTaintKey }

// marked says whether Karpenter says of the node that it disrupts it.
func marked(claim *karpv1.NodeClaim, node *corev1.Node) bool {
	return is(claim, karpv1.ConditionTypeDisruptionReason) || (node != nil && slices.ContainsFunc(node.Spec.Taints, disrupted))
}

// synced is false while any NodeClaim is unlaunched: Karpenter's provisioning and disruption wait for it.
func (k *karpenter) synced() bool {
	return lo.EveryBy(all[karpv1.NodeClaim](k.w.api.objects), func(c *karpv1.NodeClaim) bool { return c.Status.ProviderID != "" })
}

// strip takes Karpenter's marks off whatever is not in its queue and not deleting.
func (k *karpenter) strip() {
	for _, claim := range all[karpv1.NodeClaim](k.w.api.objects) {
		if claim.DeletionTimestamp.IsZero() && !k.queued(claim.UID) && marked(claim, named[corev1.Node](k.w.api.objects, claim.Status.NodeName)) {
			k.unmark(claim)
		}
	}
}

func (k *karpenter) unmark(claim *karpv1.NodeClaim) {
	if node := named[corev1.Node](k.w.api.objects, claim.Status.NodeName); node != nil {
		change(k.w.api, actorKarpenter, node, func(n *corev1.Node) {
			n.Spec.Taints = lo.Reject(n.Spec.Taints, func(t corev1.Taint, _ int) bool { return disrupted(t) })
		})
	}
	change(k.w.api, actorKarpenter, claim, func(c *karpv1.NodeClaim) { unset(c, karpv1.ConditionTypeDisruptionReason) })
}

func (k *karpenter) queued(uid types.UID) bool {
	return slices.ContainsFunc(k.queue, func(c *command) bool { return c.claim == uid })
}

// disrupt starts one command, of the first method that finds a candidate within its budget.
func (k *karpenter) disrupt() {
	if !k.synced() {
		return
	}
	for _, reason := range []karpv1.DisruptionReason{karpv1.DisruptionReasonEmpty, karpv1.DisruptionReasonDrifted, karpv1.DisruptionReasonUnderutilized} {
		for _, claim := range all[karpv1.NodeClaim](k.w.api.objects) {
			if !k.candidate(claim, reason) || !k.admits(claim, reason) {
				continue
			}
			wait := validateFor
			if reason == karpv1.DisruptionReasonDrifted {
				wait = simulateFor
			}
			k.queue = append(k.queue, &command{claim: claim.UID, name: claim.Name, reason: reason, marksAt: k.now().Add(wait)})
			return
		}
	}
}

func (k *karpenter) candidate(claim *karpv1.NodeClaim, reason karpv1.DisruptionReason) bool {
	node := named[corev1.Node](k.w.api.objects, claim.Status.NodeName)
	if node == nil || !claim.DeletionTimestamp.IsZero() || k.queued(claim.UID) || marked(claim, node) || !is(claim, karpv1.ConditionTypeInitialized) ||
		node.Annotations[karpv1.DoNotDisruptAnnotationKey] == "true" {
		return false
	}
	pods := k.podsOf(node.Name)
	switch reason {
	case karpv1.DisruptionReasonEmpty:
		return is(claim, karpv1.ConditionTypeConsolidatable) && len(pods) == 0
	case karpv1.DisruptionReasonDrifted:
		return is(claim, karpv1.ConditionTypeDrifted)
	default:
		return is(claim, karpv1.ConditionTypeConsolidatable) && len(pods) > 0 && k.room(node.Name) >= len(pods)
	}
}

// room is how many pods other nodes take.
func (k *karpenter) room(except string) int {
	room := 0
	for _, node := range all[corev1.Node](k.w.api.objects) {
		if node.Name != except && len(node.Spec.Taints) == 0 && ready(node) {
			room += podsPerNode - len(k.podsOf(node.Name))
		}
	}
	return room
}

// admits reckons as Karpenter does: it sees its own queue, what is deleting, and, but for repairs, what is NotReady.
func (k *karpenter) admits(claim *karpv1.NodeClaim, reason karpv1.DisruptionReason) bool {
	pool := named[karpv1.NodePool](k.w.api.objects, claim.Labels[karpv1.NodePoolLabelKey])
	if pool == nil {
		return false
	}
	nodes, taken := 0, 0
	for _, other := range all[karpv1.NodeClaim](k.w.api.objects) {
		node := named[corev1.Node](k.w.api.objects, other.Status.NodeName)
		if other.Labels[karpv1.NodePoolLabelKey] != pool.Name || node == nil || is(other, karpv1.ConditionTypeInstanceTerminating) {
			continue
		}
		nodes++
		if !other.DeletionTimestamp.IsZero() || k.queued(other.UID) || !ready(node) {
			taken++
		}
	}
	return pool.MustGetAllowedDisruptions(k.w.clock, nodes, reason) > taken
}

// carryOut goes on with the commands in the queue.
func (k *karpenter) carryOut() {
	k.queue = lo.Filter(k.queue, func(c *command, _ int) bool { return !k.step(c) })
}

// step says whether the command has ended.
func (k *karpenter) step(c *command) bool {
	claim := named[karpv1.NodeClaim](k.w.api.objects, c.name)
	if claim == nil || claim.UID != c.claim || !claim.DeletionTimestamp.IsZero() {
		return true
	}
	node := named[corev1.Node](k.w.api.objects, claim.Status.NodeName)
	if !c.marked {
		if k.now().Before(c.marksAt) {
			return false
		}
		if c.reason != karpv1.DisruptionReasonDrifted {
			k.queue = lo.Without(k.queue, c)
			again := k.candidate(claim, c.reason)
			k.queue = append(k.queue, c)
			if !again {
				return true
			}
		}
		c.marked = true
		change(k.w.api, actorKarpenter, node, func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, karpv1.DisruptedNoScheduleTaint) })
		change(k.w.api, actorKarpenter, claim, func(cl *karpv1.NodeClaim) {
			set(cl, k.now(), karpv1.ConditionTypeDisruptionReason)
		})
		if c.reason == karpv1.DisruptionReasonDrifted && len(k.podsOf(node.Name)) > k.room(node.Name) {
			c.replacement = k.makeClaim(claim.Labels[karpv1.NodePoolLabelKey])
			if c.replacement == "" {
				k.unmark(claim)
				return true
			}
		}
		return false
	}
	if c.replacement != "" {
		replacement := named[karpv1.NodeClaim](k.w.api.objects, c.replacement)
		if replacement == nil || !replacement.DeletionTimestamp.IsZero() {
			k.unmark(claim)
			return true
		}
		if !is(replacement, karpv1.ConditionTypeInitialized) {
			return false
		}
	}
	_ = k.w.api.delete(actorKarpenter, claim, metav1.Preconditions{})
	return true
}

// makeClaim makes a NodeClaim within the limits of its NodePool; empty where there is no room.
func (k *karpenter) makeClaim(poolName string) string {
	pool := named[karpv1.NodePool](k.w.api.objects, poolName)
	if pool == nil {
		return ""
	}
	claims := k.claimsOf(poolName)
	if limit, ok := pool.Spec.Limits["nodes"]; ok && int64(len(claims)) >= limit.Value() {
		return ""
	}
	k.made++
	claim := pool.Spec.Template.ToNodeClaim()
	claim.ObjectMeta = metav1.ObjectMeta{Name: fmt.Sprintf("k%03d", k.made), Labels: map[string]string{karpv1.NodePoolLabelKey: poolName}}
	_ = k.w.api.create(actorKarpenter, claim)
	return claim.Name
}

func (k *karpenter) claimsOf(pool string) []*karpv1.NodeClaim {
	return lo.Filter(all[karpv1.NodeClaim](k.w.api.objects), func(c *karpv1.NodeClaim, _ int) bool { return c.Labels[karpv1.NodePoolLabelKey] == pool })
}

// provision makes room for pods that wait, and keeps static NodePools at their size.
func (k *karpenter) provision() {
	if !k.synced() {
		return
	}
	waiting, coming := 0, k.room("")
	for _, pod := range all[corev1.Pod](k.w.api.objects) {
		if pod.Spec.NodeName == "" {
			waiting++
		}
	}
	for _, claim := range all[karpv1.NodeClaim](k.w.api.objects) {
		if claim.DeletionTimestamp.IsZero() && !is(claim, karpv1.ConditionTypeInitialized) {
			coming += podsPerNode
		}
	}
	for _, pool := range all[karpv1.NodePool](k.w.api.objects) {
		if pool.Spec.Replicas != nil {
			k.keepSize(pool)
			continue
		}
		for waiting > coming && k.makeClaim(pool.Name) != "" {
			coming += podsPerNode
		}
	}
}

// keepSize of a static NodePool. Of what is too much the unlaunched go first, then the empty, whatever protects them. What
// it has marked for disruption stands for a node until it goes, but is not too much beside its replacement.
func (k *karpenter) keepSize(pool *karpv1.NodePool) {
	claims := lo.Filter(k.claimsOf(pool.Name), func(c *karpv1.NodeClaim, _ int) bool { return c.DeletionTimestamp.IsZero() })
	for range int(*pool.Spec.Replicas) - len(claims) {
		k.makeClaim(pool.Name)
	}
	claims = lo.Reject(claims, func(c *karpv1.NodeClaim, _ int) bool {
		return marked(c, named[corev1.Node](k.w.api.objects, c.Status.NodeName))
	})
	rank := func(c *karpv1.NodeClaim) int {
		switch {
		case c.Status.ProviderID == "":
			return 0
		case len(k.podsOf(c.Status.NodeName)) == 0:
			return 1
		default:
			return 2
		}
	}
	slices.SortStableFunc(claims, func(a, b *karpv1.NodeClaim) int { return rank(a) - rank(b) })
	for i := range len(claims) - int(*pool.Spec.Replicas) {
		_ = k.w.api.delete(actorKarpenter, claims[i], metav1.Preconditions{})
	}
}

// count keeps what the status of a NodePool says of its use.
func (k *karpenter) count() {
	for _, pool := range all[karpv1.NodePool](k.w.api.objects) {
		if len(pool.Spec.Limits) == 0 {
			continue
		}
		change(k.w.api, actorKarpenter, pool, func(p *karpv1.NodePool) {
			p.Status.Resources = corev1.ResourceList{"nodes": *resource.NewQuantity(int64(len(k.claimsOf(pool.Name))), resource.DecimalSI)}
		})
	}
}
