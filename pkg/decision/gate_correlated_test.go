package decision

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestDomains(t *testing.T) {
	full := node("a", inZone("z1"), func(n *Node) { n.InstanceType, n.Image = "m5.large", "ami-1" })
	require.Equal(t, []string{"nodepool=default", "zone=z1", "instance-type=m5.large", "image=ami-1"}, Domains(full))
	require.Equal(t, []string{"nodepool=default"}, Domains(node("a")))
	require.Empty(t, Domains(node("a", inPool(""))))
}

func TestSuspectDomains(t *testing.T) {
	under := func(options ...func(*v1alpha1.RepairPolicy)) nodeOption {
		return judged(policy(options...), judgement())
	}
	minNodes := func(n int32) func(*v1alpha1.RepairPolicy) {
		return func(p *v1alpha1.RepairPolicy) { p.Spec.CorrelatedFailure.MinNodes = &n }
	}
	tests := map[string]struct {
		nodes        []Node
		wantAdmitted int
	}{
		"a fifth of a domain is not suspect":           {append(wells(8), sicks(2)...), 2},
		"more than a fifth is, and starts with one":    {append(wells(7), sicks(3)...), 1},
		"two of two are too few to tell":               {sicks(2), 2},
		"three of three are not":                       {sicks(3), 1},
		"one of three goes, as the first":              {append(wells(2), sicks(1)...), 1},
		"half of a pool that turns sick at once":       {append(wells(50), sicks(50)...), 1},
		"the policy may ask for more nodes to tell":    {sicks(3, under(minNodes(4))), 3},
		"the policy may allow a greater share":         {append(wells(7), sicks(3, under(maxUnhealthy("30%")))...), 3},
		"the policy may allow all":                     {sicks(9, under(maxUnhealthy("100%"))), 9},
		"the policy may allow none":                    {append(wells(98), sicks(2, under(maxUnhealthy("0%")))...), 1},
		"the policy may count nodes":                   {append(wells(2), sicks(2, under(maxUnhealthy("2")))...), 2},
		"one more than counted is suspect":             {append(wells(2), sicks(3, under(maxUnhealthy("2")))...), 1},
		"what is still tolerated is sick all the same": {append(append(wells(7), sicks(2)...), sick("x", judged(policy(), judgement(eligibleAgo(-time.Hour))))), 1},
		"what is only shown is not":                    {append(append(wells(7), sicks(2)...), node("x", judged(policy(), judgement(acting(v1alpha1.ActionNone))))), 2},
		"what no rule speaks of is not":                {append(append(wells(7), sicks(2)...), node("x", judged(policy(), judgement(ruleless)))), 2},
		"what a person asked for is not":               {append(append(wells(7), sicks(2)...), sick("x", judged(policy(), judgement(requesting)))), 3},
		"nodes that leave do not count": {
			append(append(wells(7), sicks(2)...), sick("x", func(n *Node) { n.Deleting = true })), 1, // two of nine
		},
		"nodes that are still coming do not make a domain larger": {
			append(append(wells(7), sicks(2)...), node("x", func(n *Node) { n.Initialized = false })), 1, // two of nine
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Decide(input(tt.nodes))
			require.Len(t, admitted(got), tt.wantAdmitted)
			for _, d := range got.Decisions {
				if !d.Admitted && d.Node.Verdict.Unhealthy {
					require.Equal(t, []BlockerReason{BlockerCorrelated}, reasonsOf(d.Blockers))
				}
			}
		})
	}
}

func TestARequestGoesThroughASuspectDomain(t *testing.T) {
	nodes := append(sicks(4), sick("x", judged(policy(), judgement(), judgement(requesting))))
	require.Equal(t, []string{"sick-0", "x"}, admitted(Decide(input(nodes))))
}

