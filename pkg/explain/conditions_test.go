package explain

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/test/golden"
)

var start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

// story of the NodeClaim "a", told by what is found on it, the policies, and what surrounds it.
type story struct {
	now      time.Duration // after the start
	findings []v1alpha1.Finding
	policies []v1alpha1.RepairPolicy // the default one where nil
	node     func(*decision.Node)
	pool     func(*karpv1.NodePool)
	input    func(*decision.Input)
	repair   *v1alpha1.NodeRepair
	// undecided: no decision has been made yet.
	undecided bool
	sources   []v1alpha1.Source // one of the cluster where nil
	nothing   bool              // nothing watches the node
}

func (s story) tell() []metav1.Condition {
	now := start.Add(s.now)
	if s.policies == nil {
		s.policies = []v1alpha1.RepairPolicy{defaultPolicy()}
	}
	if s.sources == nil {
		s.sources = []v1alpha1.Source{{Name: "node-conditions", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{
			v1alpha1.CategoryKernel, v1alpha1.CategoryNetworking, v1alpha1.CategoryKubelet,
		}}}
	}
	subject := diagnosis.Subject{Name: "a", Health: &v1alpha1.NodeHealth{Sources: s.sources, Findings: s.findings}}
	if s.nothing {
		subject.Health = nil
	}
	d := diagnosis.Compile(s.policies).Diagnose(now, subject)
	if s.undecided {
		return Conditions(now, d, nil, s.repair)
	}
	in := s.surroundings(now, d)
	for _, dec := range decision.Decide(in).Decisions {
		if dec.Node.NodeClaim == "a" {
			return Conditions(now, d, &dec, s.repair)
		}
	}
	return Conditions(now, d, nil, s.repair)
}

func (s story) surroundings(now time.Time, d diagnosis.Diagnosis) decision.Input {
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	pool.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "1", Reasons: []karpv1.DisruptionReason{karpv1.DisruptionReasonUnhealthy}}}
	pool.StatusConditions().SetTrue(karpv1.ConditionTypeValidationSucceeded)
	pool.StatusConditions().SetTrue(karpv1.ConditionTypeNodeClassReady)
	if s.pool != nil {
		s.pool(pool)
	}
	node := decision.Node{
		NodeClaim: "a", NodeClaimUID: "uid-a", NodeName: "node-a", NodePool: "default",
		Initialized: true, ReschedulablePods: 2, ProviderReboots: true, Verdict: d.Verdict,
	}
	if s.node != nil {
		s.node(&node)
	}
	in := decision.Input{
		Now: now, Nodes: []decision.Node{node}, NodePools: map[string]decision.NodePool{"default": {Object: pool}},
		Karpenter: decision.Karpenter{Version: "1.15.0", HonoursDoNotRepair: true, RebootSupported: true},
	}
	if s.repair != nil {
		in.Repairs = append(in.Repairs, *s.repair)
	}
	if s.input != nil {
		s.input(&in)
	}
	return in
}

func defaultPolicy() v1alpha1.RepairPolicy {
	return v1alpha1.RepairPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec: v1alpha1.RepairPolicySpec{Rules: []v1alpha1.RepairRule{
			{
				Name: "network", Match: v1alpha1.FindingMatch{Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}},
				Tolerate: metav1.Duration{Duration: 10 * time.Minute}, Action: v1alpha1.ActionReplace,
				DrainBound: &metav1.Duration{Duration: 30 * time.Minute},
			},
			{
				Name: "kubelet", Match: v1alpha1.FindingMatch{Categories: []v1alpha1.Category{v1alpha1.CategoryKubelet}},
				Tolerate: metav1.Duration{Duration: 30 * time.Minute}, Action: v1alpha1.ActionReboot,
			},
		}},
	}
}

func inMode(mode v1alpha1.Mode) []v1alpha1.RepairPolicy {
	p := defaultPolicy()
	p.Spec.Mode = mode
	return []v1alpha1.RepairPolicy{p}
}

