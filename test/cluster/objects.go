package cluster

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	kwokv1alpha1 "sigs.k8s.io/karpenter/kwok/apis/v1alpha1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Fault is a Node condition that the detectors take for a fault, as the EKS Node Monitoring Agent writes it.
var Fault = corev1.NodeCondition{
	Type:    "KernelReady",
	Status:  corev1.ConditionFalse,
	Reason:  "ForkFailedOutOfPIDs",
	Message: "fork failed: out of process IDs",
}

// TaintKey keeps the pods of one NodePool off the nodes of others.
const TaintKey = "test.autorepair.sh/pool"

// NodePool gives a NodePool whose nodes only take pods made by Deployment with the same name. The NodeClass is the
// one of the same name.
func NodePool(name string, overrides ...func(*karpv1.NodePool)) *karpv1.NodePool {
	np := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	np.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "1", Reasons: []karpv1.DisruptionReason{karpv1.DisruptionReasonUnhealthy}}}
	np.Spec.Disruption.ConsolidationPolicy = karpv1.ConsolidationPolicyWhenEmptyOrUnderutilized
	np.Spec.Disruption.ConsolidateAfter = karpv1.MustParseNillableDuration("Never")
	spec := &np.Spec.Template.Spec
	spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.kwok.sh", Kind: "KWOKNodeClass", Name: name}
	spec.Taints = []corev1.Taint{{Key: TaintKey, Value: name, Effect: corev1.TaintEffectNoSchedule}}
	spec.ExpireAfter = karpv1.MustParseNillableDuration("Never")
	spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: karpv1.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: []string{karpv1.CapacityTypeOnDemand}},
		{Key: corev1.LabelArchStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"amd64"}},
		{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}},
	}
	for _, override := range overrides {
		override(np)
	}
	return np
}

// NodeClass gives a KWOKNodeClass.
func NodeClass(name string) *kwokv1alpha1.KWOKNodeClass {
	return &kwokv1alpha1.KWOKNodeClass{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// Deployment gives a Deployment that puts one pod on each of as many nodes of the NodePool as it has replicas.
func Deployment(namespace, pool string, replicas int32, overrides ...func(*appsv1.Deployment)) *appsv1.Deployment {
	labels := map[string]string{"app": pool}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pool, Labels: maps.Clone(labels)}}
	d.Spec.Replicas = &replicas
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template.Labels = maps.Clone(labels)
	pod := &d.Spec.Template.Spec
	pod.TerminationGracePeriodSeconds = lo.ToPtr[int64](1)
	pod.Tolerations = []corev1.Toleration{{Key: TaintKey, Operator: corev1.TolerationOpEqual, Value: pool, Effect: corev1.TaintEffectNoSchedule}}
	pod.NodeSelector = map[string]string{karpv1.NodePoolLabelKey: pool}
	pod.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey:   corev1.LabelHostname,
			LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
		}},
	}}
	pod.Containers = []corev1.Container{{Name: "main", Image: "example.invalid/app:1", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
	}}}
	for _, override := range overrides {
		override(d)
	}
	return d
}

// SilenceTolerated lets a pod stay on a node that is not heard of for so long, instead of the five minutes that
// Kubernetes gives it.
func SilenceTolerated(d time.Duration) []corev1.Toleration {
	return lo.Map([]string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable}, func(key string, _ int) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: lo.ToPtr(int64(d.Seconds()))}
	})
}

// PodDisruptionBudget keeps at least minAvailable pods of a Deployment up.
func PodDisruptionBudget(namespace, pool string, minAvailable int) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pool},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: lo.ToPtr(intstr.FromInt(minAvailable)),
			Selector:     &metav1.LabelSelector{MatchLabels: map[string]string{"app": pool}},
		},
	}
}

// RepairPolicy gives a policy for the NodeClaims of one NodePool that acts within seconds and takes no number of
// sick nodes for one fault.
func RepairPolicy(pool string, overrides ...func(*v1alpha1.RepairPolicy)) *v1alpha1.RepairPolicy {
	p := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: pool}}
	p.Spec.Weight = 10
	p.Spec.NodeClaimSelector = &metav1.LabelSelector{MatchLabels: map[string]string{karpv1.NodePoolLabelKey: pool}}
	p.Spec.Rules = []v1alpha1.RepairRule{{
		Name:       "all",
		Match:      v1alpha1.FindingMatch{ReasonPattern: ".*"},
		Tolerate:   metav1.Duration{Duration: 2 * time.Second},
		Action:     v1alpha1.ActionReplace,
		DrainBound: &metav1.Duration{Duration: time.Minute},
	}}
	p.Spec.CorrelatedFailure.MaxUnhealthy = lo.ToPtr(intstr.FromString("100%"))
	p.Spec.Replacement.VerifyFor = &metav1.Duration{Duration: 3 * time.Second}
	for _, override := range overrides {
		override(p)
	}
	return p
}

// Create makes the objects in order.
func (c *Cluster) Create(ctx context.Context, objects ...client.Object) error {
	for _, o := range objects {
		if err := c.Client.Create(ctx, o); err != nil {
			return fmt.Errorf("making %T %q, %w", o, o.GetName(), err)
		}
	}
	return nil
}

// NodeClaims of a NodePool.
func (c *Cluster) NodeClaims(ctx context.Context, pool string) ([]karpv1.NodeClaim, error) {
	list := &karpv1.NodeClaimList{}
	if err := c.Client.List(ctx, list, client.MatchingLabels{karpv1.NodePoolLabelKey: pool}); err != nil {
		return nil, fmt.Errorf("listing the NodeClaims of NodePool %q, %w", pool, err)
	}
	return list.Items, nil
}

// AvailablePods of a Deployment.
func (c *Cluster) AvailablePods(ctx context.Context, namespace, name string) (int32, error) {
	deployment := &appsv1.Deployment{}
	if err := c.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, deployment); err != nil {
		return 0, fmt.Errorf("getting Deployment %s/%s, %w", namespace, name, err)
	}
	return deployment.Status.AvailableReplicas, nil
}

// SetNodeCondition writes one condition of a Node, with now as its transition.
func (c *Cluster) SetNodeCondition(ctx context.Context, node string, condition corev1.NodeCondition) error {
	condition.LastHeartbeatTime, condition.LastTransitionTime = metav1.Now(), metav1.Now()
	patch := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
	body := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q,"reason":%q,"message":%q,"lastHeartbeatTime":%q,"lastTransitionTime":%q}]}}`,
		condition.Type, condition.Status, condition.Reason, condition.Message,
		condition.LastHeartbeatTime.UTC().Format(time.RFC3339), condition.LastTransitionTime.UTC().Format(time.RFC3339))
	if err := c.Client.Status().Patch(ctx, &patch, client.RawPatch("application/strategic-merge-patch+json", []byte(body))); err != nil {
		return fmt.Errorf("writing condition %s of Node %q, %w", condition.Type, node, err)
	}
	return nil
}

// Break makes the Node say Fault, and Heal takes it back.
func (c *Cluster) Break(ctx context.Context, node string) error {
	return c.SetNodeCondition(ctx, node, Fault)
}

// Heal makes the Node say that Fault has gone.
func (c *Cluster) Heal(ctx context.Context, node string) error {
	return c.SetNodeCondition(ctx, node, corev1.NodeCondition{Type: Fault.Type, Status: corev1.ConditionTrue, Reason: "KernelIsReady", Message: "kernel is ready"})
}
