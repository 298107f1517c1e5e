// Package detection writes what the cluster detectors find into NodeHealths.
package detection

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/samber/lo"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodehealth"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
)

const (
	// afterConflict is how soon a Node is looked at again whose NodeHealth was changed by somebody else meanwhile.
	afterConflict = 100 * time.Millisecond
	// comesUpWithin is how long the first NodeHealth of a Node that comes up without a Fatal finding may wait.
	comesUpWithin = 30 * time.Second
	// countLeasesEvery bounds the work when many nodes turn Unknown at once: one count serves them all.
	countLeasesEvery = time.Second
)

// Controller evaluates all cluster detectors for one Node at a time.
type Controller struct {
	clock      clock.Clock
	kubeClient client.Client
	recorder   events.EventRecorder
	mappings   []cluster.Mapping
	orphans    sync.Map // name of a NodeHealth without a Node -> its UID, once said

	leasesLock sync.Mutex
	leases     cluster.Leases
	leasesAt   time.Time
}

// NewController makes the controller. The client has to know Pods by the index spec.nodeName and NodeClaims by
// status.providerID.
func NewController(clk clock.Clock, kubeClient client.Client, recorder events.EventRecorder, mappings []cluster.Mapping) *Controller {
	return &Controller{clock: clk, kubeClient: kubeClient, recorder: recorder, mappings: mappings}
}

// Name of the controller.
func (*Controller) Name() string { return "node.detection" }

// Reconcile evaluates the detectors for one Node and writes what has changed.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	health, err := c.health(ctx, req.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	node := &corev1.Node{}
	if err := c.kubeClient.Get(ctx, req.NamespacedName, node); err != nil {
		if apierrors.IsNotFound(err) {
			c.withoutNode(req.Name, health)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("getting node, %w", err)
	}
	c.orphans.Delete(req.Name)
	nodeClaim, err := c.nodeClaim(ctx, node)
	if err != nil {
		return reconcile.Result{}, err
	}
	if nodeClaim == nil && node.Labels[karpv1.NodePoolLabelKey] == "" {
		return reconcile.Result{}, nil
	}
	in, err := c.input(ctx, node, nodeClaim, health)
	if err != nil {
		return reconcile.Result{}, err
	}
	result := cluster.Detect(in, c.mappings)
	if left := c.comingUp(node, health, result); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	if err := c.write(ctx, node, health, result); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return reconcile.Result{RequeueAfter: afterConflict}, nil
		}
		return reconcile.Result{}, err
	}
	if result.Next.IsZero() {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: max(result.Next.Sub(c.clock.Now()), time.Millisecond)}, nil
}

// health gives the NodeHealth as it stands, nil where there is none.
func (c *Controller) health(ctx context.Context, name string) (*v1alpha1.NodeHealth, error) {
	health := &v1alpha1.NodeHealth{}
	if err := c.kubeClient.Get(ctx, types.NamespacedName{Name: name}, health); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("getting nodehealth, %w", err)
	}
	return health, nil
}

// nodeClaim of the Node; nil where there is none, or where it cannot be told which it is.
func (c *Controller) nodeClaim(ctx context.Context, node *corev1.Node) (*karpv1.NodeClaim, error) {
	if node.Spec.ProviderID == "" {
		return nil, nil
	}
	nodeClaim, err := nodeutils.NodeClaimForNode(ctx, c.kubeClient, node)
	if err != nil {
		if nodeutils.IsNodeClaimNotFoundError(err) || nodeutils.IsDuplicateNodeClaimError(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("getting nodeclaim, %w", err)
	}
	return nodeClaim, nil
}

// input gathers what the detectors need.
func (c *Controller) input(ctx context.Context, node *corev1.Node, nodeClaim *karpv1.NodeClaim, health *v1alpha1.NodeHealth) (cluster.Input, error) {
	pods := &corev1.PodList{}
	if err := c.kubeClient.List(ctx, pods, client.MatchingFields{"spec.nodeName": node.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return cluster.Input{}, fmt.Errorf("listing pods, %w", err)
	}
	in := cluster.Input{Now: c.clock.Now(), Node: node, NodeClaim: nodeClaim, Pods: pods.Items}
	if health != nil && nodehealth.SpeaksOf(health, node) {
		in.Previous = health
	}
	if cluster.ReadyUnknown(node) {
		var err error
		if in.Leases, err = c.countLeases(ctx, in.Now); err != nil {
			return cluster.Input{}, err
		}
	}
	return in, nil
}

func (c *Controller) countLeases(ctx context.Context, now time.Time) (cluster.Leases, error) {
	c.leasesLock.Lock()
	defer c.leasesLock.Unlock()
	if age := now.Sub(c.leasesAt); !c.leasesAt.IsZero() && age >= 0 && age < countLeasesEvery {
		return c.leases, nil
	}
	list := &coordinationv1.LeaseList{}
	if err := c.kubeClient.List(ctx, list, client.InNamespace(corev1.NamespaceNodeLease), client.UnsafeDisableDeepCopy); err != nil {
		return cluster.Leases{}, fmt.Errorf("listing node leases, %w", err)
	}
	c.leases, c.leasesAt = cluster.CountLeases(list.Items, now), now
	return c.leases, nil
}

// comingUp says how long the first NodeHealth of a new Node may wait: until it is Initialized, or a while, unless there
// is a Fatal finding. Its conditions change with every second meanwhile.
func (c *Controller) comingUp(node *corev1.Node, health *v1alpha1.NodeHealth, result cluster.Result) time.Duration {
	fatal := lo.SomeBy(result.Reports, func(report detector.Report) bool {
		return lo.SomeBy(report.Findings, func(f v1alpha1.Finding) bool { return f.Severity == v1alpha1.SeverityFatal })
	})
	if health != nil || fatal || node.Labels[karpv1.NodeInitializedLabelKey] == "true" {
		return 0
	}
	return max(node.CreationTimestamp.Add(comesUpWithin).Sub(c.clock.Now()), 0)
}

// write applies our entries where they differ from what stands.
func (c *Controller) write(ctx context.Context, node *corev1.Node, health *v1alpha1.NodeHealth, result cluster.Result) error {
	sources, findings := entries(result.Reports)
	if health != nil && nodehealth.OwnedBy(health, node) && unchanged(health, sources, findings, cluster.FormatFlips(result.Flips)) {
		return nil
	}
	object, err := applied(node, health, sources, findings, cluster.FormatFlips(result.Flips))
	if err != nil {
		return err
	}
	if err := c.kubeClient.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying nodehealth, %w", err)
	}
	log.FromContext(ctx).V(1).Info("wrote findings", "NodeHealth", node.Name, "findings", len(findings))
	return nil
}