func down(subject string) v1alpha1.Finding {
	return v1alpha1.Finding{
		Source: "node-conditions", Reason: "InterfaceNotUp", Subject: subject, Category: v1alpha1.CategoryNetworking,
		Severity: v1alpha1.SeverityFatal, Since: metav1.NewTime(start), Message: subject + " is administratively down",
	}
}

func notReady() v1alpha1.Finding {
	return v1alpha1.Finding{
		Source: "node-conditions", Reason: "NodeNotReady", Category: v1alpha1.CategoryKubelet, Severity: v1alpha1.SeverityFatal,
		Since: metav1.NewTime(start.Add(time.Minute)), Message: "container runtime is down",
	}
}

func repairIn(phase v1alpha1.Phase, message string) *v1alpha1.NodeRepair {
	return &v1alpha1.NodeRepair{
		ObjectMeta: metav1.ObjectMeta{Name: "a-x1"},
		Spec:       v1alpha1.NodeRepairSpec{NodeClaim: v1alpha1.NodeClaimReference{Name: "a", UID: "uid-a"}, NodePool: "default", Action: v1alpha1.ActionReplace},
		Status:     v1alpha1.NodeRepairStatus{Phase: phase, Message: message},
	}
}

func rebootIn(phase v1alpha1.Phase, message string) *v1alpha1.NodeRepair {
	r := repairIn(phase, message)
	r.Spec.Action = v1alpha1.ActionReboot
	return r
}

func reboots(in *decision.Input) { in.ExecutorReboots = true }

// rebootedBefore is a reboot of the node that did not help.
func rebootedBefore(name string) v1alpha1.NodeRepair {
	r := rebootIn(v1alpha1.PhaseFailed, "the reboot did not help")
	r.Name, r.CreationTimestamp, r.Status.FinishedAt = name, metav1.NewTime(start), new(metav1.NewTime(start))
	return *r
}

