package decision

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// index is an Input made quick to ask, and the running count of what a pass has admitted. It is built in one walk
// over each list, so that a pass costs as much as its input is long.
type index struct {
	in         Input
	nodes      map[types.UID]*Node
	unfinished map[types.UID]*v1alpha1.NodeRepair
	pools      map[string]*poolState
	domains    map[domain]*domainState
	history    history
}

// poolState is a NodePool with what goes on in it. NodeClaims without a NodePool share one of the empty name.
type poolState struct {
	name       string
	object     *karpv1.NodePool // nil where there is none
	unreadable []string
	pauses     []Stop
	// nodes that count towards percentages of a budget.
	nodes    int
	inFlight []flight
	// repairing counts repairs that have not ended.
	repairing int
	// standing is what the launched nodes take up. Karpenter counts the same in the NodePool's status, seconds later.
	standing corev1.ResourceList
	// launching is what replacements will take up that Karpenter does not count yet.
	launching corev1.ResourceList
	// leaving is what nodes take up that go by themselves: ours whose replacements stand, or come, beside them, and
	// those that somebody else is removing.
	leaving   corev1.ResourceList
	record    record
	allowance *allowance // reckoned when first asked for
}

// flight is one node that takes up its pool's budget.
type flight struct {
	uid  types.UID
	what string // for people
	// repair is nil where the disruption is not ours.
	repair *v1alpha1.NodeRepair
	// leaving: there is no way back for this node.
	leaving bool
}

func newIndex(in Input) *index {
	ix := &index{
		in:         in,
		nodes:      make(map[types.UID]*Node, len(in.Nodes)),
		unfinished: map[types.UID]*v1alpha1.NodeRepair{},
		pools:      make(map[string]*poolState, len(in.NodePools)+1),
		domains:    map[domain]*domainState{},
		history:    newHistory(),
	}
	for name, pool := range in.NodePools {
		ix.pools[name] = &poolState{name: name, object: pool.Object, unreadable: pool.Unreadable, pauses: pool.Pauses}
	}
	for i := range in.Nodes {
		ix.nodes[in.Nodes[i].NodeClaimUID] = &in.Nodes[i]
	}
	repairs := sortedRepairs(in.Repairs)
	for _, repair := range repairs {
		if !repair.Finished() {
			ix.unfinished[repair.Spec.NodeClaim.UID] = repair
		}
	}
	for i := range in.Nodes {
		ix.addNode(&in.Nodes[i])
	}
	for _, repair := range repairs {
		ix.addRepair(repair)
	}
	for _, pool := range ix.pools {
		slices.SortFunc(pool.inFlight, func(a, b flight) int { return cmp.Compare(a.what, b.what) })
	}
	return ix
}

