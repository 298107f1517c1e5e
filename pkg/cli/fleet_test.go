package cli

import (
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/awslabs/operatorpkg/status"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// fleet makes the objects of a cluster, one machine after the other.
type fleet struct{ objects []client.Object }

func (f *fleet) add(objects ...client.Object) { f.objects = append(f.objects, objects...) }

// machine adds a Node with its NodeClaim and NodeHealth.
func (f *fleet) machine(pool, name string, findings ...v1alpha1.Finding) *karpv1.NodeClaim {
	providerID := "provider://" + name
	claim := &karpv1.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: pool + "-" + name, UID: types.UID("uid-" + name), CreationTimestamp: ago(48 * time.Hour),
			Labels: map[string]string{
				karpv1.NodePoolLabelKey: pool, corev1.LabelTopologyZone: "zone-a", corev1.LabelInstanceTypeStable: "m5.large", karpv1.CapacityTypeLabelKey: "on-demand",
			},
		},
		Spec:   karpv1.NodeClaimSpec{NodeClassRef: &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}},
		Status: karpv1.NodeClaimStatus{ProviderID: providerID, NodeName: name, ImageID: "ami-1"},
	}
	for _, condition := range []string{karpv1.ConditionTypeLaunched, karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized} {
		setCondition(claim, condition, condition, "")
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID("node-" + name), CreationTimestamp: ago(48 * time.Hour),
			Labels: map[string]string{
				karpv1.NodePoolLabelKey: pool, karpv1.NodeInitializedLabelKey: "true", karpv1.NodeRegisteredLabelKey: "true",
				corev1.LabelTopologyZone: "zone-a", corev1.LabelInstanceTypeStable: "m5.large",
			},
		},
		Spec: corev1.NodeSpec{ProviderID: providerID},
	}
	f.add(claim, node, &v1alpha1.NodeHealth{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Sources: []v1alpha1.Source{
			{Name: "interfaces", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}},
			{Name: "node-conditions", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryStorage}},
		},
		Findings: findings,
	})
	return claim
}

// machines adds healthy ones.
func (f *fleet) machines(pool string, n int) {
	for i := range n {
		f.machine(pool, fmt.Sprintf("%s-well-%d", pool, i))
	}
}

func setCondition(claim *karpv1.NodeClaim, conditionType, reason, message string) {
	claim.Status.Conditions = append(claim.Status.Conditions, status.Condition{
		Type: conditionType, Status: metav1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: ago(time.Minute),
	})
}

func nodePool(name, nodes string, annotations map[string]string) *karpv1.NodePool {
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("pool-" + name), Annotations: annotations}}
	pool.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: nodes, Reasons: []karpv1.DisruptionReason{karpv1.DisruptionReasonUnhealthy}}}
	pool.Status.Conditions = []status.Condition{{Type: status.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", LastTransitionTime: ago(time.Hour)}}
	return pool
}

func repairPolicy(name string, change func(*v1alpha1.RepairPolicySpec)) *v1alpha1.RepairPolicy {
	policy := &v1alpha1.RepairPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("policy-" + name)},
		Spec: v1alpha1.RepairPolicySpec{Mode: v1alpha1.ModeEnforce, Rules: []v1alpha1.RepairRule{{
			Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: metav1.Duration{Duration: 10 * time.Minute},
			Action: v1alpha1.ActionReplace, DrainBound: &metav1.Duration{Duration: 30 * time.Minute},
		}}},
	}
	if change != nil {
		change(&policy.Spec)
	}
	return policy
}

func finding(reason, subject string, since time.Duration) v1alpha1.Finding {
	return v1alpha1.Finding{
		Source: "interfaces", Reason: reason, Subject: subject, Category: v1alpha1.CategoryNetworking, Severity: v1alpha1.SeverityFatal,
		Since: ago(since), Count: 3, Message: subject + " has lost its carrier", Evidence: []string{"eth1: carrier 0, operstate down"},
	}
}

// setBy are the managed fields of an object of which a person wrote one field.
func setBy(manager, field string) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: new(ago(time.Hour)), FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:` + field + `":{}}}}`),
	}}
}