func TestSlowStart(t *testing.T) {
	ok, bad, canceled := v1alpha1.PhaseSucceeded, v1alpha1.PhaseFailed, v1alpha1.PhaseCanceled
	tests := map[string]struct {
		past       []v1alpha1.NodeRepair
		wantWidth  int
		wantPaused time.Duration // from the last failure; 0 for no pause
	}{
		"one at first":                                   {nil, 1, 0},
		"two after a success":                            {ended(time.Minute, ok), 2, 0},
		"eight after three":                              {ended(time.Minute, ok, ok, ok), 8, 0},
		"one again after a failure":                      {ended(0, ok, ok, ok, bad), 1, time.Minute},
		"two after the success that follows":             {ended(time.Minute, ok, bad, ok), 2, 0},
		"a growing pause: second failure":                {ended(0, bad, bad), 1, 2 * time.Minute},
		"a growing pause: third":                         {ended(0, bad, bad, bad), 1, 4 * time.Minute},
		"a growing pause: fourth":                        {ended(0, bad, bad, bad, bad), 1, 8 * time.Minute},
		"a growing pause, up to ten minutes":             {ended(0, bad, bad, bad, bad, bad), 1, 10 * time.Minute},
		"and never more":                                 {ended(0, bad, bad, bad, bad, bad, bad, bad), 1, 10 * time.Minute},
		"a canceled repair proves nothing":               {ended(0, ok, canceled), 2, 0},
		"what is longer ago than an hour does not speak": {ended(time.Hour, ok, ok), 1, 0},
		"only the part within the hour does":             {ended(59*time.Minute, ok, ok), 2, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var r record
			for _, past := range sortedRepairs(tt.past) {
				r.add(past, noon)
			}
			require.Equal(t, tt.wantWidth, r.width())
			want := time.Time{}
			if tt.wantPaused != 0 {
				want = noon.Add(tt.wantPaused)
			}
			require.Equal(t, want, r.pausedUntil())
		})
	}
}

func TestSuspectDomainsAreRepairedBySlowStart(t *testing.T) {
	ofZone := func(r *v1alpha1.NodeRepair) { r.Status.Domains = []string{"zone=z1"}; r.Spec.NodePool = "other" }
	zone := func(extra ...Node) []Node {
		return append(append(sicks(8, inZone("z1")), wells(50, inZone("z2"))...), extra...)
	}
	past := func(phases ...v1alpha1.Phase) []v1alpha1.NodeRepair {
		repairs := ended(2*time.Minute, phases...)
		for i := range repairs {
			ofZone(&repairs[i])
		}
		return repairs
	}
	tests := map[string]struct {
		in          Input
		want        int
		wantMessage string
		wantRetryAt time.Time
	}{
		"one probe at first": {
			in: input(zone()), want: 1,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick: 1 repair at a time until replacements prove healthy, 1 at work; looked at again when one of them ends",
		},
		"none beside the probe": {
			in: input(zone(), withRepairs(repair("x", v1alpha1.PhaseWaiting, ofZone))), want: 0,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick: 1 repair at a time until replacements prove healthy, 1 at work; looked at again when one of them ends",
		},
		"none until the probe's replacement has proved healthy": {
			in: input(zone(), withRepairs(repair("x", v1alpha1.PhaseVerifying, ofZone))), want: 0,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick: 1 repair at a time until replacements prove healthy, 1 at work; looked at again when one of them ends",
		},
		"which says when that will be": {
			in: input(zone(), withRepairs(repair("x", v1alpha1.PhaseVerifying, ofZone, releasedAgo(2*time.Minute)))), want: 0,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick: 1 repair at a time until replacements prove healthy, 1 at work; looked at again when one of them ends, at 2026-01-02T12:03:00Z at the earliest",
			wantRetryAt: noon.Add(3 * time.Minute),
		},
		"a repair that proved nothing keeps its place for as long": {
			in: input(zone(), withRepairs(repair("x", v1alpha1.PhaseSucceeded, ofZone, endedAgo(2*time.Minute), verifiedAs(v1alpha1.VerifiedNotNeeded)))), want: 0,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick: 1 repair at a time until replacements prove healthy, 1 at work; looked at again when one of them ends, at 2026-01-02T12:03:00Z at the earliest",
			wantRetryAt: noon.Add(3 * time.Minute),
		},
		"and makes the next no wider": {
			in: input(zone(), withRepairs(repair("x", v1alpha1.PhaseSucceeded, ofZone, endedAgo(5*time.Minute), verifiedAs(v1alpha1.VerifiedReplacementGone)))), want: 1,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick: 1 repair at a time until replacements prove healthy, 1 at work; looked at again when one of them ends",
		},
		"two when it has": {
			in: input(zone(), withRepairs(past(v1alpha1.PhaseSucceeded)...)), want: 2,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick: 2 repairs at a time until replacements prove healthy, 2 at work; looked at again when one of them ends",
		},
		"none for a while when it turned out sick too": {
			in: input(zone(), withRepairs(past(v1alpha1.PhaseSucceeded, v1alpha1.PhaseFailed, v1alpha1.PhaseFailed, v1alpha1.PhaseFailed)...)), want: 0,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick, and the last repair there failed: the next starts at 2026-01-02T12:02:00Z",
			wantRetryAt: noon.Add(2 * time.Minute),
		},
		"one again after the pause": {
			in: input(zone(), withRepairs(past(v1alpha1.PhaseSucceeded, v1alpha1.PhaseFailed)...)), want: 1,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick: 1 repair at a time until replacements prove healthy, 1 at work; looked at again when one of them ends",
		},
		"a repair that has not recorded its domains yet counts in those of its node": {
			in: input(zone(), withRepairs(repair("sick-7", "", func(r *v1alpha1.NodeRepair) { r.Status.Domains = nil }))), want: 0,
			wantMessage: "zone=z1 is suspect with 8 of 8 nodes sick: 1 repair at a time until replacements prove healthy, 1 at work; looked at again when one of them ends",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Decide(tt.in)
			require.Len(t, admitted(got), tt.want)
			for _, d := range got.Decisions {
				if d.Admitted || reasonsOf(d.Blockers)[0] == BlockerRepairInProgress {
					continue
				}
				require.Len(t, d.Blockers, 1)
				require.Equal(t, tt.wantMessage, d.Blockers[0].Message)
				require.Equal(t, tt.wantRetryAt, d.Blockers[0].RetryAt)
			}
		})
	}
}

