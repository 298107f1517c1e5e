// Package instancestatus writes into the NodeHealths what EC2 says of the instances of our NodeClaims.
package instancestatus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/karpenter-provider-aws/pkg/utils"
	"github.com/awslabs/operatorpkg/reconciler"
	"github.com/awslabs/operatorpkg/singleton"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/ec2"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

const (
	// patience is how long EC2 may leave us without an answer before what it said no longer holds: three of our own
	// rounds of a minute, as an agent may miss three heartbeats.
	patience = 3 * time.Minute
	// evidenceOfKarpenter is how old the event may be by which we know that Karpenter acts on instance status itself.
	evidenceOfKarpenter = time.Hour
	// writers write at once; the client's own limits bound them further.
	writers = 10
)

// lister is ec2.Lister.
type lister interface {
	List(ctx context.Context) (map[string][]ec2.Impairment, error)
	Takes() []string
}

// Controller asks EC2 once in a while and writes what has changed.
type Controller struct {
	clock      clock.Clock
	kubeClient client.Client
	apiReader  client.Reader
	ec2        lister
	interval   time.Duration

	answered time.Time // when EC2 last answered
}

// NewController makes the loop. Interval is the time between two questions; EC2's checks run once a minute.
func NewController(clk clock.Clock, kubeClient client.Client, apiReader client.Reader, ec2 *ec2.Lister, interval time.Duration) *Controller {
	return &Controller{clock: clk, kubeClient: kubeClient, apiReader: apiReader, ec2: ec2, interval: interval}
}

// Name of the controller.
func (*Controller) Name() string { return "ec2.instancestatus" }

// Register adds the loop to the manager.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m). //nolint:wrapcheck // says all there is to say
								Named(c.Name()).
								WatchesRawSource(singleton.Source()).
								Complete(singleton.AsReconciler(c))
}

// Reconcile is one round. Where EC2 does not answer, nothing is taken back and nothing added until patience has passed.
func (c *Controller) Reconcile(ctx context.Context) (reconciler.Result, error) {
	impaired, err := c.ec2.List(ctx)
	now := c.clock.Now()
	source := v1alpha1.Source{Name: ec2.Source, State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryInstance}}
	switch {
	case err == nil:
		c.answered = now
		source.Message = c.whoElseActs(ctx, now)
		if source.Message != "" {
			source.State = v1alpha1.SourceDegraded
		}
	case ec2.Denied(err):
		source.State = v1alpha1.SourceUnavailable
		source.Message = fmt.Sprintf("AWS denies %s: add it to the role of this program. %v", ec2.Permission, err)
	case c.answered.IsZero() || now.Sub(c.answered) >= patience:
		source.State = v1alpha1.SourceUnavailable
		source.Message = fmt.Sprintf("EC2 does not answer: %v", err)
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "asking EC2 for impaired instances")
		if source.State == v1alpha1.SourceActive {
			return reconciler.Result{RequeueAfter: c.interval}, nil
		}
	}
	source.Message = health.Shorten(steady(source.Message), health.MaxMessage)
	next, err := c.writeAll(ctx, source, impaired, now)
	if err != nil {
		return reconciler.Result{}, err
	}
	again := c.interval
	if !next.IsZero() {
		again = max(min(again, next.Sub(now)), time.Second)
	}
	return reconciler.Result{RequeueAfter: again}, nil
}

// writeAll writes the NodeHealth of every NodeClaim whose instance is EC2's. Next is when a finding is to be confirmed.
func (c *Controller) writeAll(ctx context.Context, source v1alpha1.Source, impaired map[string][]ec2.Impairment, now time.Time) (time.Time, error) {
	nodeClaims := &karpv1.NodeClaimList{}
	if err := c.kubeClient.List(ctx, nodeClaims, client.UnsafeDisableDeepCopy); err != nil {
		return time.Time{}, fmt.Errorf("listing nodeclaims, %w", err)
	}
	var lock sync.Mutex
	var next time.Time
	errs := make([]error, len(nodeClaims.Items))
	workqueue.ParallelizeUntil(ctx, writers, len(nodeClaims.Items), func(i int) {
		var confirmed time.Time
		confirmed, errs[i] = c.write(ctx, &nodeClaims.Items[i], source, impaired, now)
		lock.Lock()
		defer lock.Unlock()
		if !confirmed.IsZero() && (next.IsZero() || confirmed.Before(next)) {
			next = confirmed
		}
	})
	failed := lo.Filter(errs, func(err error, _ int) bool { return err != nil })
	if len(failed) > 0 {
		return next, fmt.Errorf("writing %d of %d nodehealths, the first: %w", len(failed), len(errs), failed[0])
	}
	return next, nil
}

func (c *Controller) write(ctx context.Context, claim *karpv1.NodeClaim, source v1alpha1.Source, impaired map[string][]ec2.Impairment, now time.Time) (time.Time, error) {
	instance, err := utils.ParseInstanceID(claim.Status.ProviderID)
	if err != nil || claim.Status.NodeName == "" {
		return time.Time{}, nil //nolint:nilerr // not an instance of EC2, or without a Node yet
	}
	node := &corev1.Node{}
	if err := c.kubeClient.Get(ctx, client.ObjectKey{Name: claim.Status.NodeName}, node); err != nil {
		return time.Time{}, client.IgnoreNotFound(err)
	}
	standing, err := c.standing(ctx, node)
	if err != nil {
		return time.Time{}, err
	}
	var findings []v1alpha1.Finding
	var next time.Time
	if source.State == v1alpha1.SourceUnavailable {
		findings = ownFindings(standing) // what EC2 said last; it is Unknown meanwhile, neither sick nor healthy
	} else {
		findings, next = ec2.Findings(instance, impaired[instance], standing, now)
	}
	if standing != nil && unchanged(standing, source, findings) && !beats(standing, node.Name, now) {
		return next, nil
	}
	return next, c.apply(ctx, node, withHeartbeat(source, findings, now), findings)
}

// whoElseActs says that Karpenter ends instances for what we were told to take, which its events prove: no more can be
// known of it, since the controller that does so has no switch.
func (c *Controller) whoElseActs(ctx context.Context, now time.Time) string {
	shared := lo.Intersect(c.ec2.Takes(), ec2.LeftToKarpenter)
	if len(shared) == 0 {
		return ""
	}
	events := &corev1.EventList{}
	if err := c.apiReader.List(ctx, events, client.MatchingFields{"reason": "InstanceUnhealthy", "involvedObject.kind": "NodeClaim"}); err != nil {
		log.FromContext(ctx).Error(err, "listing Karpenter's events")
		return ""
	}
	recent := lo.Filter(events.Items, func(e corev1.Event, _ int) bool { return now.Sub(when(e)) < evidenceOfKarpenter })
	if len(recent) == 0 {
		return ""
	}
	newest := slices.MaxFunc(recent, func(a, b corev1.Event) int { return when(a).Compare(when(b)) })
	return fmt.Sprintf("Karpenter itself deletes instances for %s, at once and without a budget, as it did with NodeClaim %s: "+
		"take %s from Karpenter's role and restart it, or leave these reasons to it", strings.Join(shared, ", "), newest.InvolvedObject.Name, ec2.Permission)
}

func when(event corev1.Event) time.Time {
	return lo.Ternary(event.LastTimestamp.IsZero(), event.EventTime.Time, event.LastTimestamp.Time)
}

// steady drops what differs in the same error from one time to the next, so that it is not written again and again.
func steady(message string) string {
	before, after, found := strings.Cut(message, "RequestID: ")
	if !found {
		return message
	}
	_, rest, _ := strings.Cut(after, ", ")
	return before + rest
}
