package conditions

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/events"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// action of the events about a diagnosis.
const action = "Diagnose"

// tell says each turn once, on the NodeClaim and its Node, after it has been written.
func (c *Controller) tell(claim *karpv1.NodeClaim, before, after []metav1.Condition) {
	if claim.DeletionTimestamp.IsZero() {
		c.tellFacts(claim, before, after)
	}
	sick := meta.FindStatusCondition(after, v1alpha1.ConditionUnhealthy)
	wasSick := meta.FindStatusCondition(before, v1alpha1.ConditionUnhealthy)
	switch {
	case sick != nil && wasSick == nil:
		c.event(claim, corev1.EventTypeWarning, events.ReasonUnhealthy, action, sick.Message)
	case sick == nil && wasSick != nil && claim.DeletionTimestamp.IsZero():
		c.event(claim, corev1.EventTypeNormal, events.ReasonRecovered, action, "the node has no Fatal finding past its toleration any more")
	}
	blocked := meta.FindStatusCondition(after, v1alpha1.ConditionRepairBlocked)
	wasBlocked := meta.FindStatusCondition(before, v1alpha1.ConditionRepairBlocked)
	if blocked != nil && (wasBlocked == nil || wasBlocked.Reason != blocked.Reason) {
		// With the blocker as action, another one within the minutes of a series is an event of its own.
		c.event(claim, corev1.EventTypeNormal, events.ReasonRepairBlocked, blocked.Reason, blocked.Message)
	}
}

// tellFacts says which conditions have turned. That one is there for the first time and holds is no turn, nor that no
// source can tell yet.
func (c *Controller) tellFacts(claim *karpv1.NodeClaim, before, after []metav1.Condition) {
	var unknown []string
	for _, category := range health.Categories {
		is, was := turned(category, before, after)
		if is == nil {
			continue
		}
		switch {
		case is.Status == metav1.ConditionFalse:
			c.event(claim, corev1.EventTypeWarning, events.FactReason(category, false), action, is.Message)
		case was == "":
		case is.Status == metav1.ConditionTrue:
			c.event(claim, corev1.EventTypeNormal, events.FactReason(category, true), action, is.Message)
		default:
			unknown = append(unknown, fmt.Sprintf("%sReady: %s", category, is.Message))
		}
	}
	if len(unknown) > 0 {
		c.event(claim, corev1.EventTypeWarning, events.ReasonNotObserved, action, strings.Join(unknown, "\n"))
	}
}

// turned gives the condition of a category and its status before; nil where the status is the same, empty where it was
// not there.
func turned(category v1alpha1.Category, before, after []metav1.Condition) (is *metav1.Condition, was metav1.ConditionStatus) {
	is = meta.FindStatusCondition(after, health.ConditionType(category))
	if before := meta.FindStatusCondition(before, health.ConditionType(category)); before != nil {
		was = before.Status
	}
	if is == nil || is.Status == was {
		return nil, was
	}
	return is, was
}

func (c *Controller) event(claim *karpv1.NodeClaim, kind, reason, action, message string) {
	objects := []runtime.Object{claim}
	if claim.Status.NodeName != "" {
		objects = append(objects, events.Node(claim.Status.NodeName))
	}
	for _, object := range objects {
		c.recorder.Eventf(object, nil, kind, reason, action, "%s", message)
	}
}