var stories = map[string]story{
	"nothing-watches":        {nothing: true},
	"healthy":                {},
	"tolerating":             {now: time.Minute, findings: []v1alpha1.Finding{down("eth0")}},
	"tolerating-undecided":   {now: time.Minute, findings: []v1alpha1.Finding{down("eth0")}, undecided: true},
	"unhealthy-undecided":    {now: 10 * time.Minute, findings: []v1alpha1.Finding{down("eth0")}, undecided: true},
	"admitted":               {now: 10 * time.Minute, findings: []v1alpha1.Finding{down("eth0")}},
	"several-findings":       {now: 10 * time.Minute, findings: []v1alpha1.Finding{down("eth0"), down("eth1"), notReady()}},
	"reboot-becomes-replace": {now: time.Hour, findings: []v1alpha1.Finding{notReady()}},
	"reboot-admitted":        {now: time.Hour, findings: []v1alpha1.Finding{notReady()}, input: reboots},
	"reboot-unknown-provider": {
		now: time.Hour, findings: []v1alpha1.Finding{notReady()}, input: reboots, node: func(n *decision.Node) { n.ProviderReboots = false },
	},
	"reboot-escalated": {now: 2 * time.Hour, findings: []v1alpha1.Finding{notReady()}, input: func(in *decision.Input) {
		reboots(in)
		in.Repairs = append(in.Repairs, rebootedBefore("a-1"), rebootedBefore("a-2"))
	}},
	"reboot-committed":  {now: time.Hour, findings: []v1alpha1.Finding{notReady()}, repair: rebootIn("", "")},
	"reboot-last-look":  {now: time.Hour, findings: []v1alpha1.Finding{notReady()}, repair: rebootIn(v1alpha1.PhaseWaiting, "")},
	"reboot-drains":     {now: time.Hour, findings: []v1alpha1.Finding{notReady()}, repair: rebootIn(v1alpha1.PhaseRebooting, "Karpenter drains the node before it is rebooted; PodDisruptionBudgets are honoured until 2026-01-02T11:30:00Z")},
	"reboot-too-late":   {now: time.Hour, repair: rebootIn(v1alpha1.PhaseRebooting, "the node reboots; Karpenter waits up to 20m0s for it, and deletes the NodeClaim if it does not come back. It cannot be stopped any more: Recovered: the node has no Fatal finding any more that can be trusted")},
	"reboot-releasing":  {now: time.Hour, repair: rebootIn(v1alpha1.PhaseReleasing, "")},
	"reboot-verifying":  {now: time.Hour, repair: rebootIn(v1alpha1.PhaseVerifying, "")},
	"reboot-letting-go": {now: time.Hour, repair: rebootIn(v1alpha1.PhaseLettingGo, "")},
	"backoff-one-a-time": {now: time.Hour, findings: []v1alpha1.Finding{down("eth0")}, input: func(in *decision.Input) {
		failed, atWork := repairIn(v1alpha1.PhaseFailed, "the replacement turned sick"), repairIn(v1alpha1.PhaseVerifying, "")
		failed.Spec.NodeClaim, atWork.Spec.NodeClaim = v1alpha1.NodeClaimReference{Name: "b", UID: "b"}, v1alpha1.NodeClaimReference{Name: "c", UID: "c"}
		failed.Status.FinishedAt = new(metav1.NewTime(start.Add(50 * time.Minute)))
		in.Repairs = append(in.Repairs, *failed, *atWork)
	}},
	"replacements-failed": {now: 3 * time.Hour, findings: []v1alpha1.Finding{down("eth0")}, input: func(in *decision.Input) {
		for i := range 3 {
			failed := repairIn(v1alpha1.PhaseFailed, "the replacement turned sick")
			failed.Name, failed.Status.FinishedAt = fmt.Sprint("a-", i), new(metav1.NewTime(start.Add(time.Duration(i)*10*time.Minute)))
			in.Repairs = append(in.Repairs, *failed)
		}
	}},
	"no-policy":      {now: time.Hour, findings: []v1alpha1.Finding{down("eth0")}, policies: []v1alpha1.RepairPolicy{}, undecided: true},
	"policy-paused":  {now: time.Hour, findings: []v1alpha1.Finding{down("eth0")}, policies: inMode(v1alpha1.ModePaused)},
	"policy-dry-run": {now: time.Hour, findings: []v1alpha1.Finding{down("eth0")}, policies: inMode(v1alpha1.ModeDryRun)},
	"policy-conflict": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		policies: []v1alpha1.RepairPolicy{defaultPolicy(), func() v1alpha1.RepairPolicy { p := defaultPolicy(); p.Name = "other"; return p }()},
	},
	"policy-invalid": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		policies: []v1alpha1.RepairPolicy{func() v1alpha1.RepairPolicy {
			p := defaultPolicy()
			p.Spec.Rules[0].Match.ReasonPattern = "Interface("
			p.Spec.Rules[1].Tolerate.Duration = 0
			return p
		}()},
	},
	"budget-exhausted": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		input: func(in *decision.Input) {
			in.Nodes = append(in.Nodes, decision.Node{NodeClaim: "b", NodeClaimUID: "uid-b", NodeName: "node-b", NodePool: "default", Initialized: true, Deleting: true})
		},
	},
	"budget-window-closed": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		pool: func(p *karpv1.NodePool) {
			p.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "0", Schedule: new("0 9 * * mon-fri"), Duration: &metav1.Duration{Duration: 8 * time.Hour}}}
		},
	},
	"budget-invalid": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		pool: func(p *karpv1.NodePool) {
			p.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "1", Schedule: new("at noon"), Duration: &metav1.Duration{Duration: 8 * time.Hour}}}
		},
	},
	"veto": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		node: func(n *decision.Node) {
			n.Vetoes = []decision.Stop{{What: "annotation karpenter.sh/do-not-repair on Node node-a", By: "kubectl-annotate", LiftedBy: "kubectl annotate node node-a karpenter.sh/do-not-repair-"}}
		},
	},
	"policy-paused-until": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		policies: func() []v1alpha1.RepairPolicy {
			p := inMode(v1alpha1.ModePaused)
			p[0].Spec.PausedUntil = start.Add(2 * time.Hour).UTC().Format(time.RFC3339)
			return p
		}(),
	},
	"all-paused": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		input: func(in *decision.Input) {
			in.Pauses = []decision.Stop{{
				What: `RepairPause "upgrade"`, By: "kubectl-create at 2026-01-02T10:30:00Z", Why: "network upgrade, ask the platform team",
				Until: start.Add(2 * time.Hour), LiftedBy: "kubectl delete repairpause upgrade",
			}}
		},
	},
	"pool-paused-without-end": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		input: func(in *decision.Input) {
			pool := in.NodePools["default"]
			pool.Pauses = []decision.Stop{{
				What: "annotation autorepair.sh/pause on NodePool default", By: "kubectl-annotate at 2026-01-02T10:30:00Z",
				Problem:  `its value "tonight" is neither "true" nor a time, so it has no end: write for example "2030-01-31T18:00:00Z"`,
				LiftedBy: "kubectl annotate nodepool default autorepair.sh/pause-",
			}}
			in.NodePools["default"] = pool
		},
	},
	"too-late-to-stop": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		repair: repairIn(v1alpha1.PhaseTerminating, `cannot be stopped any more: the NodeClaim is deleted and its node is terminating (AllPaused: all repairs are stopped by RepairPause "stop"); Karpenter drains the node; PodDisruptionBudgets are honoured until 2026-01-02T11:15:00Z`),
	},
	"pool-static": {now: time.Hour, findings: []v1alpha1.Finding{down("eth0")}, pool: func(p *karpv1.NodePool) { p.Spec.Replicas = new(int64(3)) }},
	"standalone":  {now: time.Hour, findings: []v1alpha1.Finding{down("eth0")}, node: func(n *decision.Node) { n.NodePool = "" }},
	"pods-blocked": {
		now: time.Hour, findings: []v1alpha1.Finding{notReady()},
		node: func(n *decision.Node) {
			n.PodBlockers = []string{"PodDisruptionBudget shop/cart allows no disruption of shop/cart-0"}
		},
	},
	"several-blockers": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")}, policies: inMode(v1alpha1.ModePaused),
		node: func(n *decision.Node) {
			n.Vetoes = []decision.Stop{{What: "annotation karpenter.sh/do-not-repair on Node node-a", By: "kubectl-annotate", LiftedBy: "kubectl annotate node node-a karpenter.sh/do-not-repair-"}}
		},
		pool: func(p *karpv1.NodePool) { p.Spec.Disruption.Budgets[0].Nodes = "0" },
	},
	"repairing": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		repair: repairIn(v1alpha1.PhaseWaiting, "waiting for NodeClaim default-x to become Initialized, until 2026-01-02T11:15:00Z"),
	},
	"repairing-just-committed":  {now: time.Hour, findings: []v1alpha1.Finding{down("eth0")}, repair: repairIn("", "")},
	"recovered-while-repairing": {now: time.Hour, repair: repairIn(v1alpha1.PhaseLettingGo, "")},
	"repair-failed":             {now: time.Hour, findings: []v1alpha1.Finding{down("eth0")}, repair: repairIn(v1alpha1.PhaseFailed, "no replacement came up")},
	"requested": {
		now: time.Minute,
		findings: []v1alpha1.Finding{{
			Source: "node-conditions", Reason: "RepairRequested", Subject: "Replace", Category: v1alpha1.CategoryRequest,
			Severity: v1alpha1.SeverityFatal, Since: metav1.NewTime(start), Message: "annotation autorepair.sh/repair on Node node-a",
		}},
	},
	"source-silent": {
		now: time.Hour, findings: []v1alpha1.Finding{down("eth0")},
		sources: []v1alpha1.Source{{
			Name: "node-conditions", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking},
			LastHeartbeat: new(metav1.NewTime(start)), HeartbeatInterval: &metav1.Duration{Duration: 5 * time.Minute},
		}},
	},
}

