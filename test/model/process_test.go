package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodeclaim/conditions"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/noderepair/execution"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/noderepair/janitor"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	method "github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/repair"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// actorOurs is who writes when our controller does.
const actorOurs = "autorepair"

var errCrash = errors.New("the process ends here")

// Loops of the process, in the order in which they are run where several are due.
const (
	loopConditions = "conditions"
	loopDisruption = "disruption"
	loopExecution  = "execution"
	loopJanitor    = "janitor"
)

// debounce is that of the disruption controller.
const debounce = 200 * time.Millisecond

type task struct{ loop, name string }

// process is our controller from its start to its end: the real controllers, with queues that stand in for the
// manager's. Nothing of it outlives a crash.
type process struct {
	w       *world
	started time.Time
	dead    bool
	board   *method.Board
	loops   map[string]reconcile.Reconciler
	due     map[task]time.Time
	failed  map[task]int
	// cache is what cached reads see while it lags; nil while it does not.
	cache    state
	lagUntil time.Time
	missed   []func()

	// raced says that something came between two writes of what is being done.
	raced bool

	// together are NodeRepairs that a pass writes at the same time, in no order: they reach the API server after it, by
	// name, so that a run is the same each time.
	mu       sync.Mutex
	together []*v1alpha1.NodeRepair
}

type silentRecorder struct{}

func (silentRecorder) Eventf(runtime.Object, runtime.Object, string, string, string, string, ...any) {
}

func newProcess(w *world) *process {
	p := &process{w: w, started: w.now(), due: map[task]time.Time{}, failed: map[task]int{}}
	cached := &view{api: w.api, actor: actorOurs, write: p.write, read: func() state {
		if p.cache != nil {
			return p.cache
		}
		return w.api.objects
	}}
	past := &view{api: w.api, actor: actorOurs, write: p.write, read: func() state { return w.api.objects }}
	found := func() decision.Karpenter {
		return decision.Karpenter{Version: "1.15.0", HonoursDoNotRepair: true, RebootSupported: true}
	}
	p.board = method.NewBoard(func(name string) { p.at(task{loopConditions, name}, 0) })
	gatherer := snapshot.NewGatherer(w.ours, cached, found, true)
	repairs := func(ctx context.Context) ([]v1alpha1.NodeRepair, error) { return snapshot.ListRepairs(ctx, past) }
	executor := &repair.Executor{
		Client: cached, Reader: past, Clock: w.ours, Recorder: silentRecorder{}, Snapshot: gatherer, Karpenter: found,
	}
	sweeps := janitor.NewController(w.ours, cached, past, executor)
	p.loops = map[string]reconcile.Reconciler{
		loopConditions: conditions.NewController(w.ours, cached, silentRecorder{}, p.board, make(chan event.GenericEvent)),
		loopDisruption: disruption.NewController(w.ours, cached, past,
			method.NewMethod(gatherer, method.NewInKindPlanner(), p.board, repairs), p.board, gatherer.Stops, func(time.Duration) {}),
		loopExecution: execution.NewController(cached, executor),
		loopJanitor: reconcile.Func(func(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
			return reconcile.Result{RequeueAfter: janitor.Every}, sweeps.Round(ctx)
		}),
	}
	for _, claim := range all[karpv1.NodeClaim](w.api.objects) {
		p.at(task{loopConditions, claim.Name}, 0)
	}
	for _, r := range all[v1alpha1.NodeRepair](w.api.objects) {
		p.at(task{loopExecution, r.Name}, 0)
	}
	p.at(task{loopDisruption, "nodes"}, debounce)
	p.at(task{loopJanitor, "round"}, 0)
	return p
}

// at asks for a task after a time; of several such wishes the earliest counts.
func (p *process) at(t task, after time.Duration) {
	at := p.w.now().Add(after)
	if was, ok := p.due[t]; !ok || at.Before(was) {
		p.due[t] = at
	}
}

