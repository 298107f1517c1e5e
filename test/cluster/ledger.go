package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Ledger watches the NodeRepairs, NodeClaims and Nodes of NodePools and sees every state that the API server tells of:
// what holds the budget at any moment, and all that has ever been made.
type Ledger struct {
	pools  []string
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu sync.Mutex // guards what follows
	// now is what there is, by kind.
	repairs map[types.UID]*v1alpha1.NodeRepair
	claims  map[types.UID]*karpv1.NodeClaim
	nodes   map[types.UID]*corev1.Node
	// everRepairs are the names of the NodeRepairs ever seen, by the UID of what they repair.
	everRepairs map[types.UID]map[string]bool
	// everReplacements are the names of the NodeClaims ever made by a NodeRepair.
	everReplacements map[string]map[string]bool
	// everClaims are all NodeClaims ever seen, with what became of them.
	everClaims map[types.UID]Fate
	// phases that each NodeRepair was seen in, in order.
	phases map[string][]v1alpha1.Phase
	// most that was held by each NodePool at any moment.
	most map[string]Held
	told chan struct{} // closed and made anew with every change
}

// Fate of a NodeClaim.
type Fate struct {
	// Node that it had last.
	Node string
	// Stood says whether it was ever Initialized, Deleted whether its deletion was ever asked for.
	Stood, Deleted bool
}

// Held is how much of the budget is held: Fenced and Deleting are exact at any moment, each in its own view.
type Held struct {
	// Repairs that have not written yet that their node is gone. It may be gone, and the next one begun, before they do.
	Repairs int
	// Fenced nodes.
	Fenced int
	// Deleting NodeClaims, but for replacements that were withdrawn before they stood.
	Deleting int
}

// Nodes that are given up at once.
func (h Held) Nodes() int { return max(h.Fenced, h.Deleting) }

// Keep starts a ledger of NodePools, which has seen all that there is when it returns.
func (c *Cluster) Keep(ctx context.Context, pools ...string) (*Ledger, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &Ledger{
		pools: pools, most: map[string]Held{}, cancel: cancel, told: make(chan struct{}),
		repairs: map[types.UID]*v1alpha1.NodeRepair{}, claims: map[types.UID]*karpv1.NodeClaim{}, nodes: map[types.UID]*corev1.Node{},
		everRepairs: map[types.UID]map[string]bool{}, everReplacements: map[string]map[string]bool{},
		everClaims: map[types.UID]Fate{}, phases: map[string][]v1alpha1.Phase{},
	}
	var first sync.WaitGroup
	for _, list := range []client.ObjectList{&v1alpha1.NodeRepairList{}, &karpv1.NodeClaimList{}, &corev1.NodeList{}} {
		first.Add(1)
		l.done.Go(func() { l.follow(ctx, c.Client, list, sync.OnceFunc(first.Done)) })
	}
	seen := make(chan struct{})
	go func() { first.Wait(); close(seen) }()
	select {
	case <-seen:
		return l, nil
	case <-time.After(time.Minute):
		l.Close()
		return nil, fmt.Errorf("watching NodePools %v: nothing was heard of them within a minute", pools)
	}
}

// Close ends it.
func (l *Ledger) Close() {
	l.cancel()
	l.done.Wait()
}

// follow lists and watches, and begins anew when the API server ends the watch or is away.
func (l *Ledger) follow(ctx context.Context, c client.WithWatch, list client.ObjectList, listed func()) {
	empty := list.DeepCopyObject()
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		list := empty.DeepCopyObject().(client.ObjectList) // what is decoded into an old one is mixed with it
		if err := c.List(ctx, list); err != nil {
			continue
		}
		l.replace(list)
		listed()
		w, err := c.Watch(ctx, list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}})
		if err != nil {
			continue
		}
		for event := range w.ResultChan() {
			if object, ok := event.Object.(client.Object); ok && event.Type != watch.Bookmark {
				l.see(object, event.Type == watch.Deleted)
			}
		}
		w.Stop()
	}
}

// replace sees all that a list shows, and that what it does not show is gone.
func (l *Ledger) replace(list client.ObjectList) {
	there := map[types.UID]bool{}
	_ = meta.EachListItem(list, func(o runtime.Object) error {
		object := o.DeepCopyObject().(client.Object)
		there[object.GetUID()] = true
		l.see(object, false)
		return nil
	})
	for _, object := range l.all(list) {
		if !there[object.GetUID()] {
			l.see(object, true)
		}
	}
}

// all gives what is known of the kind of a list.
func (l *Ledger) all(list client.ObjectList) []client.Object {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []client.Object
	switch list.(type) {
	case *v1alpha1.NodeRepairList:
		for _, o := range l.repairs {
			all = append(all, o)
		}
	case *karpv1.NodeClaimList:
		for _, o := range l.claims {
			all = append(all, o)
		}
	case *corev1.NodeList:
		for _, o := range l.nodes {
			all = append(all, o)
		}
	}
	return all
}

func (l *Ledger) see(object client.Object, gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pool := poolOf(object)
	if !slices.Contains(l.pools, pool) {
		return
	}
	switch o := object.(type) {
	case *v1alpha1.NodeRepair:
		l.seeRepair(o, gone)
	case *karpv1.NodeClaim:
		l.seeClaim(o, gone)
	case *corev1.Node:
		put(l.nodes, o, gone)
	}
	held, most := l.held(pool), l.most[pool]
	l.most[pool] = Held{max(most.Repairs, held.Repairs), max(most.Fenced, held.Fenced), max(most.Deleting, held.Deleting)}
	close(l.told)
	l.told = make(chan struct{})
}

