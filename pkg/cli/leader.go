package cli

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/explain"
)

// ControllerState is what the lease of the controller tells: whether anybody acts on what is shown.
type ControllerState struct {
	Namespace string `json:"namespace"`
	Holder    string `json:"holder,omitempty"`
	// Renewed is when the holder last said that it lives.
	Renewed metav1.Time `json:"renewed"`
	// Silent says that nobody has for a while, so nothing is diagnosed, repaired or explained.
	Silent bool `json:"silent"`
}

// sentence says it for people.
func (c ControllerState) sentence(now time.Time) string {
	heard := "never heard of"
	if !c.Renewed.IsZero() {
		heard = "last heard of " + age(now, c.Renewed.Time) + " ago"
	}
	if c.Silent || c.Holder == "" {
		return fmt.Sprintf("Warning: no controller is at work (namespace %s, %s): nothing is diagnosed or repaired, and what is shown is old", c.Namespace, heard)
	}
	return fmt.Sprintf("controller %s in namespace %s, %s", c.Holder, c.Namespace, heard)
}

// readLease finds the lease of the controller, whichever namespace it runs in. Where there is none, or several, nothing
// is said.
func readLease(ctx context.Context, reader client.Reader, keep func(*coordinationv1.Lease)) error {
	list := &coordinationv1.LeaseList{}
	selector := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", v1alpha1.LeaseName)}
	if err := reader.List(ctx, list, selector, fromCache); err != nil {
		return err //nolint:wrapcheck // gapOf says what was listed
	}
	if len(list.Items) == 1 {
		keep(&list.Items[0])
	}
	return nil
}

func controllerState(lease *coordinationv1.Lease, now time.Time) *ControllerState {
	if lease == nil {
		return nil
	}
	state := &ControllerState{Namespace: lease.Namespace, Silent: true}
	if lease.Spec.HolderIdentity != nil {
		state.Holder = *lease.Spec.HolderIdentity
	}
	if lease.Spec.RenewTime != nil {
		state.Renewed = metav1.NewTime(lease.Spec.RenewTime.Time)
		state.Silent = now.Sub(lease.Spec.RenewTime.Time) > explain.SilentAfter
	}
	return state
}