func nodeRepair(name, node, pool string, change func(*v1alpha1.NodeRepair)) *v1alpha1.NodeRepair {
	repair := &v1alpha1.NodeRepair{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("repair-" + name), CreationTimestamp: ago(5 * time.Minute)},
		Spec: v1alpha1.NodeRepairSpec{
			NodeClaim: v1alpha1.NodeClaimReference{Name: pool + "-" + node, UID: types.UID("uid-" + node)}, NodeName: node, NodePool: pool,
			Action:       v1alpha1.ActionReplace,
			Cause:        v1alpha1.RepairCause{Reason: "InterfaceNotUp", Category: v1alpha1.CategoryNetworking, Subject: "eth1", Source: "interfaces", Since: ago(20 * time.Minute)},
			Policy:       v1alpha1.PolicyReference{Name: "default", Rule: "all"},
			Replacements: 1,
		},
		Status: v1alpha1.NodeRepairStatus{Phase: v1alpha1.PhaseWaiting},
	}
	if change != nil {
		change(repair)
	}
	return repair
}

func lease(renewed time.Duration) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: v1alpha1.LeaseName},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: new("autorepair-7c5d_1"), RenewTime: new(metav1.NewMicroTime(now.Add(-renewed)))},
	}
}

// storm is a cluster in which much happens at once.
func storm() []client.Object {
	f := &fleet{}
	f.add(lease(3*time.Second), repairPolicy("default", nil), repairPolicy("gpus", func(spec *v1alpha1.RepairPolicySpec) {
		spec.Weight, spec.Mode = 10, v1alpha1.ModeDryRun
		spec.NodeClaimSelector = &metav1.LabelSelector{MatchLabels: map[string]string{karpv1.NodePoolLabelKey: "gpu"}}
	}))
	batch := nodePool("batch", "100%", map[string]string{v1alpha1.PauseAnnotation: "2026-11-25T14:00:00Z"})
	batch.ManagedFields = setBy("kubectl-annotate", v1alpha1.PauseAnnotation)
	f.add(nodePool("default", "1", nil), batch, nodePool("gpu", "10%", nil))
	f.machines("default", 6)
	f.machines("batch", 4)
	f.machines("gpu", 9)
	f.machine("default", "ip-10-0-0-1", finding("InterfaceNotUp", "eth1", 20*time.Minute))
	repairing := nodeRepair("default-ip-10-0-0-1-1", "ip-10-0-0-1", "default", func(r *v1alpha1.NodeRepair) {
		r.Status.Message = "waiting for NodeClaim default-r1 to be Initialized, until 2026-11-25T12:10:00Z"
		r.Status.Replacements = []v1alpha1.ReplacementStatus{{NodeClaim: "default-r1", Attempt: 1}}
	})
	f.add(repairing)
	waits := f.machine("default", "ip-10-0-0-2", finding("InterfaceNotUp", "eth1", 15*time.Minute), finding("ReadonlyFilesystem", "", 14*time.Minute))
	setCondition(waits, v1alpha1.ConditionRepairBlocked, "DisruptionBudget",
		`DisruptionBudget: budget of NodePool "default" (nodes: "1") admits 1 disruption for reason Unhealthy, 1 in flight (ip-10-0-0-1: repair default-ip-10-0-0-1-1). To lift it: raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`+"\n"+
			"CorrelatedFailure: zone=zone-a is suspect with 6 of 24 nodes sick: 1 repair at a time until replacements prove healthy, 1 at work; looked at again when one of them ends")
	tolerated := f.machine("default", "ip-10-0-0-3", finding("InterfaceNotUp", "eth1", 4*time.Minute))
	setCondition(tolerated, v1alpha1.ConditionRepairBlocked, "Tolerating", `Tolerating: rule "all" of RepairPolicy "default" tolerates InterfaceNotUp eth1 until 2026-11-25T12:06:00Z`)
	for i := range 2 {
		paused := f.machine("batch", fmt.Sprintf("ip-10-0-1-%d", i), finding("InterfaceNotUp", "eth1", time.Hour))
		setCondition(paused, v1alpha1.ConditionRepairBlocked, "NodePoolPaused",
			"NodePoolPaused: repairs of the NodePool are stopped by annotation autorepair.sh/pause on NodePool batch until 2026-11-25T14:00:00Z, set by kubectl-annotate at 2026-11-25T11:00:00Z. To lift it: kubectl annotate nodepool batch autorepair.sh/pause-")
	}
	f.machine("gpu", "ip-10-0-2-1", finding("NvidiaXID79Error", "0000:3b:00.0", 30*time.Minute))
	f.add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "managed-1"}})
	return f.objects
}
