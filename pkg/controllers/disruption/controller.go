// Package disruption hosts the disruption Method beside an unmodified Karpenter: it turns the Method's Commands into
// NodeRepairs, which others carry out.
package disruption

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// lookAgain is how long a sick node waits at most for the next pass: not everything that holds it back is watched.
const lookAgain = 10 * time.Second

// writesAtOnce is how many NodeRepairs of one pass are written at the same time.
const writesAtOnce = 10

// Controller decides about all sick nodes in one pass.
type Controller struct {
	clock      clock.Clock
	kubeClient client.Client
	apiReader  client.Reader
	method     karpdisruption.Method
	board      *disruption.Board
	stops      Stops
	observe    func(time.Duration)
	committed  func(v1alpha1.Action, time.Duration)
}

// Stops gives what people have said by now against the repair of a NodeClaim, as the reader has it: of all repairs, where
// the names are empty.
type Stops func(ctx context.Context, reader client.Reader, nodeClaim, node, policy string) ([]decision.Blocker, error)

// NewController makes the host of a Method. kubeClient reads from the cache, apiReader past it; board is where the
// Method shows its decisions; stops is asked right before each repair is committed to; observe is told how long each pass took.
func NewController(clk clock.Clock, kubeClient client.Client, apiReader client.Reader, method karpdisruption.Method,
	board *disruption.Board, stops Stops, observe func(time.Duration),
) *Controller {
	return &Controller{clock: clk, kubeClient: kubeClient, apiReader: apiReader, method: method, board: board, stops: stops, observe: observe}
}

// ObserveCommitments lets observe hear of each repair that was committed to, and how long after the end of the toleration.
func (c *Controller) ObserveCommitments(observe func(v1alpha1.Action, time.Duration)) *Controller {
	c.committed = observe
	return c
}

// Name of the controller.
func (*Controller) Name() string { return "disruption" }

// Reconcile makes one pass: every sick node is decided about, whether or not it can be repaired, and every admitted one
// gets its NodeRepair.
func (c *Controller) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	ctx = snapshot.WithKarpenterOptions(ctx)
	started := c.clock.Now()
	candidates, err := c.candidates(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	commands, err := c.method.ComputeCommands(ctx, nil, candidates...)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("computing commands, %w", err)
	}
	c.observe(c.clock.Since(started))
	if err := c.commit(ctx, commands); err != nil {
		if apierrors.IsConflict(err) {
			return reconcile.Result{RequeueAfter: debounce}, nil
		}
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: c.nextPass()}, nil
}

// commit creates a NodeRepair for each Command. From then on it holds the budget.
func (c *Controller) commit(ctx context.Context, commands []karpdisruption.Command) error {
	if len(commands) == 0 {
		return nil
	}
	existing, err := snapshot.ListRepairs(ctx, c.apiReader)
	if err != nil {
		return err
	}
	// Past the cache: a stop that was written while the pass was made must be seen, however far the cache is behind.
	stopped, err := c.stops(ctx, c.apiReader, "", "", "")
	if err != nil || len(stopped) > 0 {
		return err
	}
	var repairs []*v1alpha1.NodeRepair
	var eligible []time.Time
	for _, command := range commands {
		for _, candidate := range command.Candidates {
			d, ok := c.board.Get(candidate.NodeClaim.UID)
			if ok && d.Admitted && !atWork(existing, candidate.NodeClaim.UID) {
				repairs = append(repairs, newNodeRepair(d, nextName(existing, candidate.NodeClaim.Name), len(command.Replacements)))
				eligible = append(eligible, d.Node.Verdict.Deciding.EligibleAt)
			}
		}
	}
	// Each is within the budget by itself, so those that succeed stand although others fail.
	errs := make([]error, len(repairs))
	workqueue.ParallelizeUntil(ctx, writesAtOnce, len(repairs), func(i int) { errs[i] = c.create(ctx, repairs[i], eligible[i]) })
	return errors.Join(errs...)
}

// create writes one NodeRepair, unless somebody has stopped it by now: many are written in one pass, and a stop counts
// from the moment at which the cache shows it. eligible is when the toleration of its cause had passed.
func (c *Controller) create(ctx context.Context, repair *v1alpha1.NodeRepair, eligible time.Time) error {
	stopped, err := c.stops(ctx, c.kubeClient, repair.Spec.NodeClaim.Name, repair.Spec.NodeName, repair.Spec.Policy.Name)
	if err != nil || len(stopped) > 0 {
		return err // the stop brings the next pass about, which says so
	}
	if err := c.kubeClient.Create(ctx, repair); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return fmt.Errorf("creating noderepair, %w", err)
	}
	if c.committed != nil {
		c.committed(repair.Spec.Action, c.clock.Since(eligible))
	}
	log.FromContext(ctx).Info("committed to a repair", "NodeRepair", repair.Name, "NodeClaim", repair.Spec.NodeClaim.Name,
		"Node", repair.Spec.NodeName, "action", repair.Spec.Action, "reason", repair.Spec.Cause.Reason)
	return nil
}

// nextPass says when to look again without being told; zero for never.
func (c *Controller) nextPass() time.Duration {
	if len(c.board.All()) == 0 {
		return 0
	}
	if next := c.board.NextChange(); !next.IsZero() {
		return min(max(next.Sub(c.clock.Now()), debounce), lookAgain)
	}
	return lookAgain
}
