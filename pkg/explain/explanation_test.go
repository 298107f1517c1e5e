package explain

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// reasonsOfDecision are the names of all blockers, read from the source.
func reasonsOfDecision(t *testing.T) []decision.BlockerReason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../decision/decision.go", nil, 0)
	require.NoError(t, err)
	var out []decision.BlockerReason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Blocker") || len(spec.Values) == 0 {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		require.True(t, ok)
		text, err := strconv.Unquote(literal.Value)
		require.NoError(t, err)
		out = append(out, decision.BlockerReason(text))
		return true
	})
	require.Greater(t, len(out), 20)
	return out
}

func TestOfEveryBlockerIsSaidWhoLiftsIt(t *testing.T) {
	for _, reason := range reasonsOfDecision(t) {
		require.NotEmpty(t, lifters[reason], reason)
	}
}

func TestWhoLiftsABlocker(t *testing.T) {
	at := start.Add(time.Hour)
	for name, test := range map[string]struct {
		blocker decision.Blocker
		want    string
	}{
		"one that somebody can lift at once":       {decision.Blocker{Reason: decision.BlockerTolerating, RetryAt: at, LiftedBy: "x"}, "time; at once, who may annotate Nodes"},
		"one of a node that somebody has asked of": {decision.Blocker{Reason: decision.BlockerTolerating, RetryAt: at}, "time"},
		"one that ends by itself too":              {decision.Blocker{Reason: decision.BlockerPaused, RetryAt: at, LiftedBy: "x"}, "time, or who may write RepairPolicies"},
		"one that does not":                        {decision.Blocker{Reason: decision.BlockerPaused, LiftedBy: "x"}, "who may write RepairPolicies"},
		"one that is new":                          {decision.Blocker{Reason: "New"}, "see the message"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, ExplainBlocker(test.blocker).Who)
		})
	}
}

// about is what is known of the NodeClaim "a" of a story.
func (s story) about(t *testing.T) (time.Time, About) {
	t.Helper()
	now := start.Add(s.now)
	if s.policies == nil {
		s.policies = []v1alpha1.RepairPolicy{defaultPolicy()}
	}
	if s.sources == nil {
		s.sources = []v1alpha1.Source{{Name: "node-conditions", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{
			v1alpha1.CategoryKernel, v1alpha1.CategoryNetworking, v1alpha1.CategoryKubelet,
		}}}
	}
	health := &v1alpha1.NodeHealth{Sources: s.sources, Findings: s.findings}
	if s.nothing {
		health = nil
	}
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "uid-a", CreationTimestamp: metav1.NewTime(start.Add(-time.Hour))}}
	claim.Status.NodeName = "node-a"
	about := About{NodeClaim: claim, Health: health, Diagnosis: diagnosis.Compile(s.policies).Diagnose(now, diagnosis.Subject{Name: "a", Health: health})}
	in := s.surroundings(now, about.Diagnosis)
	about.Entry = in.Nodes[0]
	about.Repairs = in.Repairs
	for _, d := range decision.Decide(in).Decisions {
		if d.Node.NodeClaim == "a" {
			about.Decision = &d
		}
	}
	return now, about
}