func TestConditions(t *testing.T) {
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			golden.Require(t, filepath.Join("testdata", name+".txt"), string(render(s.tell())))
		})
	}
}

func TestEveryGoldenFileHasItsStory(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	for _, file := range files {
		require.Contains(t, stories, strings.TrimSuffix(filepath.Base(file), ".txt"))
	}
}

// Time alone changes nothing that is written, but at the moments that a diagnosis or decision names.
func TestMessagesDoNotAge(t *testing.T) {
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			later := s
			later.now += 5 * time.Second
			require.Equal(t, s.tell(), later.tell())
		})
	}
}

func TestAnOldDecisionDoesNotContradictTheDiagnosis(t *testing.T) {
	now := start.Add(10 * time.Minute)
	policies := diagnosis.Compile([]v1alpha1.RepairPolicy{defaultPolicy()})
	sick := story{findings: []v1alpha1.Finding{down("eth0")}}
	health := &v1alpha1.NodeHealth{
		Sources:  []v1alpha1.Source{{Name: "node-conditions", State: v1alpha1.SourceActive}},
		Findings: sick.findings,
	}
	early := policies.Diagnose(start, diagnosis.Subject{Name: "a", Health: health})
	sick.node = func(n *decision.Node) { n.Vetoes = []decision.Stop{{What: "annotation"}} }
	old := decision.Decide(sick.surroundings(start, early)).Decisions[0]
	require.Equal(t, decision.BlockerTolerating, old.Blockers[0].Reason)

	past := find(Conditions(now, policies.Diagnose(now, diagnosis.Subject{Name: "a", Health: health}), &old, nil), v1alpha1.ConditionRepairBlocked)
	require.Equal(t, "Vetoed", past.Reason, "the toleration has passed since the decision")

	health.Findings = nil
	cured := Conditions(now, policies.Diagnose(now, diagnosis.Subject{Name: "a", Health: health}), &old, nil)
	require.Nil(t, find(cured, v1alpha1.ConditionRepairBlocked), "the fault has gone since the decision")
	require.Nil(t, find(cured, v1alpha1.ConditionUnhealthy))
}

