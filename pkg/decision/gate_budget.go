package decision

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"k8s.io/utils/clock"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// standaloneBudget is how many NodeClaims without a NodePool are repaired at a time: they have no budget of their own.
const standaloneBudget = 1

// fixedClock lets Karpenter's own functions see the moment of the Input.
type fixedClock struct {
	clock.RealClock
	now time.Time
}

func (c fixedClock) Now() time.Time                  { return c.now }
func (c fixedClock) Since(t time.Time) time.Duration { return c.now.Sub(t) }

// allowance is what a pool's budgets say now.
type allowance struct {
	// limit on disruptions at once, in the reckoning of Karpenter's own functions.
	limit int
	// remaining is set where the caller has reckoned the budget; then limit does not count.
	remaining int
	reckoned  bool
	// err says that some budget of the pool cannot be read.
	err error
	// why is reckoned when a sentence first needs it.
	why *whyLimit
}

// whyLimit is what people want to know of a limit.
type whyLimit struct {
	// binding describes the budgets that give the limit.
	binding string
	// changesAt is when a schedule may give another limit; zero where there is none.
	changesAt time.Time
}

func (a *allowance) explain(p *poolState, now time.Time) whyLimit {
	if a.why == nil {
		a.why = &whyLimit{}
		if p.object != nil {
			a.why.binding = bindingBudgets(p, now, a.limit)
			a.why.changesAt = nextLimitChange(p, now, a.limit)
		}
	}
	return *a.why
}

func (p *poolState) allowanceOf(ix *index) *allowance {
	if p.allowance == nil {
		p.allowance = reckonAllowance(ix, p)
	}
	return p.allowance
}

func reckonAllowance(ix *index, p *poolState) *allowance {
	a := &allowance{limit: standaloneBudget}
	if p.object != nil {
		a.limit, a.err = p.object.GetAllowedDisruptionsByReason(fixedClock{now: ix.in.Now}, p.nodes, karpv1.DisruptionReasonUnhealthy)
	}
	if ix.in.Budgets != nil {
		a.reckoned, a.remaining = true, ix.in.Budgets[p.name]
	}
	return a
}

// gateBudget closes while the NodePool's disruption budgets admit no further repair. A budget that cannot be read
// closes it for the whole NodePool. Nodes that are not Initialized neither need nor consume budget, as in Karpenter.
func gateBudget(ix *index, c *candidate) []Blocker {
	if c.node.NodePool != "" && c.pool.object == nil {
		return nil // there is no budget to read, which gatePoolExists says
	}
	a := c.pool.allowanceOf(ix)
	if a.err != nil {
		return budgetInvalid(c.pool, ix.in.Now)
	}
	if _, has := ix.flightOf(c.node); has || c.repair != nil || !ix.countsTowardsBudget(c.node) {
		return nil // it has its place already, or needs none
	}
	if a.reckoned {
		if a.remaining > 0 {
			return nil
		}
		return []Blocker{{
			Reason:   BlockerBudget,
			Message:  fmt.Sprintf("the budgets of NodePool %q admit no further disruption for reason Unhealthy", c.pool.name),
			RetryAt:  a.explain(c.pool, ix.in.Now).changesAt,
			LiftedBy: raiseBudget(c.pool),
		}}
	}
	if len(c.pool.inFlight) < a.limit {
		return nil
	}
	return budgetExhausted(ix, c.pool, c.pool.inFlight)
}

// gateBudgetStillThere is gateBudget for a repair in flight, right before its delete: it closes when the budget does not
// admit this repair on top of those that have a better claim to it.
func gateBudgetStillThere(ix *index, c *candidate) []Blocker {
	if c.node.NodePool != "" && c.pool.object == nil {
		return nil
	}
	a := c.pool.allowanceOf(ix)
	if a.err != nil {
		return budgetInvalid(c.pool, ix.in.Now)
	}
	if a.reckoned || !ix.countsTowardsBudget(c.node) {
		return nil
	}
	var ahead []flight
	for _, f := range c.pool.inFlight {
		if f.uid != c.node.NodeClaimUID && f.ahead(c.repair) {
			ahead = append(ahead, f)
		}
	}
	if len(ahead) < a.limit {
		return nil
	}
	return budgetExhausted(ix, c.pool, ahead)
}

// ahead says whether a disruption keeps its place in the budget before a repair of ours.
func (f flight) ahead(mine *v1alpha1.NodeRepair) bool {
	if f.leaving || f.repair == nil || mine == nil {
		return true
	}
	theirs, ours := f.repair.CreationTimestamp, mine.CreationTimestamp
	if theirs.Equal(&ours) {
		return f.repair.Name < mine.Name
	}
	return theirs.Before(&ours)
}

func budgetInvalid(p *poolState, now time.Time) []Blocker {
	var out []Blocker
	for i := range p.object.Spec.Disruption.Budgets {
		budget := &p.object.Spec.Disruption.Budgets[i]
		if _, err := p.limitBy(*budget, now); err != nil {
			out = append(out, Blocker{
				Reason:   BlockerBudgetInvalid,
				Message:  fmt.Sprintf("budget of NodePool %q (%s) cannot be read: %s", p.name, describeBudget(budget), innermost(err)),
				LiftedBy: fmt.Sprintf("correct spec.disruption.budgets of NodePool %q", p.name),
			})
		}
	}
	return out
}