func TestStates(t *testing.T) {
	network := v1alpha1.Finding{
		Source: "node-conditions", Reason: "InterfaceNotUp", Subject: "eth0", Category: v1alpha1.CategoryNetworking, Severity: v1alpha1.SeverityFatal,
		Since: metav1.NewTime(start),
	}
	shown := defaultPolicy()
	for i := range shown.Spec.Rules {
		shown.Spec.Rules[i].Action = v1alpha1.ActionNone
	}
	for name, test := range map[string]struct {
		story story
		want  State
	}{
		"nobody watches":                         {story{nothing: true}, StateUnwatched},
		"nothing is found":                       {story{}, StateHealthy},
		"nobody can see":                         {story{sources: []v1alpha1.Source{{Name: "x", State: v1alpha1.SourceUnavailable, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}}}}, StateUnknown},
		"a fault is tolerated":                   {story{now: time.Minute, findings: []v1alpha1.Finding{network}}, StateTolerated},
		"a fault is only shown":                  {story{now: time.Hour, findings: []v1alpha1.Finding{network}, policies: []v1alpha1.RepairPolicy{shown}}, StateShownOnly},
		"a fault has nothing in the way":         {story{now: time.Hour, findings: []v1alpha1.Finding{network}}, StateAdmitted},
		"somebody has said no":                   {story{now: time.Hour, findings: []v1alpha1.Finding{network}, node: func(n *decision.Node) { n.Vetoes = []decision.Stop{{What: "x"}} }}, StateBlocked},
		"tolerated and said no to is said no to": {story{now: time.Minute, findings: []v1alpha1.Finding{network}, node: func(n *decision.Node) { n.Vetoes = []decision.Stop{{What: "x"}} }}, StateBlocked},
		"the node goes anyway":                   {story{now: time.Hour, findings: []v1alpha1.Finding{network}, node: func(n *decision.Node) { n.Deleting = true }}, StateLeaving},
		"a fault that no rule speaks of":         {story{now: time.Hour, findings: []v1alpha1.Finding{{Source: "node-conditions", Reason: "Odd", Category: v1alpha1.CategoryStorage, Severity: v1alpha1.SeverityFatal, Since: metav1.NewTime(start)}}}, StateBlocked},
	} {
		t.Run(name, func(t *testing.T) {
			now, about := test.story.about(t)
			e := Explain(now, about)
			require.Equal(t, test.want, e.State, e.Summary)
			require.NotEmpty(t, e.Summary)
			require.True(t, strings.HasSuffix(e.Summary, "."), e.Summary)
		})
	}
}