func TestMessagesAreBounded(t *testing.T) {
	long := decision.Decision{Blockers: []decision.Blocker{{Reason: decision.BlockerUnreadable, Message: strings.Repeat("ä", maxMessage+1)}}}
	d := diagnosis.Compile([]v1alpha1.RepairPolicy{defaultPolicy()}).Diagnose(start.Add(time.Hour), diagnosis.Subject{Health: &v1alpha1.NodeHealth{
		Sources: []v1alpha1.Source{{Name: "node-conditions", State: v1alpha1.SourceActive}}, Findings: []v1alpha1.Finding{down("eth0")},
	}})
	got := find(Conditions(start.Add(time.Hour), d, &long, nil), v1alpha1.ConditionRepairBlocked)
	require.Len(t, []rune(got.Message), maxMessage)
	require.True(t, strings.HasSuffix(got.Message, "ä…"))
}

func find(conditions []metav1.Condition, conditionType string) *metav1.Condition {
	for i := range conditions {
		if conditions[i].Type == conditionType {
			return &conditions[i]
		}
	}
	return nil
}

func render(conditions []metav1.Condition) []byte {
	var out bytes.Buffer
	for _, c := range conditions {
		fmt.Fprintf(&out, "%s %s %s\n", c.Type, c.Status, c.Reason)
		for line := range strings.Lines(c.Message) {
			fmt.Fprintf(&out, "    %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	return out.Bytes()
}
