package disruption

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/events"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// maxUnplacedPods bounds how many pods that find no place are named.
const maxUnplacedPods = 3

// SimulationPlanner plans with Karpenter's own scheduling simulation, inside a Karpenter build.
type SimulationPlanner struct {
	clock       clock.Clock
	kubeClient  client.Client
	recorder    events.Recorder
	cluster     *state.Cluster
	provisioner *provisioning.Provisioner
}

// NewSimulationPlanner makes a SimulationPlanner on the parts of a Karpenter build.
func NewSimulationPlanner(clk clock.Clock, kubeClient client.Client, recorder events.Recorder, cluster *state.Cluster,
	provisioner *provisioning.Provisioner,
) *SimulationPlanner {
	return &SimulationPlanner{clock: clk, kubeClient: kubeClient, recorder: recorder, cluster: cluster, provisioner: provisioner}
}

// Plan finds places for the candidate's pods, blocked ones included: its drain bound will move them in the end.
func (s *SimulationPlanner) Plan(ctx context.Context, d decision.Decision, candidate *karpdisruption.Candidate, avoid []*state.StateNode) (Plan, error) {
	pods, err := nodeutils.ReschedulablePods(ctx, s.kubeClient, d.Node.NodeName)
	if err != nil {
		return Plan{}, fmt.Errorf("listing reschedulable pods, %w", err)
	}
	// A candidate without pods takes its node out of the simulation and adds nothing to it.
	candidates := []*karpdisruption.Candidate{candidate}
	for _, node := range avoid {
		if node.ProviderID() != candidate.ProviderID() {
			candidates = append(candidates, &karpdisruption.Candidate{StateNode: node})
		}
	}
	results, err := karpdisruption.SimulateScheduling(ctx, s.kubeClient, s.cluster, s.provisioner, s.clock, s.recorder, nil,
		karpdisruption.SimulationOptions{IncludeBlockedCandidatePods: true}, candidates...)
	if err != nil {
		return Plan{}, &BlockedError{Blocker: decision.Blocker{
			Reason:  decision.BlockerUnreadable,
			Message: fmt.Sprintf("Karpenter's scheduling simulation could not be run: %s", err),
		}}
	}
	if problem := unplaced(results); problem != "" {
		return Plan{}, &BlockedError{Blocker: decision.Blocker{
			Reason:   decision.BlockerUnschedulable,
			Message:  problem,
			LiftedBy: "make room for the pods: widen a NodePool's requirements or limits, or change what the pods ask for",
		}}
	}
	return choose(results, pods), nil
}

// choose keeps of the simulation what holds a pod of the candidate. The simulation also places pending pods and pods of
// other nodes that go; Karpenter makes room for those itself, and what is made twice is wasted.
func choose(results scheduling.Results, pods []*corev1.Pod) Plan {
	ours := sets.New(lo.Map(pods, func(pod *corev1.Pod, _ int) types.UID { return pod.UID })...)
	holdsOurs := func(held []*corev1.Pod) bool {
		return slices.ContainsFunc(held, func(pod *corev1.Pod) bool { return ours.Has(pod.UID) })
	}
	results.NewNodeClaims = lo.Filter(results.NewNodeClaims, func(nodeClaim *scheduling.NodeClaim, _ int) bool { return holdsOurs(nodeClaim.Pods) })
	results.ExistingNodes = lo.Filter(results.ExistingNodes, func(node *scheduling.ExistingNode, _ int) bool { return holdsOurs(node.Pods) })
	return Plan{
		Replacements: lo.Map(results.NewNodeClaims, func(nodeClaim *scheduling.NodeClaim, _ int) *karpdisruption.Replacement {
			return &karpdisruption.Replacement{NodeClaim: nodeClaim}
		}),
		Results: results,
		Uses:    lo.Map(results.ExistingNodes, func(node *scheduling.ExistingNode, _ int) *state.StateNode { return node.StateNode }),
	}
}

// unplaced names the pods that run now and would find no place, in a stable order; empty where there are none. Pods
// that are pending already are none of the repair's doing.
func unplaced(results scheduling.Results) string {
	var problems []string
	for pod, err := range results.PodErrors {
		if !podutils.IsProvisionable(pod) {
			problems = append(problems, fmt.Sprintf("%s/%s: %s", pod.Namespace, pod.Name, err))
		}
	}
	if len(problems) == 0 {
		return ""
	}
	slices.Sort(problems)
	more := ""
	if len(problems) > maxUnplacedPods {
		more = fmt.Sprintf("; and %d more", len(problems)-maxUnplacedPods)
		problems = problems[:maxUnplacedPods]
	}
	return fmt.Sprintf("pods of the node would find no place: %s%s", strings.Join(problems, "; "), more)
}