// next is when something is due.
func (p *process) next() (next time.Time) {
	for _, at := range p.due {
		next = earliest(next, at)
	}
	return earliest(next, p.lagUntil)
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// run does what is due. It ends early where the process ends.
func (p *process) run() {
	if !p.lagUntil.IsZero() && !p.w.now().Before(p.lagUntil) {
		p.catchUp()
	}
	for rounds := 0; !p.dead; rounds++ {
		t, ok := p.first()
		if !ok {
			return
		}
		p.w.demand(rounds < 3000, "the controller turns in circles: %s is due for ever", t)
		delete(p.due, t)
		p.raced = false
		p.w.reconciled[t.loop]++
		result, err := p.loops[t.loop].Reconcile(snapshot.WithKarpenterOptions(context.Background()), reconcile.Request{NamespacedName: types.NamespacedName{Name: t.name}})
		p.createRepairs()
		switch {
		case p.dead:
		case err != nil:
			p.w.demand(apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || t.loop == loopJanitor, "%s: %s", t, err)
			p.failed[t]++
			p.at(t, min(100*time.Millisecond<<min(p.failed[t], 10), 30*time.Second))
		default:
			delete(p.failed, t)
			if result.RequeueAfter > 0 {
				p.at(t, result.RequeueAfter)
			}
		}
	}
}

func (p *process) createRepairs() {
	repairs := p.together
	p.together = nil
	slices.SortFunc(repairs, func(a, b *v1alpha1.NodeRepair) int { return cmp.Compare(a.Name, b.Name) })
	for _, r := range repairs {
		_ = p.land("create", r, func() error { return p.w.api.create(actorOurs, r) })
	}
}

func (p *process) first() (task, bool) {
	order := []string{loopConditions, loopDisruption, loopExecution, loopJanitor}
	tasks := slices.SortedFunc(maps.Keys(p.due), func(a, b task) int {
		return cmp.Or(p.due[a].Compare(p.due[b]), cmp.Compare(slices.Index(order, a.loop), slices.Index(order, b.loop)), cmp.Compare(a.name, b.name))
	})
	if len(tasks) == 0 || p.due[tasks[0]].After(p.w.now()) {
		return task{}, false
	}
	return tasks[0], true
}

// write is where a process can end: before a write reaches the API server, or before its answer comes.
func (p *process) write(verb string, o client.Object, do func() error) error {
	if r, ok := o.(*v1alpha1.NodeRepair); ok && verb == "create" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.together = append(p.together, r)
		return nil
	}
	return p.land(verb, o, do)
}

func (p *process) land(verb string, o client.Object, do func() error) error {
	if p.dead {
		return errCrash
	}
	w := p.w
	w.beforeWrite(verb, o)
	if w.crashIn > 0 {
		if w.crashIn--; w.crashIn == 0 {
			if w.answerLost {
				_ = do()
			}
			p.dead = true
			w.seen.crashes++
			return errCrash
		}
	}
	return do()
}

// lag lets the cache fall behind for a while.
func (p *process) lag(for_ time.Duration) {
	if p.cache == nil {
		p.cache, p.lagUntil = p.w.api.objects.copied(), p.w.now().Add(for_)
	}
}

func (p *process) catchUp() {
	missed := p.missed
	p.cache, p.lagUntil, p.missed = nil, time.Time{}, nil
	for _, notice := range missed {
		notice()
	}
}

// notice is what the watches of the controllers come to.
func (p *process) notice(before, after client.Object) {
	if p.cache != nil {
		p.missed = append(p.missed, func() { p.notice(before, after) })
		return
	}
	o := after
	if o == nil {
		o = before
	}
	switch o := o.(type) {
	case *karpv1.NodeClaim:
		p.at(task{loopConditions, o.Name}, 0)
		p.repairs(func(r *v1alpha1.NodeRepair) bool {
			return r.Spec.NodeClaim.UID == o.UID || r.Name == o.Labels[v1alpha1.NodeRepairLabel]
		})
	case *corev1.Node:
		p.repairs(func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodeName == o.Name })
	case *v1alpha1.NodeHealth:
		for _, claim := range all[karpv1.NodeClaim](p.w.api.objects) {
			if claim.Status.NodeName == o.Name {
				p.at(task{loopConditions, claim.Name}, 0)
			}
		}
		p.repairs(func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodeName == o.Name })
	case *v1alpha1.RepairPolicy:
		for _, claim := range all[karpv1.NodeClaim](p.w.api.objects) {
			p.at(task{loopConditions, claim.Name}, 0)
		}
		p.repairs(func(*v1alpha1.NodeRepair) bool { return true })
	case *v1alpha1.NodeRepair:
		p.at(task{loopExecution, o.Name}, 0)
		p.at(task{loopConditions, o.Spec.NodeClaim.Name}, 0)
		if was, ok := before.(*v1alpha1.NodeRepair); ok && after != nil && was.Status.Phase == o.Status.Phase {
			return
		}
	case *v1alpha1.RepairPause:
		p.repairs(func(*v1alpha1.NodeRepair) bool { return true })
	case *karpv1.NodePool:
		p.repairs(func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodePool == o.Name })
	case *policyv1.PodDisruptionBudget:
	default:
		return
	}
	p.at(task{loopDisruption, "nodes"}, debounce)
}

func (p *process) repairs(matches func(*v1alpha1.NodeRepair) bool) {
	for _, r := range all[v1alpha1.NodeRepair](p.w.api.objects) {
		if !r.Finished() && matches(r) {
			p.at(task{loopExecution, r.Name}, 0)
		}
	}
}

func (t task) String() string { return fmt.Sprintf("%s of %s", t.loop, t.name) }
