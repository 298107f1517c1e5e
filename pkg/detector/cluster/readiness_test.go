package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// step is one look at a node.
type step struct {
	at     time.Duration
	ready  corev1.ConditionStatus
	leases Leases
}

// play looks at a node step by step, as after a restart each time, and gives what was found at each.
func play(t *testing.T, steps []step) (results []Result) {
	t.Helper()
	var previous *v1alpha1.NodeHealth
	state, changed := corev1.ConditionStatus(""), now
	for _, s := range steps {
		if s.ready != state {
			state, changed = s.ready, now.Add(s.at)
		}
		c := condition(corev1.NodeReady, state, "Reason", 0)
		c.LastTransitionTime.Time = changed
		result := detect(t, Input{Now: now.Add(s.at), Node: newNode(c), Leases: s.leases, Previous: previous})
		previous = standing(result)
		results = append(results, result)
	}
	return results
}

func TestNodeReadiness(t *testing.T) {
	storm := Leases{Total: 10, Expired: 9}
	minute := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	for name, test := range map[string]struct {
		steps     []step
		want      bool
		wantFlips int
	}{
		"four flips within half an hour": {
			steps: []step{{0, yes, Leases{}}, {minute(1), no, Leases{}}, {minute(8), yes, Leases{}}, {minute(20), no, Leases{}}, {minute(30), yes, Leases{}}},
			want:  true, wantFlips: 4,
		},
		"three flips": {
			steps:     []step{{0, yes, Leases{}}, {minute(1), no, Leases{}}, {minute(8), yes, Leases{}}, {minute(20), no, Leases{}}},
			wantFlips: 3,
		},
		"four flips, the first of them too old": {
			steps:     []step{{0, yes, Leases{}}, {minute(1), no, Leases{}}, {minute(8), yes, Leases{}}, {minute(20), no, Leases{}}, {minute(31), yes, Leases{}}},
			wantFlips: 3,
		},
		"looking often at one state is no flip": {
			steps: []step{{0, no, Leases{}}, {minute(1), no, Leases{}}, {minute(2), no, Leases{}}, {minute(3), no, Leases{}}, {minute(4), no, Leases{}}},
		},
		"False and Unknown are both not Ready": {
			steps:     []step{{0, yes, Leases{}}, {minute(1), unknown, Leases{}}, {minute(2), no, Leases{}}, {minute(3), yes, Leases{}}, {minute(4), unknown, Leases{}}, {minute(5), no, Leases{}}},
			wantFlips: 3,
		},
		"an API server that goes and comes for everybody makes nobody flap": {
			steps: []step{{0, yes, Leases{}}, {minute(1), unknown, storm}, {minute(2), yes, Leases{}}, {minute(3), unknown, storm}, {minute(4), yes, Leases{}}, {minute(5), unknown, storm}, {minute(6), yes, Leases{}}},
		},
		"it is over half an hour after the last flip": {
			steps:     []step{{0, yes, Leases{}}, {minute(1), no, Leases{}}, {minute(2), yes, Leases{}}, {minute(3), no, Leases{}}, {minute(4), yes, Leases{}}, {minute(34), yes, Leases{}}},
			wantFlips: 4,
		},
		"it is not over a minute earlier": {
			steps: []step{{0, yes, Leases{}}, {minute(1), no, Leases{}}, {minute(2), yes, Leases{}}, {minute(3), no, Leases{}}, {minute(4), yes, Leases{}}, {minute(33), yes, Leases{}}},
			want:  true, wantFlips: 4,
		},
	} {
		t.Run(name, func(t *testing.T) {
			results := play(t, test.steps)
			last := results[len(results)-1]
			findings := report(t, last, SourceNodeReadiness).Findings
			require.Len(t, last.Flips, test.wantFlips)
			if !test.want {
				require.Empty(t, findings)
				return
			}
			require.Len(t, findings, 1)
			require.Equal(t, ReasonNodeReadinessFlapping, findings[0].Reason)
			require.Equal(t, v1alpha1.SeverityFatal, findings[0].Severity)
			require.Equal(t, last.Flips[3], findings[0].Since.Time, "it began with the fourth flip")
			require.Equal(t, last.Flips[3].Add(30*time.Minute), last.Next, "the look at which it is over")
		})
	}
}

func TestFlipsAreBounded(t *testing.T) {
	var steps []step
	for i := range 40 {
		state := corev1.ConditionTrue
		if i%2 == 1 {
			state = corev1.ConditionFalse
		}
		steps = append(steps, step{at: time.Duration(i) * 10 * time.Second, ready: state})
	}
	results := play(t, steps)
	flips := results[len(results)-1].Flips
	require.Len(t, flips, 16)
	require.Equal(t, now.Add(390*time.Second), flips[15], "the newest are kept")
	require.Equal(t, []time.Time{now.Add(40 * time.Second).UTC()}, []time.Time{report(t, results[len(results)-1], SourceNodeReadiness).Findings[0].Since.UTC()})
}

func TestFlipsThatAreNoTimesCountForNothing(t *testing.T) {
	health := &v1alpha1.NodeHealth{}
	health.Annotations = map[string]string{FlipsAnnotation: "yesterday,2026-01-02T03:00:00Z,,2026-01-02T02:00:00Z,2026-01-02T03:01:00Z"}
	require.Equal(t, "2026-01-02T03:00:00Z,2026-01-02T03:01:00Z", FormatFlips(previousFlips(health)))
	require.Empty(t, previousFlips(nil))
}
