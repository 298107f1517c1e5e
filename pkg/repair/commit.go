package repair

import (
	"context"
	"fmt"
	"sort"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// What the API takes at most; see v1alpha1.RepairEvidence.
const (
	maxEvidenceFindings   = 32
	maxEvidenceConditions = 32
	maxEvidenceLabels     = 128
	maxEvidencePods       = 256
)

// commit keeps what is known of the node, since it will be gone. From its creation on the repair holds the budget.
func (e *Executor) commit(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	if repair.Spec.Action != v1alpha1.ActionReplace && !reboots(repair) {
		return e.finish(repair, v1alpha1.PhaseFailed, fmt.Sprintf("this version cannot carry out the action %s; write action: Replace in the RepairPolicy", repair.Spec.Action)), nil
	}
	evidence, err := e.evidence(ctx, repair)
	if err != nil {
		return progress{}, err
	}
	repair.Status.Evidence = evidence
	if repair.Status.Domains, err = e.domains(ctx, repair); err != nil {
		return progress{}, err
	}
	e.setCondition(repair, v1alpha1.RepairConditionSucceeded, metav1.ConditionUnknown, "InProgress", "the repair is at work")
	return to(repair, v1alpha1.PhaseFencing, "the node is about to be fenced"), nil
}

func (e *Executor) evidence(ctx context.Context, repair *v1alpha1.NodeRepair) (*v1alpha1.RepairEvidence, error) {
	evidence := &v1alpha1.RepairEvidence{}
	health := &v1alpha1.NodeHealth{}
	err := e.Client.Get(ctx, client.ObjectKey{Name: repair.Spec.NodeName}, health)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("getting the nodehealth, %w", err)
	}
	evidence.Findings = lo.Subset(health.Findings, 0, maxEvidenceFindings)
	n, err := node(ctx, e.Client, repair.Spec.NodeName)
	if err != nil || n == nil {
		return evidence, err
	}
	evidence.NodeConditions = lo.Subset(n.Status.Conditions, 0, maxEvidenceConditions)
	evidence.NodeInfo = &n.Status.NodeInfo
	evidence.Labels = someOf(n.Labels, maxEvidenceLabels)
	pods, err := nodeutils.GetPods(ctx, e.Client, n.Name)
	if err != nil {
		return nil, fmt.Errorf("listing the pods of the node, %w", err)
	}
	evidence.Pods = lo.Subset(lo.Map(pods, func(p *corev1.Pod, _ int) string { return p.Namespace + "/" + p.Name }), 0, maxEvidencePods)
	sort.Strings(evidence.Pods)
	evidence.ReschedulablePods = int32(lo.CountBy(pods, podutils.IsReschedulable))
	if evidence.Events, err = e.nodeEvents.of(ctx, e.Reader, e.Clock, n.Name); err != nil {
		return nil, err
	}
	return evidence, nil
}

// domains that the node shares with others, for the slow start of correlated failures.
func (e *Executor) domains(ctx context.Context, repair *v1alpha1.NodeRepair) ([]string, error) {
	in := decision.Input{NodePools: map[string]decision.NodePool{}}
	if err := e.Snapshot.Refresh(ctx, e.Client, &in, repair.Spec.NodeClaim.Name); err != nil {
		return nil, fmt.Errorf("finding the domains of the node, %w", err)
	}
	for _, n := range in.Nodes {
		if n.NodeClaimUID == repair.Spec.NodeClaim.UID {
			return decision.Domains(n), nil
		}
	}
	return nil, nil
}

func someOf(labels map[string]string, limit int) map[string]string {
	keys := lo.Keys(labels)
	sort.Strings(keys)
	return lo.PickByKeys(labels, lo.Subset(keys, 0, uint(limit)))
}