func releasedAgo(d time.Duration) func(*v1alpha1.NodeRepair) {
	return func(r *v1alpha1.NodeRepair) {
		r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.RepairConditionReleased, Status: metav1.ConditionTrue, LastTransitionTime: *metaAgo(d)}}
	}
}

func TestANodeNeedsEverySuspectDomainOfIts(t *testing.T) {
	// Zone and NodePool are both suspect; the zone has proved itself, the NodePool has a repair at work.
	proved := repair("p", v1alpha1.PhaseSucceeded, endedAgo(time.Minute), func(r *v1alpha1.NodeRepair) { r.Status.Domains = []string{"zone=z1"} })
	atWork := repair("q", v1alpha1.PhaseVerifying)
	got := Decide(input(sicks(4, inZone("z1")), withRepairs(proved, atWork)))
	require.Empty(t, admitted(got))
	require.Len(t, got.Decisions[0].Blockers, 1)
	require.Contains(t, got.Decisions[0].Blockers[0].Message, "nodepool=default is suspect")
}

// A bad detector marks half of a NodePool. Each pass starts what it may; the replacements are healthy, or are not.
func TestAStormOfFalsePositives(t *testing.T) {
	t.Run("it costs one probe while replacements turn out sick too", func(t *testing.T) {
		in := input(append(wells(50), sicks(50)...))
		started := 0
		for minute := range 60 {
			in.Now = noon.Add(time.Duration(minute) * time.Minute)
			for _, name := range admitted(Decide(in)) {
				started++
				in.Repairs = append(in.Repairs, repair(name, v1alpha1.PhaseFailed, named(fmt.Sprintf("r%d", started)), func(r *v1alpha1.NodeRepair) {
					r.Status.FinishedAt = new(metaAt(in.Now))
				}))
			}
		}
		require.Equal(t, 9, started, "at 0, 1, 3, 7 and 15 minutes, and then every ten")
	})
	t.Run("it speeds up while they prove healthy", func(t *testing.T) {
		in := input(append(wells(50), sicks(50)...))
		var started []int
		for pass := range 6 {
			in.Now = noon.Add(time.Duration(pass) * 5 * time.Minute)
			names := admitted(Decide(in))
			started = append(started, len(names))
			for _, name := range names {
				in.Repairs = append(in.Repairs, repair(name, v1alpha1.PhaseSucceeded, func(r *v1alpha1.NodeRepair) { r.Status.FinishedAt = new(metaAt(in.Now)) }))
				in.Nodes = replaced(in.Nodes, name)
			}
		}
		require.Equal(t, []int{1, 2, 8, 39, 0, 0}, started)
	})
	t.Run("when it clears but for one node, that node is repaired without anyone's help", func(t *testing.T) {
		failures := ended(0, v1alpha1.PhaseFailed, v1alpha1.PhaseFailed, v1alpha1.PhaseFailed)
		in := input(append(wells(50), sicks(50)...), withRepairs(failures...))
		require.Empty(t, admitted(Decide(in)))
		in.Nodes = append(wells(99), sick("real"))
		in.Now = noon.Add(4 * time.Minute)
		require.Equal(t, []string{"real"}, admitted(Decide(in)))
	})
}

func replaced(nodes []Node, name string) []Node {
	out := make([]Node, 0, len(nodes))
	for _, n := range nodes {
		if n.NodeClaim == name {
			n = node("new-" + name)
		}
		out = append(out, n)
	}
	return out
}
