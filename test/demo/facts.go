package main

import (
	"context"
	"fmt"
	"io"
	"sort"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// facts are what the demo saw.
type facts struct {
	Repairs []repairFacts `json:"repairs"`
	// LowestAvailable is the fewest available pods ever seen; MinAvailable is what the PodDisruptionBudget asks for.
	LowestAvailable int32 `json:"lowestAvailable"`
	MinAvailable    int32 `json:"minAvailable"`
	Replicas        int32 `json:"replicas"`
	// MostInFlight is the most repairs that held the budget at once; the budget is 1.
	MostInFlight int  `json:"mostInFlight"`
	HeldBack     bool `json:"heldBackByBudget"`
	// NodeClaimsMade since the faults began.
	NodeClaimsMade int `json:"nodeClaimsMade"`
	// Agent is what the second act showed.
	Agent *agentFacts `json:"agent"`
	// Broken promises; none is success.
	Broken []string `json:"brokenPromises"`
}

type repairFacts struct {
	Name        string  `json:"name"`
	NodeClaim   string  `json:"nodeClaim"`
	Cause       string  `json:"cause"`
	Phase       string  `json:"phase"`
	Replacement string  `json:"replacement"`
	PodsMoved   int32   `json:"podsMoved"`
	Found       float64 `json:"secondsFromFaultToDecision"`
	Fence       float64 `json:"secondsToFence"`
	Provision   float64 `json:"secondsToProvision"`
	Terminate   float64 `json:"secondsToTerminate"`
	Verify      float64 `json:"secondsToVerify"`
	Total       float64 `json:"secondsFromDecisionToEnd"`
}

// finish looks at what is left once both repairs have ended.
func (s *story) finish(ctx context.Context, c *cluster.Cluster) (*facts, error) {
	left, err := leftovers(ctx, c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &facts{
		LowestAvailable: s.available, MinAvailable: minAvailable, Replicas: replicas,
		MostInFlight: s.inFlight, HeldBack: s.heldBack, NodeClaimsMade: len(s.claims) - s.before, Broken: left,
	}
	for _, repair := range s.repairs {
		f.Repairs = append(f.Repairs, factsOf(repair))
	}
	sort.Slice(f.Repairs, func(i, j int) bool { return f.Repairs[i].Name < f.Repairs[j].Name })
	f.judge()
	return f, nil
}

func (f *facts) judge() {
	broken := func(wrong bool, format string, args ...any) {
		if wrong {
			f.Broken = append(f.Broken, fmt.Sprintf(format, args...))
		}
	}
	broken(len(f.Repairs) != len(faults), "there are %d NodeRepairs for %d sick nodes", len(f.Repairs), len(faults))
	for _, r := range f.Repairs {
		broken(r.Phase != string(v1alpha1.PhaseSucceeded), "%s ended as %q", r.Name, r.Phase)
	}
	broken(f.NodeClaimsMade != len(faults), "%d NodeClaims were made for %d sick nodes", f.NodeClaimsMade, len(faults))
	broken(f.MostInFlight > 1, "%d repairs held a budget of 1 at once", f.MostInFlight)
	broken(!f.HeldBack, "no NodeClaim said that it waited for the budget")
	broken(f.LowestAvailable < f.MinAvailable, "only %d pods were available, the PodDisruptionBudget asks for %d", f.LowestAvailable, f.MinAvailable)
}

func factsOf(repair *v1alpha1.NodeRepair) repairFacts {
	r := repairFacts{Name: repair.Name, NodeClaim: repair.Spec.NodeClaim.Name, Cause: repair.Spec.Cause.Reason, Phase: string(repair.Status.Phase)}
	if n := len(repair.Status.Replacements); n > 0 {
		r.Replacement = repair.Status.Replacements[n-1].NodeClaim
	}
	if repair.Status.Evidence != nil {
		r.PodsMoved = repair.Status.Evidence.ReschedulablePods
	}
	r.Found = repair.CreationTimestamp.Sub(repair.Spec.Cause.Since.Time).Seconds()
	last := repair.CreationTimestamp.Time
	for _, step := range []struct {
		condition string
		seconds   *float64
	}{
		{v1alpha1.RepairConditionFenced, &r.Fence},
		{v1alpha1.RepairConditionProvisioned, &r.Provision},
		{v1alpha1.RepairConditionTerminated, &r.Terminate},
		{v1alpha1.RepairConditionVerified, &r.Verify},
	} {
		if condition := meta.FindStatusCondition(repair.Status.Conditions, step.condition); condition != nil && condition.Status == metav1.ConditionTrue {
			*step.seconds = condition.LastTransitionTime.Sub(last).Seconds()
			last = condition.LastTransitionTime.Time
		}
	}
	r.Total = last.Sub(repair.CreationTimestamp.Time).Seconds()
	return r
}

// leftovers lists what a finished repair must not leave behind.
func leftovers(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	var left []string
	err := wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, 15*time.Second, true, func(ctx context.Context) (bool, error) {
		nodes := &corev1.NodeList{}
		if err := c.Client.List(ctx, nodes); err != nil {
			return false, fmt.Errorf("listing Nodes, %w", err)
		}
		var err error
		if left, err = c.Leftovers(ctx); err != nil {
			return false, err
		}
		if len(nodes.Items) != replicas {
			left = append(left, fmt.Sprintf("there are %d Nodes, not %d", len(nodes.Items), replicas))
		}
		return len(left) == 0, nil
	})
	if err != nil && !wait.Interrupted(err) {
		return nil, err
	}
	return left, nil
}

func (f *facts) print(out io.Writer) {
	fmt.Fprintln(out, "\nSeconds of each phase:")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tCAUSE\tFAULT TO DECISION\tFENCE\tPROVISION\tDRAIN AND END\tVERIFY\tDECISION TO END\tPODS MOVED\tENDED AS\t")
	for _, r := range f.Repairs {
		fmt.Fprintf(table, "\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%s\t\n", r.Cause, r.Found, r.Fence, r.Provision, r.Terminate, r.Verify, r.Total, r.PodsMoved, r.Phase)
	}
	_ = table.Flush()
	fmt.Fprintf(out, "\nPods available: never fewer than %d of %d; the PodDisruptionBudget asks for %d.\n", f.LowestAvailable, f.Replicas, f.MinAvailable)
	fmt.Fprintf(out, "Repairs that held the budget of 1 at once: at most %d. NodeClaims made for %d sick nodes: %d.\n", f.MostInFlight, len(faults), f.NodeClaimsMade)
}
