// Package zonalshift holds repairs in zones that the cluster is being shifted away from: it keeps a RepairPause for each.
package zonalshift

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	awsv1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	sdk "github.com/aws/karpenter-provider-aws/pkg/aws"
	"github.com/awslabs/operatorpkg/reconciler"
	"github.com/awslabs/operatorpkg/singleton"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
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
	// FieldManager owns our RepairPauses.
	FieldManager = "autorepair.sh/zonal-shift"
	// Label is on every RepairPause of ours, with the zone's ID; others we leave alone.
	Label = "autorepair.sh/zonal-shift"
	// lease is how long a pause for an autoshift, of which AWS does not say when it ends, holds without us: it is
	// renewed by half, so that a pause never outlives what keeps it.
	lease = 15 * time.Minute
	// maxReason of a RepairPause, in characters.
	maxReason = 256
)

// Controller asks ARC once in a while.
type Controller struct {
	clock      clock.Clock
	kubeClient client.Client
	apiReader  client.Reader
	arc        sdk.ARCZonalShiftAPI
	clusterARN string
	interval   time.Duration
}

// NewController makes the loop. Interval is the time between two questions; Karpenter's own loop asks every 30 s.
func NewController(clk clock.Clock, kubeClient client.Client, apiReader client.Reader, arc sdk.ARCZonalShiftAPI, clusterARN string, interval time.Duration) *Controller {
	return &Controller{clock: clk, kubeClient: kubeClient, apiReader: apiReader, arc: arc, clusterARN: clusterARN, interval: interval}
}

// Name of the controller.
func (*Controller) Name() string { return "ec2.zonalshift" }

// Register adds the loop to the manager.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m). //nolint:wrapcheck // says all there is to say
								Named(c.Name()).
								WatchesRawSource(singleton.Source()).
								Complete(singleton.AsReconciler(c))
}

// Reconcile is one round. Where ARC does not answer, what was paused stays paused until its time.
func (c *Controller) Reconcile(ctx context.Context) (reconciler.Result, error) {
	shifts, err := ec2.Shifts(ctx, c.arc, c.clusterARN, c.clock.Now())
	if err != nil {
		if ec2.Denied(err) {
			err = fmt.Errorf("AWS denies %s: add it to the role of this program, or start it without --cluster-arn, %w", ec2.PermissionOfShifts, err)
		}
		log.FromContext(ctx).Error(err, "asking ARC for zonal shifts")
		return reconciler.Result{RequeueAfter: c.interval}, nil
	}
	zones, err := c.zoneNames(ctx)
	if err != nil {
		return reconciler.Result{}, err
	}
	standing := &v1alpha1.RepairPauseList{}
	if err := c.kubeClient.List(ctx, standing, client.HasLabels{Label}); err != nil {
		return reconciler.Result{}, fmt.Errorf("listing repairpauses, %w", err)
	}
	shifted := map[string]bool{}
	for _, shift := range shifts {
		names := slices.Sorted(maps.Keys(zones[shift.ZoneID]))
		if len(names) == 0 {
			log.FromContext(ctx).Info("zonal shift of a zone in which the cluster has nothing", "zoneID", shift.ZoneID)
			continue
		}
		shifted[shift.ZoneID] = true
		if err := c.pause(ctx, shift, names, standing.Items); err != nil {
			return reconciler.Result{}, err
		}
	}
	for i := range standing.Items {
		pause := &standing.Items[i]
		if shifted[pause.Labels[Label]] {
			continue
		}
		if err := c.kubeClient.Delete(ctx, pause); client.IgnoreNotFound(err) != nil {
			return reconciler.Result{}, fmt.Errorf("deleting repairpause %s, %w", pause.Name, err)
		}
		log.FromContext(ctx).Info("the zonal shift has ended", "zoneID", pause.Labels[Label])
	}
	return reconciler.Result{RequeueAfter: c.interval}, nil
}

// pause writes the RepairPause of a shift, where it does not stand as it should.
func (c *Controller) pause(ctx context.Context, shift ec2.Shift, zones []string, standing []v1alpha1.RepairPause) error {
	spec := v1alpha1.RepairPauseSpec{Zones: zones, Reason: health.Shorten(reason(shift), maxReason), Until: shift.Until.UTC().Format(time.RFC3339)}
	name := "zonal-shift-" + shift.ZoneID
	i := slices.IndexFunc(standing, func(p v1alpha1.RepairPause) bool { return p.Name == name })
	if shift.Until.IsZero() {
		now := c.clock.Now()
		spec.Until = now.Add(lease).UTC().Format(time.RFC3339)
		if i >= 0 && fresh(standing[i].Spec.Until, now) {
			spec.Until = standing[i].Spec.Until
		}
	}
	if i >= 0 && equality.Semantic.DeepEqual(standing[i].Spec, spec) {
		return nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		return fmt.Errorf("converting repairpause, %w", err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{"spec": content}}
	object.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("RepairPause"))
	object.SetName(name)
	object.SetLabels(map[string]string{Label: shift.ZoneID})
	if err := c.kubeClient.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying repairpause %s, %w", name, err)
	}
	log.FromContext(ctx).Info("repairs are paused in zones that the cluster is shifted away from", "zoneID", shift.ZoneID, "zones", zones, "until", spec.Until)
	return nil
}

// fresh says that more than half of the lease is left.
func fresh(until string, now time.Time) bool {
	at, err := time.Parse(time.RFC3339, until)
	return err == nil && at.Sub(now) > lease/2
}

func reason(shift ec2.Shift) string {
	text := "ARC zonal shift away from " + shift.ZoneID
	if shift.Comment != "" {
		text += ": " + shift.Comment
	}
	return text
}

// zoneNames gives the names of zones by their IDs, as NodeClaims and the subnets of EC2NodeClasses have them.
func (c *Controller) zoneNames(ctx context.Context) (map[string]map[string]bool, error) {
	names := map[string]map[string]bool{}
	add := func(id, name string) {
		if id == "" || name == "" {
			return
		}
		if names[id] == nil {
			names[id] = map[string]bool{}
		}
		names[id][name] = true
	}
	nodeClaims := &karpv1.NodeClaimList{}
	if err := c.kubeClient.List(ctx, nodeClaims, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodeclaims, %w", err)
	}
	for i := range nodeClaims.Items {
		labels := nodeClaims.Items[i].Labels
		add(labels[awsv1.LabelTopologyZoneID], labels[corev1.LabelTopologyZone])
	}
	classes := &awsv1.EC2NodeClassList{}
	if err := c.apiReader.List(ctx, classes); err != nil {
		return nil, fmt.Errorf("listing ec2nodeclasses, %w", err)
	}
	for i := range classes.Items {
		for _, subnet := range classes.Items[i].Status.Subnets {
			add(subnet.ZoneID, subnet.Zone)
		}
	}
	return names, nil
}
