package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// pauseName is the RepairPause by which this program pauses everything.
const pauseName = "kubectl-autorepair"

// pause is what a person wants paused.
type pause struct {
	target target
	// until is when it ends by itself; zero for when it is resumed.
	until time.Time
	// reason in the person's words; kept for everything only.
	reason string
}

// value is how an annotation says it.
func (p pause) value() string { return cmp.Or(stamp(p.until), "true") }

func (p pause) howLong() string {
	if p.until.IsZero() {
		return "until it is resumed"
	}
	return "until " + stamp(p.until)
}

// planPause says what pausing writes, and what comes of it.
func planPause(ctx context.Context, fleet *Fleet, p pause) (*Change, error) {
	if p.reason != "" && p.target.kind != targetEverything {
		return nil, errors.New("--reason is kept for everything only: an annotation has no place for it")
	}
	in, err := fleet.Input(ctx)
	if err != nil {
		return nil, err
	}
	change := &Change{}
	covers := func(decision.Node) bool { return true }
	switch p.target.kind {
	case targetEverything:
		p.planEverything(change, fleet)
	case targetPolicy:
		policy, err := fleet.policy(p.target.name)
		if err != nil {
			return nil, err
		}
		covers = func(n decision.Node) bool { return n.Verdict.Policy != nil && n.Verdict.Policy.Name == policy.Name }
		if err := p.planPolicy(change, policy, fleet.Now); err != nil {
			return nil, err
		}
	case targetNodePool:
		pool, err := fleet.nodePool(p.target.name)
		if err != nil {
			return nil, err
		}
		covers = func(n decision.Node) bool { return n.NodePool == pool.Name }
		was := pool.Annotations[v1alpha1.PauseAnnotation]
		p.planAnnotation(change, "NodePool "+pool.Name, v1alpha1.PauseAnnotation, was, annotate(pool, v1alpha1.PauseAnnotation, p.value()))
	default:
		machine, err := fleet.Find(p.target.name)
		if err != nil {
			return nil, err
		}
		covers = func(n decision.Node) bool { return machine.NodeClaim != nil && n.NodeClaimUID == machine.NodeClaim.UID }
		if err := p.planNode(change, machine); err != nil {
			return nil, err
		}
	}
	if len(change.writes) == 0 {
		return change, nil
	}
	tellPause(change, p, fleet, in, covers)
	return change, nil
}

// planAnnotation pauses what is paused by an annotation.
func (p pause) planAnnotation(change *Change, what, key, was string, w write) {
	switch was {
	case p.value():
		change.means("%s is paused already, %s", what, p.howLong())
	case "", "false":
		change.does(w, "pause repairs of %s %s: annotation %s=%s", what, p.howLong(), key, p.value())
	default:
		change.does(w, "pause repairs of %s %s: annotation %s=%s, in the place of %q", what, p.howLong(), key, p.value(), was)
	}
}

// planNode pauses a node. Beside karpenter.sh/do-not-repair, which has no end, an end of ours would end that too.
func (p pause) planNode(change *Change, machine Machine) error {
	if machine.NodeClaim == nil {
		return fmt.Errorf("node %s is not Karpenter's, so it is not repaired anyway", machine.Node.Name)
	}
	if machine.Node == nil {
		claim := machine.NodeClaim
		was := claim.Annotations[v1alpha1.VetoAnnotation]
		p.planAnnotation(change, "NodeClaim "+claim.Name, v1alpha1.VetoAnnotation, was, annotate(claim, v1alpha1.VetoAnnotation, p.value()))
		return nil
	}
	node := machine.Node
	was := node.Annotations[v1alpha1.VetoAnnotation]
	alone := node.DeepCopy()
	delete(alone.Annotations, v1alpha1.VetoAnnotation)
	if veto, ok := snapshot.NodeVeto(alone); ok {
		if !p.until.IsZero() {
			return fmt.Errorf("node %s is vetoed without end already, by %s: an end beside it would end that veto too, so pause the node without one", node.Name, veto.What)
		}
		change.means("%s keeps it from being repaired too, and is not lifted by resume", veto.What)
	}
	p.planAnnotation(change, "node "+node.Name, v1alpha1.VetoAnnotation, was, annotate(node, v1alpha1.VetoAnnotation, p.value()))
	return nil
}

