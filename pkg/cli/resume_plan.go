package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// planResume says what resuming writes, and what starts then. It undoes what pause does and nothing else, unless others
// is set, which ends everybody's pauses of everything. after is changed as the cluster will be.
func planResume(ctx context.Context, fleet *Fleet, what target, others bool) (*Change, error) {
	if others && what.kind != targetEverything {
		return nil, errors.New("--others is for everything only")
	}
	before, err := fleet.Input(ctx)
	if err != nil {
		return nil, err
	}
	change, after := &Change{}, fleet.copied()
	switch what.kind {
	case targetEverything:
		resumeEverything(change, fleet, after, others)
	case targetPolicy:
		err = resumePolicy(change, fleet, after, what.name)
	case targetNodePool:
		err = resumeNodePool(change, fleet, after, what.name)
	default:
		err = resumeNode(change, fleet, after, what.name)
	}
	if err != nil || len(change.writes) == 0 {
		return change, err
	}
	return change, tellResume(ctx, change, before, after)
}

// copied gives a Fleet of which the objects that can be paused may be changed.
func (f *Fleet) copied() *Fleet {
	out := *f
	out.Nodes, out.NodeClaims, out.NodePools = slices.Clone(f.Nodes), slices.Clone(f.NodeClaims), slices.Clone(f.NodePools)
	out.Policies, out.Pauses = slices.Clone(f.Policies), slices.Clone(f.Pauses)
	return &out
}

func resumeEverything(change *Change, fleet, after *Fleet, others bool) {
	after.Pauses = nil
	left := 0
	for i := range fleet.Pauses {
		pause := &fleet.Pauses[i]
		until, _ := decision.StopUntil("until", pause.Spec.Until)
		stop := decision.Stop{Until: until}
		switch {
		case len(pause.Spec.Zones) > 0:
			after.Pauses = append(after.Pauses, *pause)
			if stop.Active(fleet.Now) {
				change.means("RepairPause %s goes on, for zone %s alone: kubectl delete repairpause %s ends it",
					pause.Name, strings.Join(pause.Spec.Zones, ", "), pause.Name)
			}
		case pause.Name == pauseName || others:
			change.does(remove(pause), "end the pause of all repairs by RepairPause %s, which holds %s", pause.Name, howLongWas(pause.Spec.Until))
		case stop.Active(fleet.Now):
			after.Pauses = append(after.Pauses, *pause)
			left++
			change.means("RepairPause %s, set by %s, still pauses everything %s: --others ends it too",
				pause.Name, cmp.Or(decision.SetBy(pause.ManagedFields, ""), "somebody"), howLongWas(pause.Spec.Until))
		}
	}
	if len(change.Does) == 0 && left == 0 {
		change.means("nothing pauses everything")
	}
}

func resumePolicy(change *Change, fleet, after *Fleet, name string) error {
	policy, err := fleet.policy(name)
	if err != nil {
		return err
	}
	if policy.Spec.Mode != v1alpha1.ModePaused {
		change.means("RepairPolicy %s is not paused: its mode is %s", name, cmp.Or(policy.Spec.Mode, v1alpha1.ModeEnforce))
		return nil
	}
	mode := v1alpha1.ModeEnforce
	if policy.Annotations[v1alpha1.ResumeModeAnnotation] == string(v1alpha1.ModeDryRun) {
		mode = v1alpha1.ModeDryRun
	}
	resume := func(policy *v1alpha1.RepairPolicy) error {
		if policy.Spec.Mode != v1alpha1.ModePaused {
			return fmt.Errorf("its mode has changed meanwhile, to %s: look again", policy.Spec.Mode)
		}
		policy.Spec.Mode, policy.Spec.PausedUntil = mode, ""
		delete(policy.Annotations, v1alpha1.ResumeModeAnnotation)
		return nil
	}
	change.does(modify(policy, resume), "resume RepairPolicy %s, which is %s: spec.mode=%s", name, describeMode(policy, policy.Spec.Mode), mode)
	for i := range after.Policies {
		if after.Policies[i].Name == name {
			resumed := policy.DeepCopy()
			after.Policies[i] = *resumed
			return resume(&after.Policies[i])
		}
	}
	return nil
}

