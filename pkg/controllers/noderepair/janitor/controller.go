// Package janitor takes away what a NodeRepair that is gone or has ended left behind: fences on Nodes, and the
// protection of replacements.
package janitor

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/periodic"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/repair"
)

const (
	// Every is the time between two rounds.
	Every = 30 * time.Second
	// orphanAge is how old a replacement without a NodeRepair must be before it is looked at: it may be so new that
	// the cache shows it before its NodeRepair.
	orphanAge = time.Minute
)

// Controller makes its rounds on the leader only.
type Controller struct {
	clock      clock.WithTicker
	kubeClient client.Client
	apiReader  client.Reader
	executor   *repair.Executor
}

// NewController makes a janitor. kubeClient reads from the cache, apiReader past it.
func NewController(clk clock.WithTicker, kubeClient client.Client, apiReader client.Reader, executor *repair.Executor) *Controller {
	return &Controller{clock: clk, kubeClient: kubeClient, apiReader: apiReader, executor: executor}
}

// Name of the controller.
func (*Controller) Name() string { return "noderepair.janitor" }

// Register adds the janitor to the manager.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return m.Add(c) //nolint:wrapcheck // the caller names the controller
}

// NeedLeaderElection says that one janitor is enough.
func (*Controller) NeedLeaderElection() bool { return true }

// Start makes a round at once, and then one every 30 s until the context ends.
func (c *Controller) Start(ctx context.Context) error {
	return periodic.Run(ctx, c.clock, Every, func(ctx context.Context) { //nolint:wrapcheck // it gives none
		if err := c.Round(ctx); err != nil {
			log.FromContext(ctx).Error(err, "clearing up after repairs")
		}
	})
}

// Round looks at all Nodes and NodeClaims once.
func (c *Controller) Round(ctx context.Context) error {
	// Past the cache: a fence must not be taken for an orphan's because its NodeRepair has not been seen yet.
	repairs := &v1alpha1.NodeRepairList{}
	if err := c.apiReader.List(ctx, repairs); err != nil {
		return fmt.Errorf("listing noderepairs, %w", err)
	}
	atWork, byName := map[types.UID]bool{}, map[string]*v1alpha1.NodeRepair{}
	for i := range repairs.Items {
		r := &repairs.Items[i]
		atWork[r.UID], byName[r.Name] = !r.Finished(), r
	}
	if err := c.fences(ctx, atWork); err != nil {
		return err
	}
	return c.replacements(ctx, byName)
}

func (c *Controller) fences(ctx context.Context, atWork map[types.UID]bool) error {
	nodes := &corev1.NodeList{}
	if err := c.kubeClient.List(ctx, nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing nodes, %w", err)
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		owner := types.UID(node.Annotations[v1alpha1.FenceOwnerAnnotation])
		if owner == "" || atWork[owner] || !node.DeletionTimestamp.IsZero() {
			continue
		}
		log.FromContext(ctx).Info("taking away a fence that was left behind", "Node", node.Name)
		if err := c.executor.Unfence(ctx, node.Name, owner); err != nil {
			return err //nolint:wrapcheck // says what it did
		}
	}
	return nil
}

// replacements lifts protection that no repair holds any more. One that nobody uses is then Karpenter's to remove.
// One that came to be after its repair had ended, as the write of a leader that was frozen may, is withdrawn.
func (c *Controller) replacements(ctx context.Context, repairs map[string]*v1alpha1.NodeRepair) error {
	claims := &karpv1.NodeClaimList{}
	if err := c.kubeClient.List(ctx, claims, client.HasLabels{v1alpha1.NodeRepairLabel}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing replacements, %w", err)
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		_, protected := claim.Annotations[karpv1.DoNotDisruptAnnotationKey]
		young := c.clock.Since(claim.CreationTimestamp.Time) < orphanAge
		r := repairs[claim.Labels[v1alpha1.NodeRepairLabel]]
		if !protected || young || (r != nil && !r.Finished()) || !claim.DeletionTimestamp.IsZero() {
			continue
		}
		if r != nil && !uses(r, claim.Name) {
			withdrawn, err := c.executor.WithdrawLate(ctx, claim)
			if err != nil {
				return err //nolint:wrapcheck // says what it did
			}
			if withdrawn {
				log.FromContext(ctx).Info("withdrew a replacement that came after its repair had ended", "NodeRepair", r.Name, "NodeClaim", claim.Name)
				continue
			}
		}
		if err := c.executor.Release(ctx, claim.Name, claim.Status.NodeName, claim.Labels[karpv1.NodePoolLabelKey]); err != nil {
			return err //nolint:wrapcheck // says what it did
		}
	}
	return nil
}

// uses says whether a repair ended with the replacement in use.
func uses(r *v1alpha1.NodeRepair, replacement string) bool {
	return slices.ContainsFunc(r.Status.Replacements, func(s v1alpha1.ReplacementStatus) bool {
		return s.NodeClaim == replacement && s.WithdrawnAt == nil
	})
}
