package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Kinds of what can be paused.
const (
	targetNode       = "node"
	targetNodePool   = "nodepool"
	targetPolicy     = "policy"
	targetEverything = "everything"
)

// targetKinds are the ways in which people write the kinds.
var targetKinds = map[string]string{
	"node": targetNode, "nodes": targetNode, "no": targetNode,
	"nodeclaim": targetNode, "nodeclaims": targetNode, "nodeclaims.karpenter.sh": targetNode, "nodeclaim.karpenter.sh": targetNode,
	"nodepool": targetNodePool, "nodepools": targetNodePool, "nodepools.karpenter.sh": targetNodePool, "nodepool.karpenter.sh": targetNodePool,
	"policy": targetPolicy, "policies": targetPolicy, "repairpolicy": targetPolicy, "repairpolicies": targetPolicy, "rp": targetPolicy,
	"repairpolicies.autorepair.sh": targetPolicy, "repairpolicy.autorepair.sh": targetPolicy,
	"everything": targetEverything, "all": targetEverything,
}

// target is what is paused or resumed. The name of everything is empty.
type target struct{ kind, name string }

func (t target) String() string {
	if t.kind == targetEverything {
		return targetEverything
	}
	return t.kind + "/" + t.name
}

// errNoTarget says what to write.
var errNoTarget = errors.New("say what: node NAME, nodepool NAME, policy NAME, or everything")

// parseTarget reads "node NAME", "node/NAME" and their like, and "everything".
func parseTarget(args []string) (target, error) {
	if len(args) == 0 {
		return target{}, errNoTarget
	}
	kind, name, slash := strings.Cut(args[0], "/")
	words := args[1:]
	if slash {
		words = append([]string{name}, words...)
	}
	known, ok := targetKinds[strings.ToLower(kind)]
	switch {
	case !ok:
		return target{}, fmt.Errorf("%q is none of them: %w", args[0], errNoTarget)
	case known == targetEverything && len(words) == 0:
		return target{kind: targetEverything}, nil
	case known == targetEverything:
		return target{}, fmt.Errorf("everything takes no name, so what is %q?", words[0])
	case len(words) != 1 || words[0] == "":
		return target{}, fmt.Errorf("write one name after %s", known)
	default:
		return target{kind: known, name: words[0]}, nil
	}
}

// completeTarget offers kinds, then names.
func (o *Options) completeTarget(command *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return []string{targetNode, targetNodePool, targetPolicy, targetEverything}, cobra.ShellCompDirectiveNoFileComp
	}
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	switch targetKinds[strings.ToLower(args[0])] {
	case targetNode:
		return o.completeNames(command.Context(), prefix, &corev1.NodeList{}, &karpv1.NodeClaimList{})
	case targetNodePool:
		return o.completeNames(command.Context(), prefix, &karpv1.NodePoolList{})
	case targetPolicy:
		return o.completeNames(command.Context(), prefix, &v1alpha1.RepairPolicyList{})
	default:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// nodePool gives the NodePool of a name.
func (f *Fleet) nodePool(name string) (*karpv1.NodePool, error) {
	return named("NodePool", name, f.NodePools, func(p *karpv1.NodePool) string { return p.Name })
}

// policy gives the RepairPolicy of a name.
func (f *Fleet) policy(name string) (*v1alpha1.RepairPolicy, error) {
	return named("RepairPolicy", name, f.Policies, func(p *v1alpha1.RepairPolicy) string { return p.Name })
}

func named[T any](what, name string, items []T, nameOf func(*T) string) (*T, error) {
	var known []string
	for i := range items {
		if nameOf(&items[i]) == name {
			return &items[i], nil
		}
		known = append(known, nameOf(&items[i]))
	}
	return nil, unknownName(what, name, known)
}