func resumeNodePool(change *Change, fleet, after *Fleet, name string) error {
	pool, err := fleet.nodePool(name)
	if err != nil {
		return err
	}
	was, paused := pool.Annotations[v1alpha1.PauseAnnotation]
	if !paused {
		change.means("NodePool %s is not paused", name)
		return nil
	}
	change.does(annotate(pool, v1alpha1.PauseAnnotation, ""), "resume repairs of NodePool %s: remove the annotation %s=%s", name, v1alpha1.PauseAnnotation, was)
	for i := range after.NodePools {
		if after.NodePools[i].Name == name {
			after.NodePools[i] = *withoutAnnotation(pool, v1alpha1.PauseAnnotation)
		}
	}
	return nil
}

func resumeNode(change *Change, fleet, after *Fleet, name string) error {
	machine, err := fleet.Find(name)
	if err != nil {
		return err
	}
	if node := machine.Node; node != nil {
		resumed := withoutAnnotation(node, v1alpha1.VetoAnnotation)
		if was, paused := node.Annotations[v1alpha1.VetoAnnotation]; paused {
			change.does(annotate(node, v1alpha1.VetoAnnotation, ""), "resume repairs of node %s: remove the annotation %s=%s", node.Name, v1alpha1.VetoAnnotation, was)
			replaceNode(after, resumed)
		}
		if veto, left := snapshot.NodeVeto(resumed); left {
			change.means("%s still keeps it from being repaired: %s", veto.What, veto.LiftedBy)
		}
	}
	if claim := machine.NodeClaim; claim != nil {
		if was, paused := claim.Annotations[v1alpha1.VetoAnnotation]; paused {
			change.does(annotate(claim, v1alpha1.VetoAnnotation, ""), "resume repairs of NodeClaim %s: remove the annotation %s=%s", claim.Name, v1alpha1.VetoAnnotation, was)
			replaceNodeClaim(after, withoutAnnotation(claim, v1alpha1.VetoAnnotation))
		}
	}
	if len(change.Does) == 0 && len(change.Means) == 0 {
		change.means("node %s is not paused", cmp.Or(machine.NodeName(), name))
	}
	return nil
}

func replaceNode(fleet *Fleet, node *corev1.Node) {
	for i := range fleet.Nodes {
		if fleet.Nodes[i].Name == node.Name {
			fleet.Nodes[i] = *node
		}
	}
}

func replaceNodeClaim(fleet *Fleet, claim *karpv1.NodeClaim) {
	for i := range fleet.NodeClaims {
		if fleet.NodeClaims[i].Name == claim.Name {
			fleet.NodeClaims[i] = *claim
		}
	}
}

// tellResume says which repairs start that do not start now.
func tellResume(ctx context.Context, change *Change, before decision.Input, after *Fleet) error {
	in, err := after.Input(ctx)
	if err != nil {
		return err
	}
	was := map[types.UID]bool{}
	for _, d := range decision.Decide(before).Decisions {
		was[d.Node.NodeClaimUID] = d.Admitted
	}
	var starts, waits []string
	for _, d := range decision.Decide(in).Decisions {
		switch {
		case d.Admitted && !was[d.Node.NodeClaimUID]:
			starts = append(starts, nodeLabel(d.Node))
		case !d.Admitted && after.unfinished(d.Node.NodeClaimUID) == nil && lifted(before, in, d.Node):
			waits = append(waits, fmt.Sprintf("%s (%s)", nodeLabel(d.Node), d.Blockers[0].Reason))
		}
	}
	change.means("%s within seconds%s", startsStart(len(starts)), some(starts))
	if len(waits) > 0 {
		change.means("%s on waiting for other reasons%s", goesOn(len(waits)), some(waits))
	}
	return nil
}

func startsStart(n int) string {
	if n == 1 {
		return "1 repair starts"
	}
	return fmt.Sprintf("%d repairs start", n)
}

func goesOn(n int) string {
	if n == 1 {
		return "1 node goes"
	}
	return fmt.Sprintf("%d nodes go", n)
}

// lifted says whether something that a person has said against the repair of a node no longer holds.
func lifted(before, after decision.Input, node decision.Node) bool {
	return len(decision.Stops(before, node.NodeClaimUID)) > len(decision.Stops(after, node.NodeClaimUID))
}