// planPolicy pauses a policy, and notes its mode, to which it is resumed.
func (p pause) planPolicy(change *Change, policy *v1alpha1.RepairPolicy, now time.Time) error {
	mode := cmp.Or(decision.ModeAt(policy, now), v1alpha1.ModeEnforce)
	if mode == v1alpha1.ModeDryRun && !p.until.IsZero() {
		return fmt.Errorf("RepairPolicy %s is in mode DryRun, so it repairs nothing anyway; a pause with an end would end in Enforce", policy.Name)
	}
	until := stamp(p.until)
	if mode == v1alpha1.ModePaused && policy.Spec.PausedUntil == until {
		change.means("RepairPolicy %s is paused already, %s", policy.Name, p.howLong())
		return nil
	}
	told := policy.Spec.Mode
	w := modify(policy, func(policy *v1alpha1.RepairPolicy) error {
		if policy.Spec.Mode != told {
			return fmt.Errorf("its mode has changed meanwhile, from %s to %s: look again", told, policy.Spec.Mode)
		}
		if mode != v1alpha1.ModePaused {
			metav1.SetMetaDataAnnotation(&policy.ObjectMeta, v1alpha1.ResumeModeAnnotation, string(mode))
		}
		policy.Spec.Mode, policy.Spec.PausedUntil = v1alpha1.ModePaused, until
		return nil
	})
	fields := "spec.mode=Paused"
	if until != "" {
		fields += ", spec.pausedUntil=" + until
	}
	change.does(w, "pause RepairPolicy %s %s: %s (now %s)", policy.Name, p.howLong(), fields, describeMode(policy, mode))
	return nil
}

func describeMode(policy *v1alpha1.RepairPolicy, mode v1alpha1.Mode) string {
	if mode == v1alpha1.ModePaused && policy.Spec.PausedUntil != "" {
		return "Paused until " + policy.Spec.PausedUntil
	}
	return string(mode)
}

// planEverything pauses everything by a RepairPause of ours.
func (p pause) planEverything(change *Change, fleet *Fleet) {
	spec := v1alpha1.RepairPauseSpec{Until: stamp(p.until), Reason: p.reason}
	i := slices.IndexFunc(fleet.Pauses, func(pause v1alpha1.RepairPause) bool { return pause.Name == pauseName })
	if i < 0 {
		object := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: pauseName}, Spec: spec}
		change.does(create(object), "pause all repairs in the cluster %s: RepairPause %s", p.howLong(), pauseName)
		return
	}
	is := &fleet.Pauses[i]
	if equality.Semantic.DeepEqual(is.Spec, spec) {
		change.means("everything is paused already, %s, by RepairPause %s", p.howLong(), pauseName)
		return
	}
	told := *is.Spec.DeepCopy()
	change.does(modify(is, func(is *v1alpha1.RepairPause) error {
		if !equality.Semantic.DeepEqual(is.Spec, told) {
			return errors.New("it has changed meanwhile: look again")
		}
		is.Spec = spec
		return nil
	}), "pause all repairs in the cluster %s: RepairPause %s, which held %s", p.howLong(), pauseName, howLongWas(told.Until))
}

func howLongWas(until string) string {
	if until == "" {
		return "without end"
	}
	return "until " + until
}

// tellPause says what comes of a pause for the nodes that it covers.
func tellPause(change *Change, p pause, fleet *Fleet, in decision.Input, covers func(decision.Node) bool) {
	var letGo, goOn, wait []string
	covered := 0
	for _, node := range in.Nodes {
		if !covers(node) {
			continue
		}
		covered++
		repair := fleet.unfinished(node.NodeClaimUID)
		switch {
		case repair == nil && len(node.Verdict.Judgements) > 0 && !node.Deleting:
			wait = append(wait, nodeLabel(node))
		case repair != nil && repair.CanBeLetGo():
			letGo = append(letGo, fmt.Sprintf("%s (%s)", nodeLabel(node), cmp.Or(repair.Status.Phase, v1alpha1.PhaseCommitted)))
		case repair != nil:
			goOn = append(goOn, fmt.Sprintf("%s (%s)", nodeLabel(node), repair.Status.Phase))
		}
	}
	if p.target.kind == targetNode {
		change.means("no repair of it starts")
	} else {
		change.means("no repair starts of %s that it covers; of these %d %s sick and will wait%s", plural(covered, "node"), len(wait), isAre(len(wait)), some(wait))
	}
	if len(letGo) > 0 {
		change.means("%s %s let go, since the node has not been deleted yet%s", plural(len(letGo), "repair"), isAre(len(letGo)), some(letGo))
	}
	if len(goOn) > 0 {
		change.means("%s %s past the point of no return and will go on%s", plural(len(goOn), "repair"), isAre(len(goOn)), some(goOn))
	}
	change.means("findings and conditions are written as before; resume with: %s resume %s", commandName, strings.Replace(p.target.String(), "/", " ", 1))
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// some names up to five.
func some(names []string) string {
	const most = 5
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	if len(names) > most {
		return fmt.Sprintf(": %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return ": " + strings.Join(names, ", ")
}
