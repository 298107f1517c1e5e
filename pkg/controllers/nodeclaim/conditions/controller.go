// Package conditions writes what is known of a NodeClaim's node, and what will be done about it, on the NodeClaim.
package conditions

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/explain"
)

// Controller is the one writer of our conditions.
type Controller struct {
	clock      clock.Clock
	kubeClient client.Client
	recorder   events.EventRecorder
	board      *disruption.Board
	changed    chan event.GenericEvent
	steps      *rate.Limiter
	oneList    func() bool
	observe    func(v1alpha1.Category, time.Duration)
	detections detections

	mu       sync.Mutex
	versions string
	policies *diagnosis.Policies
}

// NewController makes the writer of our conditions. changed brings the names of NodeClaims whose decision on the board
// has changed.
func NewController(clk clock.Clock, kubeClient client.Client, recorder events.EventRecorder, board *disruption.Board, changed chan event.GenericEvent) *Controller {
	return &Controller{clock: clk, kubeClient: kubeClient, recorder: recorder, board: board, changed: changed, steps: rate.NewLimiter(stepsPerSecond, stepsBurst)}
}

// LockWhere says where the API server takes the conditions of a NodeClaim for one list, as with the CRDs of Karpenter
// before 1.15: server-side apply would drop everybody else's there, and Karpenter would launch the node again.
func (c *Controller) LockWhere(oneList func() bool) *Controller {
	c.oneList = oneList
	return c
}

// ObserveDetection lets observe hear how long it took from the start of each fault until its condition was written.
func (c *Controller) ObserveDetection(observe func(v1alpha1.Category, time.Duration)) *Controller {
	c.observe = observe
	return c
}

// Name of the controller.
func (*Controller) Name() string { return "nodeclaim.conditions" }

// Reconcile writes the conditions of one NodeClaim where they differ.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	claim := &karpv1.NodeClaim{}
	if err := c.kubeClient.Get(ctx, request.NamespacedName, claim); err != nil {
		if apierrors.IsNotFound(err) {
			c.detections.forget(request.Name)
		}
		return reconcile.Result{}, client.IgnoreNotFound(err) //nolint:wrapcheck // names the object
	}
	diagnosed, err := c.diagnose(ctx, claim)
	if err != nil {
		return reconcile.Result{}, err
	}
	if !claim.DeletionTimestamp.IsZero() && len(diagnosed.Facts) == 0 {
		return reconcile.Result{}, nil // its Node is gone, and it is about to go; what it says stays
	}
	repair, err := c.repair(ctx, claim.UID)
	if err != nil {
		return reconcile.Result{}, err
	}
	var dec *decision.Decision
	if d, ok := c.board.Get(claim.UID); ok {
		dec = &d
	}
	now := c.clock.Now()
	existing := ours(claim)
	wanted := explain.Merge(existing, explain.Conditions(now, diagnosed, dec, repair), metav1.NewTime(now))
	if !same(existing, wanted) {
		if pause := c.pause(claim, repair, existing, wanted, now); pause > 0 {
			return reconcile.Result{RequeueAfter: pause}, nil
		}
		if err := c.write(ctx, claim, wanted); err != nil {
			if apierrors.IsNotFound(err) {
				return reconcile.Result{}, nil
			}
			if apierrors.IsConflict(err) && c.locks() {
				return reconcile.Result{RequeueAfter: conflictPause}, nil
			}
			return reconcile.Result{}, fmt.Errorf("writing the conditions of nodeclaim %s, %w", claim.Name, err)
		}
		c.tell(claim, existing, wanted)
		c.detected(claim.Name, existing, wanted, diagnosed.Verdict, c.clock.Now())
	}
	if diagnosed.NextChange.IsZero() {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: max(diagnosed.NextChange.Sub(c.clock.Now()), 1)}, nil
}

func (c *Controller) diagnose(ctx context.Context, claim *karpv1.NodeClaim) (diagnosis.Diagnosis, error) {
	subject := diagnosis.Subject{Name: claim.Name, Labels: claim.Labels}
	if claim.Status.NodeName != "" {
		health := &v1alpha1.NodeHealth{}
		err := c.kubeClient.Get(ctx, client.ObjectKey{Name: claim.Status.NodeName}, health)
		if client.IgnoreNotFound(err) != nil {
			return diagnosis.Diagnosis{}, fmt.Errorf("getting the nodehealth, %w", err)
		}
		if err == nil {
			subject.Health = health
		}
	}
	policies, err := c.compiled(ctx)
	if err != nil {
		return diagnosis.Diagnosis{}, err
	}
	return policies.Diagnose(c.clock.Now(), subject), nil
}