// limitBy gives the limit on repairs by one budget alone.
func (p *poolState) limitBy(budget karpv1.Budget, now time.Time) (int, error) {
	alone := karpv1.NodePool{}
	alone.Spec.Disruption.Budgets = []karpv1.Budget{budget}
	return alone.GetAllowedDisruptionsByReason(fixedClock{now: now}, p.nodes, karpv1.DisruptionReasonUnhealthy)
}

func budgetExhausted(ix *index, p *poolState, inFlight []flight) []Blocker {
	a := p.allowanceOf(ix)
	why := a.explain(p, ix.in.Now)
	b := Blocker{Reason: BlockerBudget, RetryAt: why.changesAt, LiftedBy: raiseBudget(p)}
	subject := fmt.Sprintf("budget of NodePool %q (%s)", p.name, why.binding)
	if p.name == "" {
		subject, b.LiftedBy = "what is allowed for NodeClaims without a NodePool", ""
	}
	if a.limit == 0 {
		b.Message = subject + " admits no disruption for reason Unhealthy"
		return []Blocker{b}
	}
	names := make([]string, 0, len(inFlight))
	for _, f := range inFlight {
		names = append(names, f.what)
	}
	b.Message = fmt.Sprintf("%s admits %s for reason Unhealthy, %d in flight (%s)",
		subject, plural(a.limit, "disruption"), len(names), nameSome(names))
	return []Blocker{b}
}

func raiseBudget(p *poolState) string {
	return fmt.Sprintf("raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool %q", p.name)
}

// bindingBudgets describes the budgets of a pool that give its limit.
func bindingBudgets(p *poolState, now time.Time, limit int) string {
	var out []string
	for i := range p.object.Spec.Disruption.Budgets {
		budget := &p.object.Spec.Disruption.Budgets[i]
		value, err := p.limitBy(*budget, now)
		if err == nil && value == limit && value != math.MaxInt32 {
			out = append(out, describeBudget(budget))
		}
	}
	return strings.Join(out, "; ")
}

func describeBudget(budget *karpv1.Budget) string {
	out := fmt.Sprintf("nodes: %q", budget.Nodes)
	if budget.Schedule != nil {
		out += fmt.Sprintf(", schedule: %q UTC", *budget.Schedule)
	}
	if budget.Duration != nil {
		out += ", duration: " + budget.Duration.Duration.String()
	}
	return out
}

// nextLimitChange looks ahead, up to the next full hour, for the first minute at which schedules give another limit; they have
// minutes as their finest grain. It gives that minute, or the full hour as the time to look again. Zero where no
// budget has a schedule.
func nextLimitChange(p *poolState, now time.Time, limit int) time.Time {
	if !hasSchedule(p.object) {
		return time.Time{}
	}
	hour := now.Truncate(time.Hour).Add(time.Hour)
	for at := now.Truncate(time.Minute).Add(time.Minute); at.Before(hour); at = at.Add(time.Minute) {
		value, err := p.object.GetAllowedDisruptionsByReason(fixedClock{now: at}, p.nodes, karpv1.DisruptionReasonUnhealthy)
		if err != nil || value != limit {
			return at
		}
	}
	return hour
}

func hasSchedule(pool *karpv1.NodePool) bool {
	for i := range pool.Spec.Disruption.Budgets {
		if pool.Spec.Disruption.Budgets[i].Schedule != nil {
			return true
		}
	}
	return false
}

// countsTowardsBudget says whether the node counts in its pool's budgets: as Karpenter counts, and a node that we reboot
// also between the end of Karpenter's Rebooting and the moment when it is Initialized again.
func (ix *index) countsTowardsBudget(node *Node) bool {
	if node.Terminated {
		return false
	}
	repair := ix.unfinished[node.NodeClaimUID]
	return node.Initialized || node.Rebooting ||
		(repair != nil && repair.Spec.Action == v1alpha1.ActionReboot && repair.HoldsBudget())
}

// flightOf says how a node takes up its pool's budget, if it does. Nodes that are merely NotReady do not: they are
// what the budget is there to repair.
func (ix *index) flightOf(node *Node) (flight, bool) {
	f := flight{uid: node.NodeClaimUID, leaving: node.Deleting || node.Rebooting}
	repair := ix.unfinished[node.NodeClaimUID]
	switch {
	case repair != nil && repair.HoldsBudget():
		f.repair, f.what = repair, label(node)+": repair "+repair.Name
	case node.Deleting:
		f.what = label(node) + ": deleting"
	case node.Rebooting:
		f.what = label(node) + ": rebooting"
	case node.KarpenterDisrupting:
		f.what = label(node) + ": disrupted by Karpenter"
	default:
		return flight{}, false
	}
	return f, true
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// innermost gives the sentence that says what is wrong, without what Karpenter puts around it.
func innermost(err error) string {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