func TestWhatIsWrittenIsComparedWithWhatHolds(t *testing.T) {
	fault := v1alpha1.Finding{
		Source: "node-conditions", Reason: "InterfaceNotUp", Subject: "eth0", Category: v1alpha1.CategoryNetworking, Severity: v1alpha1.SeverityFatal,
		Since: metav1.NewTime(start),
	}
	write := func(now time.Time, about *About, change func([]metav1.Condition) []metav1.Condition) {
		for _, c := range change(Conditions(now, about.Diagnosis, about.Decision, nil)) {
			about.NodeClaim.Status.Conditions = append(about.NodeClaim.Status.Conditions, status.Condition(c))
		}
	}
	all := func(c []metav1.Condition) []metav1.Condition { return c }
	alive := &Controller{Namespace: "kube-system", Holder: "controller-0", Renewed: start.Add(time.Hour)}
	for name, test := range map[string]struct {
		write      func([]metav1.Condition) []metav1.Condition
		controller *Controller
		want       WrittenState
		differs    []string
		advice     string
	}{
		"all is written":                       {write: all, controller: alive, want: WrittenCurrent},
		"all is written, and nobody writes on": {write: all, controller: &Controller{Holder: "controller-0", Renewed: start}, want: WrittenCurrent, advice: "No controller is at work"},
		"nothing is written":                   {write: func([]metav1.Condition) []metav1.Condition { return nil }, controller: alive, want: WrittenNothing, advice: `see its log for "forbidden"`},
		"nothing is written, and nobody knows of a controller": {
			write: func([]metav1.Condition) []metav1.Condition { return nil }, want: WrittenNothing, advice: "If this stays, the controller does not run",
		},
		"something else is written": {
			write: func(c []metav1.Condition) []metav1.Condition { c[1].Reason = "Other"; return c }, controller: alive,
			want: WrittenDiffers, differs: []string{"autorepair.sh/NetworkingReady"}, advice: "The controller writes changes within seconds",
		},
		"more is written": {
			write: func(c []metav1.Condition) []metav1.Condition {
				return append(c, metav1.Condition{Type: "autorepair.sh/RepairBlocked", Status: metav1.ConditionTrue, Reason: "Paused"})
			}, controller: alive, want: WrittenDiffers, differs: []string{"autorepair.sh/RepairBlocked"}, advice: "is of another version",
		},
		"conditions of others are none of ours": {
			write: func(c []metav1.Condition) []metav1.Condition {
				return append(c, metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Ready"})
			}, controller: alive, want: WrittenCurrent,
		},
	} {
		t.Run(name, func(t *testing.T) {
			now, about := story{now: time.Hour, findings: []v1alpha1.Finding{fault}}.about(t)
			write(now, &about, test.write)
			about.Controller = test.controller
			w := Explain(now, about).Written
			require.Equal(t, test.want, w.State, "%+v", w.Differences)
			var differs []string
			for _, d := range w.Differences {
				differs = append(differs, d.Type)
			}
			if test.want != WrittenNothing {
				require.Equal(t, test.differs, differs)
			}
			if test.advice == "" {
				require.Empty(t, w.Advice)
			}
			require.Contains(t, w.Advice, test.advice)
		})
	}
}

func TestTheTimelineTellsOfRepairsOfTheNodeAndOfWhatItReplaced(t *testing.T) {
	at := func(minutes int) metav1.Time { return metav1.NewTime(start.Add(time.Duration(minutes) * time.Minute)) }
	repair := func(name, uid string, began int) v1alpha1.NodeRepair {
		r := v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: at(began)}}
		r.Spec.NodeClaim = v1alpha1.NodeClaimReference{Name: strings.TrimSuffix(name, "-1"), UID: "uid-" + "other"}
		if uid != "" {
			r.Spec.NodeClaim.UID = "uid-a"
		}
		r.Spec.Action, r.Spec.Cause.Reason = v1alpha1.ActionReplace, "X"
		return r
	}
	before := repair("old-1", "", -90)
	before.Status.Phase, before.Status.FinishedAt = v1alpha1.PhaseSucceeded, new(at(-50))
	before.Status.Replacements = []v1alpha1.ReplacementStatus{{NodeClaim: "a", Attempt: 1, CreatedAt: new(at(-60)), InitializedAt: new(at(-58))}}
	now, about := story{now: time.Hour}.about(t)
	own := repair("a-1", "a", 10)
	own.Status.Phase = v1alpha1.PhaseVerifying
	own.Status.Conditions = []metav1.Condition{
		{Type: v1alpha1.RepairConditionFenced, Status: metav1.ConditionTrue, LastTransitionTime: at(11)},
		{Type: v1alpha1.RepairConditionReleased, Status: metav1.ConditionTrue, LastTransitionTime: at(58)},
	}
	about.Repairs = []v1alpha1.NodeRepair{own, before, repair("foreign-1", "", 0)}
	e := Explain(now, about)
	var told []string
	for _, m := range e.Timeline {
		told = append(told, m.At.UTC().Format("15:04")+" "+m.Repair+" "+m.What)
	}
	require.Equal(t, []string{
		`08:30 old-1 repair began of NodeClaim old, which this one replaces: Replace for X (rule "" of RepairPolicy "")`,
		"09:00  NodeClaim a was made",
		"09:00 old-1 replacement a was made (attempt 1)",
		"09:02 old-1 replacement a was ready for use",
		"09:10 old-1 repair succeeded",
		`10:10 a-1 repair began: Replace for X (rule "" of RepairPolicy "")`,
		"10:11 a-1 the node was fenced off from new pods",
		"10:58 a-1 the protection was lifted, and the proof began",
	}, told)
	require.Equal(t, StateRepairing, e.State)
	require.Len(t, e.Next, 1)
	require.Equal(t, "proved healthy, if nothing Fatal is found until then", e.Next[0].What)
	require.Equal(t, start.Add(63*time.Minute), e.Next[0].At.Time)
}