// compiled gives the policies, compiled once for each change of any of them.
func (c *Controller) compiled(ctx context.Context) (*diagnosis.Policies, error) {
	list := &v1alpha1.RepairPolicyList{}
	if err := c.kubeClient.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing repairpolicies, %w", err)
	}
	versions := strings.Join(lo.Map(list.Items, func(p v1alpha1.RepairPolicy, _ int) string {
		return fmt.Sprintf("%s/%d", p.UID, p.Generation)
	}), " ")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.policies == nil || c.versions != versions {
		c.policies, c.versions = diagnosis.Compile(list.Items), versions
	}
	return c.policies, nil
}

// repair gives the unfinished NodeRepair of a NodeClaim; nil where there is none.
func (c *Controller) repair(ctx context.Context, uid types.UID) (*v1alpha1.NodeRepair, error) {
	list := &v1alpha1.NodeRepairList{}
	if err := c.kubeClient.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing noderepairs, %w", err)
	}
	for i := range list.Items {
		if r := &list.Items[i]; r.Spec.NodeClaim.UID == uid && !r.Finished() {
			return r.DeepCopy(), nil
		}
	}
	return nil, nil
}

func ours(claim *karpv1.NodeClaim) []metav1.Condition {
	return lo.FilterMap(claim.Status.Conditions, func(s status.Condition, _ int) (metav1.Condition, bool) {
		return metav1.Condition(s), strings.HasPrefix(s.Type, v1alpha1.Group+"/")
	})
}

// same compares what people read, whatever the order.
func same(existing, wanted []metav1.Condition) bool {
	if len(existing) != len(wanted) {
		return false
	}
	has := lo.SliceToMap(existing, func(e metav1.Condition) (string, metav1.Condition) { return e.Type, e })
	return lo.EveryBy(wanted, func(w metav1.Condition) bool {
		e, ok := has[w.Type]
		return ok && e.Status == w.Status && e.Reason == w.Reason && e.Message == w.Message
	})
}

// conflictPause is how long the cache is given to catch up with what somebody else wrote.
const conflictPause = 200 * time.Millisecond

func (c *Controller) locks() bool { return c.oneList != nil && c.oneList() }

func (c *Controller) write(ctx context.Context, claim *karpv1.NodeClaim, wanted []metav1.Condition) error {
	if c.locks() {
		return c.replace(ctx, claim, wanted)
	}
	return c.apply(ctx, claim, wanted)
}

// replace writes the whole list, ours beside those of others, against the version that was read.
func (c *Controller) replace(ctx context.Context, claim *karpv1.NodeClaim, wanted []metav1.Condition) error {
	all := lo.FilterMap(claim.Status.Conditions, func(s status.Condition, _ int) (metav1.Condition, bool) {
		return metav1.Condition(s), !strings.HasPrefix(s.Type, v1alpha1.Group+"/")
	})
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": claim.ResourceVersion, "uid": claim.UID},
		"status":   map[string]any{"conditions": append(all, wanted...)},
	})
	if err != nil {
		return fmt.Errorf("writing conditions down, %w", err)
	}
	target := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: claim.Name}}
	return c.kubeClient.Status().Patch(ctx, target, client.RawPatch(types.MergePatchType, body)) //nolint:wrapcheck // the caller says it
}

// apply states all conditions of ours and nothing else: those that are no longer stated go, those of others stay.
func (c *Controller) apply(ctx context.Context, claim *karpv1.NodeClaim, wanted []metav1.Condition) error {
	text, err := json.Marshal(map[string]any{
		"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
		"metadata": map[string]any{"name": claim.Name, "uid": claim.UID},
		"status":   map[string]any{"conditions": wanted},
	})
	if err != nil {
		return fmt.Errorf("writing conditions down, %w", err)
	}
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(text, &object.Object); err != nil {
		return fmt.Errorf("writing conditions down, %w", err)
	}
	return c.kubeClient.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(v1alpha1.ConditionsManager), client.ForceOwnership) //nolint:wrapcheck // the caller says it
}

// Register adds the controller to the manager.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m). //nolint:wrapcheck // the caller names the controller
								Named(c.Name()).
								For(&karpv1.NodeClaim{}).
								Watches(&v1alpha1.NodeHealth{}, handler.EnqueueRequestsFromMapFunc(c.ofNode)).
								Watches(&v1alpha1.NodeRepair{}, handler.EnqueueRequestsFromMapFunc(ofRepair)).
								Watches(&v1alpha1.RepairPolicy{}, handler.EnqueueRequestsFromMapFunc(c.all)).
								WatchesRawSource(source.Channel(c.changed, &handler.EnqueueRequestForObject{})).
								WithOptions(controller.Options{MaxConcurrentReconciles: 20}).
								Complete(c)
}