func poolOf(object client.Object) string {
	if repair, ok := object.(*v1alpha1.NodeRepair); ok {
		return repair.Spec.NodePool
	}
	return object.GetLabels()[karpv1.NodePoolLabelKey]
}

func (l *Ledger) seeRepair(o *v1alpha1.NodeRepair, gone bool) {
	put(l.repairs, o, gone)
	if l.everRepairs[o.Spec.NodeClaim.UID] == nil {
		l.everRepairs[o.Spec.NodeClaim.UID] = map[string]bool{}
	}
	l.everRepairs[o.Spec.NodeClaim.UID][o.Name] = true
	if phases := l.phases[o.Name]; len(phases) == 0 || phases[len(phases)-1] != o.Status.Phase {
		l.phases[o.Name] = append(phases, o.Status.Phase)
	}
}

func (l *Ledger) seeClaim(o *karpv1.NodeClaim, gone bool) {
	put(l.claims, o, gone)
	fate := l.everClaims[o.UID]
	fate.Node = cmp.Or(o.Status.NodeName, fate.Node)
	fate.Stood = fate.Stood || initialized(o)
	fate.Deleted = fate.Deleted || gone || !o.DeletionTimestamp.IsZero()
	l.everClaims[o.UID] = fate
	if repair := o.Labels[v1alpha1.NodeRepairLabel]; repair != "" {
		if l.everReplacements[repair] == nil {
			l.everReplacements[repair] = map[string]bool{}
		}
		l.everReplacements[repair][o.Name] = true
	}
}

func put[O client.Object](there map[types.UID]O, object O, gone bool) {
	if gone {
		delete(there, object.GetUID())
		return
	}
	there[object.GetUID()] = object
}

func (l *Ledger) held(pool string) Held {
	held := Held{}
	for _, r := range l.repairs {
		held.Repairs += lo.Ternary(poolOf(r) == pool && holdsBudget(r), 1, 0)
	}
	for _, n := range l.nodes {
		held.Fenced += lo.Ternary(poolOf(n) == pool && lo.ContainsBy(n.Spec.Taints, fences), 1, 0)
	}
	for _, c := range l.claims {
		held.Deleting += lo.Ternary(poolOf(c) == pool && initialized(c) && !c.DeletionTimestamp.IsZero(), 1, 0)
	}
	return held
}

func initialized(c *karpv1.NodeClaim) bool {
	return lo.ContainsBy(c.Status.Conditions, func(s status.Condition) bool { return s.Type == karpv1.ConditionTypeInitialized && s.IsTrue() })
}

// holdsBudget says whether the repair is at work on a node that may still be there.
func holdsBudget(r *v1alpha1.NodeRepair) bool {
	switch r.Status.Phase {
	case v1alpha1.PhaseReleasing, v1alpha1.PhaseVerifying:
		return false
	default:
		return !r.Finished()
	}
}

// Most that was held of the budget of a NodePool at any moment.
func (l *Ledger) Most(pool string) Held {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most[pool]
}

// RepairsOf gives the names of all NodeRepairs that there ever were for a NodeClaim.
func (l *Ledger) RepairsOf(claim types.UID) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.everRepairs[claim]))
}

// ReplacementsOf gives the names of all NodeClaims that were ever made for a NodeRepair.
func (l *Ledger) ReplacementsOf(repair string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.everReplacements[repair]))
}

// PhasesOf gives the phases that a NodeRepair was seen in.
func (l *Ledger) PhasesOf(repair string) []v1alpha1.Phase {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.phases[repair])
}

// Fates of all NodeClaims that there ever were.
func (l *Ledger) Fates() map[types.UID]Fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.everClaims)
}

// Repairs that there are.
func (l *Ledger) Repairs() []v1alpha1.NodeRepair {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lo.Map(slices.Collect(maps.Values(l.repairs)), func(r *v1alpha1.NodeRepair, _ int) v1alpha1.NodeRepair { return *r })
}

// Settled says whether no repair is at work on a node, and no NodeClaim on its way in or out.
func (l *Ledger) Settled() bool {
	return lo.NoneBy(l.Repairs(), func(r v1alpha1.NodeRepair) bool { return holdsBudget(&r) }) &&
		lo.EveryBy(l.Claims(), func(c karpv1.NodeClaim) bool { return initialized(&c) && c.DeletionTimestamp.IsZero() })
}

// Claims that there are.
func (l *Ledger) Claims() []karpv1.NodeClaim {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lo.Map(slices.Collect(maps.Values(l.claims)), func(c *karpv1.NodeClaim, _ int) karpv1.NodeClaim { return *c })
}

// Nodes that there are.
func (l *Ledger) Nodes() []corev1.Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lo.Map(slices.Collect(maps.Values(l.nodes)), func(n *corev1.Node, _ int) corev1.Node { return *n })
}

// Wait looks again with every change until there is no error left, and gives the last one when the time is over.
func (l *Ledger) Wait(limit time.Duration, check func() error) error {
	over := time.After(limit)
	for {
		l.mu.Lock()
		told := l.told
		l.mu.Unlock()
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-told:
		case <-time.After(time.Second): // what is checked may be something else than the ledger
		case <-over:
			return err
		}
	}
}
