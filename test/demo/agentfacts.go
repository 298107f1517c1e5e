package main

import (
	"fmt"
	"io"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// agentFacts are what the second act saw.
type agentFacts struct {
	// Skipped says why the second act was not played; empty where it was.
	Skipped string `json:"skipped,omitempty"`

	// First run: the link stays down. Found is until the NodeHealth had the finding, False until the NodeClaim's
	// condition was False, Admitted until the repair was decided on.
	Found          float64       `json:"secondsFromFaultToFinding"`
	False          float64       `json:"secondsFromFaultToFalse"`
	Admitted       float64       `json:"secondsFromFaultToRepair"`
	Repairs        []repairFacts `json:"repairs"`
	NodeClaimsMade int           `json:"nodeClaimsMade"`

	// Second run: the link comes back. True is from the link's return until the condition was True.
	FalseAgain             float64 `json:"secondsFromFaultToFalseAgain"`
	True                   float64 `json:"secondsFromReturnToTrue"`
	TransitionsOfSecondRun int     `json:"transitionsOfSecondRun"`
	RepairsOfSecondRun     int     `json:"repairsOfSecondRun"`

	Broken []string `json:"brokenPromises"`
}

func (f *agentFacts) broken() []string {
	if f == nil {
		return nil
	}
	return f.Broken
}

// confirm is how long the catalogue asks for the fault to stand before it counts.
func confirm() time.Duration {
	reason, _ := health.Lookup(reasonDown)
	return reason.Confirm.For
}

func (f *agentFacts) judge() {
	broken := func(wrong bool, format string, args ...any) {
		if wrong {
			f.Broken = append(f.Broken, fmt.Sprintf(format, args...))
		}
	}
	latest := (confirm() + 2*time.Second).Seconds()
	broken(f.Found <= 0 || f.Found > 1, "the finding stood %.1f s after the fault, not within 1 s", f.Found)
	broken(f.False <= 0 || f.False > latest, "NetworkingReady was False %.1f s after the fault, not within %.0f s", f.False, latest)
	broken(f.Admitted < toleration.Seconds()-1, "the repair was decided on %.1f s after the fault, before the toleration of %s", f.Admitted, toleration)
	broken(len(f.Repairs) != 1, "there are %d NodeRepairs for one sick node", len(f.Repairs))
	for _, r := range f.Repairs {
		broken(r.Phase != string(v1alpha1.PhaseSucceeded), "%s ended as %q", r.Name, r.Phase)
		broken(r.Cause != reasonDown, "%s was because of %s", r.Name, r.Cause)
	}
	broken(f.NodeClaimsMade != 1, "%d NodeClaims were made for one sick node", f.NodeClaimsMade)
	broken(f.FalseAgain <= 0 || f.FalseAgain > latest, "in the second run NetworkingReady was False %.1f s after the fault, not within %.0f s", f.FalseAgain, latest)
	broken(f.True <= 0 || f.True > 2, "NetworkingReady was True %.1f s after the link came back, not within 2 s", f.True)
	broken(f.TransitionsOfSecondRun != 2, "NetworkingReady moved %d times in the second run, not twice", f.TransitionsOfSecondRun)
	broken(f.RepairsOfSecondRun != 0, "there are %d NodeRepairs for a link that came back in time", f.RepairsOfSecondRun)
}

func (f *agentFacts) print(out io.Writer) {
	fmt.Fprintf(out, "\nFrom the fault to the finding %.2f s, to NetworkingReady=False %.1f s (confirmed for %s), to the repair %.1f s (tolerated for %s).\n",
		f.Found, f.False, confirm(), f.Admitted, toleration)
	fmt.Fprintf(out, "NodeClaims made for one sick node: %d. With the link back in time: True again after %.2f s, %d transitions, %d repairs.\n",
		f.NodeClaimsMade, f.True, f.TransitionsOfSecondRun, f.RepairsOfSecondRun)
}