// sortedRepairs orders by end, then name, so that what failed in a row is seen in a row; the unfinished come last.
func sortedRepairs(repairs []v1alpha1.NodeRepair) []*v1alpha1.NodeRepair {
	out := make([]*v1alpha1.NodeRepair, 0, len(repairs))
	for i := range repairs {
		out = append(out, &repairs[i])
	}
	slices.SortFunc(out, func(a, b *v1alpha1.NodeRepair) int {
		return cmp.Or(compareEnds(a, b), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func compareEnds(a, b *v1alpha1.NodeRepair) int {
	aEnd, bEnd := a.Status.FinishedAt, b.Status.FinishedAt
	switch {
	case aEnd == nil && bEnd == nil:
		return 0
	case aEnd == nil:
		return 1
	case bEnd == nil:
		return -1
	default:
		return aEnd.Compare(bEnd.Time)
	}
}

func (ix *index) addNode(node *Node) {
	pool := ix.pool(node.NodePool)
	if len(node.Capacity) > 0 && pool.limited() {
		pool.standing = plus(pool.standing, replacementOf(node))
	}
	if node.Deleting && ix.unfinished[node.NodeClaimUID] == nil {
		pool.leaves(node)
	}
	if ix.countsTowardsBudget(node) {
		pool.nodes++
		if f, ok := ix.flightOf(node); ok {
			pool.inFlight = append(pool.inFlight, f)
		}
	}
	if len(node.Reboots) > 0 {
		ix.history.reboots[node.NodeClaimUID] = append(ix.history.reboots[node.NodeClaimUID], node.Reboots...)
	}
	if ix.atWorkInside(node) {
		for _, d := range domainsOf(node) {
			ix.domain(d).works(domainRepair{node: node, reason: node.Verdict.Deciding.Finding.Reason})
		}
	}
	if !ix.countsTowardsDomains(node) {
		return
	}
	sick := failing(node)
	for _, d := range domainsOf(node) {
		state := ix.domain(d)
		state.nodes++
		if sick {
			state.sick = append(state.sick, node)
		}
	}
}

// atWorkInside says whether Karpenter's own queue repairs the node for us. Inside Karpenter there is no NodeRepair to tell
// it; a sick node that Karpenter is taking is one that it was given.
func (ix *index) atWorkInside(node *Node) bool {
	return ix.in.Budgets != nil && node.Verdict.Deciding != nil && failing(node) &&
		(node.KarpenterDisrupting || node.Rebooting || (node.Deleting && !node.Terminated))
}

func (ix *index) addRepair(repair *v1alpha1.NodeRepair) {
	ix.history.add(repair)
	pool := ix.pool(repair.Spec.NodePool)
	if repair.Finished() {
		pool.record.add(repair, ix.in.Now)
	} else {
		pool.repairing++
		ix.addToPool(pool, repair)
	}
	ends := endOf(repair)
	if !ends.After(ix.in.Now) {
		ends = time.Time{} // past its time, so it may end at any moment
	}
	for _, d := range ix.domainsOfRepair(repair) {
		state := ix.domain(d)
		if repair.Finished() {
			state.record.add(repair, ix.in.Now)
		}
		if !repair.Finished() || !ends.IsZero() {
			state.works(domainRepair{reason: repair.Spec.Cause.Reason, node: ix.nodes[repair.Spec.NodeClaim.UID], ends: ends})
		}
	}
}

// addToPool counts a repair at work into its NodePool.
func (ix *index) addToPool(pool *poolState, repair *v1alpha1.NodeRepair) {
	node, stands := ix.nodes[repair.Spec.NodeClaim.UID]
	switch {
	case !stands && repair.Spec.TerminateFirst && repair.HoldsBudget():
		// The node has gone first, and nothing has come in its place yet.
		pool.inFlight = append(pool.inFlight, flight{
			uid: repair.Spec.NodeClaim.UID, what: repair.Spec.NodeClaim.Name + ": repair " + repair.Name, repair: repair, leaving: true,
		})
	case stands && !repair.Spec.TerminateFirst && repair.HoldsBudget() && repair.Spec.Replacements > 0:
		pool.leaves(node)
		if needsRoom(repair) {
			pool.launching = plus(pool.launching, replacementOf(node))
		}
	}
}

// admit counts a node as in flight for those who come after it.
func (ix *index) admit(c *candidate) {
	c.pool.repairing++
	if ix.countsTowardsBudget(c.node) {
		c.pool.inFlight = append(c.pool.inFlight, flight{uid: c.node.NodeClaimUID, what: label(c.node) + ": starting now"})
	}
	if c.needsReplacement() && !c.terminateFirst {
		c.pool.launching = plus(c.pool.launching, replacementOf(c.node))
		c.pool.leaves(c.node)
	}
	for _, d := range domainsOf(c.node) {
		ix.domain(d).works(domainRepair{reason: c.deciding.Finding.Reason, node: c.node})
	}
	if ix.in.Budgets != nil && ix.countsTowardsBudget(c.node) {
		c.pool.allowanceOf(ix).remaining--
	}
}

// leaves counts a node among those that go, as far as it is counted among those that stand.
func (p *poolState) leaves(node *Node) {
	if len(node.Capacity) > 0 && p.limited() {
		p.leaving = plus(p.leaving, replacementOf(node))
	}
}

func (ix *index) pool(name string) *poolState {
	pool, ok := ix.pools[name]
	if !ok {
		pool = &poolState{name: name}
		ix.pools[name] = pool
	}
	return pool
}

func (ix *index) domain(d domain) *domainState {
	state, ok := ix.domains[d]
	if !ok {
		state = &domainState{}
		ix.domains[d] = state
	}
	return state
}

// label is how a node is called in sentences.
func label(node *Node) string { return cmp.Or(node.NodeName, node.NodeClaim) }

// recently says whether something happened within the period that ends at now.
func recently(at, now time.Time, period time.Duration) bool { return at.After(now.Add(-period)) }
