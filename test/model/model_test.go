// Package model lets the real controllers live through random misfortunes beside a small model of Karpenter, in an API
// in memory and a time of its own, and watches over what is promised. See designs/0008-model.md.
package model

import (
	"flag"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/log"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestMain(m *testing.M) {
	log.SetLogger(log.Log.WithSink(log.NullLogSink{}))
	m.Run()
}

func TestPromisesHoldWhateverHappens(t *testing.T) {
	seen := map[string]int{}
	t.Cleanup(func() { shortenFailed(t) })
	rapid.Check(t, func(t *rapid.T) {
		s := script{Setup: drawSetup(t), Steps: drawSteps(t)}
		w, err := s.run()
		if err != nil {
			t.Fatalf("%s\n%s", err, s.record("testdata", err))
		}
		w.tally(seen)
	})
	// A model in which nothing happens proves nothing.
	t.Logf("%v", seen)
	for _, what := range []string{"Succeeded", "deletes", "crashes"} {
		require.Positive(t, seen[what], what)
	}
}

// shortenFailed goes on where rapid's time for it has ended.
func shortenFailed(t *testing.T) {
	s, err := read(filepath.Join("testdata", failedFile))
	if !t.Failed() || err != nil {
		return
	}
	s = s.shortened()
	if _, err := s.run(); err != nil {
		t.Logf("%s\n%s", err, s.record("testdata", err))
	}
}

// tally adds what a run has seen.
func (w *world) tally(seen map[string]int) {
	for _, r := range all[v1alpha1.NodeRepair](w.api.objects) {
		seen[string(r.Status.Phase)]++
	}
	seen["withdrawals"] += w.seen.withdrawals
	seen["deletes"] += w.seen.deletes
	seen["crashes"] += w.seen.crashes
	for loop, n := range w.reconciled {
		seen[loop] += n
	}
}

// Every replacement of a wave is sick too, or does not come up, for more than two hours.
func TestLaunchesAreFewWhereEveryReplacementFails(t *testing.T) {
	fewer(t, 5)
	t.Cleanup(func() { shortenFailed(t) })
	rapid.Check(t, func(t *rapid.T) {
		s := script{Setup: drawSetup(t)}
		fault := rapid.SampledFrom([]step{{Do: "calm"}, {Do: "launch", To: "never"}, {Do: "launch", To: "refused"}, {Do: "initialize", To: "never"}}).Draw(t, "fault")
		s.Steps = []step{{Do: "wave", To: rapid.SampledFrom([]string{"", "a"}).Draw(t, "zone")}, passing(80 * time.Minute), fault, passing(80 * time.Minute)}
		if _, err := s.run(); err != nil {
			t.Fatalf("%s\n%s", err, s.record("testdata", err))
		}
	})
}

// The process ends at each write of a repair in turn, before it lands and before its answer comes; the replacement is
// adopted, and the repair goes on or is let go.
func TestACrashAtAnyWriteBreaksNoPromise(t *testing.T) {
	for k := 1; k <= 25; k++ {
		for _, lost := range []bool{false, true} {
			s := script{Setup: setup{Pools: []pool{{Nodes: 2, Pods: 2, Budget: "1"}}, Policy: policy{
				Tolerate: metav1.Duration{Duration: time.Second}, VerifyFor: metav1.Duration{Duration: time.Minute}, Attempts: 2,
			}}, Steps: []step{{Do: "crash", Writes: k, Lost: lost}, {Do: "sicken", To: "kernel"}, passing(20 * time.Minute)}}
			w, err := s.run()
			require.NoError(t, err, "write %d, answer lost: %t", k, lost)
			require.Equal(t, 1, w.seen.deletes)
			require.Len(t, all[karpv1.NodeClaim](w.api.objects), 2, "write %d, answer lost: %t", k, lost)
		}
	}
}

// The clock of our controller's machine is set an hour ahead or back before each write of a repair in turn.
func TestAClockThatStepsAtAnyWriteBreaksNoPromise(t *testing.T) {
	for k := 1; k <= 25; k++ {
		for _, by := range []time.Duration{time.Hour, -time.Hour} {
			s := script{Setup: setup{Pools: []pool{{Nodes: 3, Pods: 3, Budget: "1"}}, Policy: policy{
				Tolerate: metav1.Duration{Duration: time.Second}, VerifyFor: metav1.Duration{Duration: time.Minute}, Attempts: 2, MaxUnhealthy: "100%",
			}}, Steps: []step{
				{Do: "race", Writes: k, Then: &step{Do: "clock", For: &metav1.Duration{Duration: by}}},
				{Do: "sicken", To: "kernel"}, {Do: "sicken", Node: 1, To: "kernel"}, passing(3 * time.Hour),
			}}
			w, err := s.run()
			require.NoError(t, err, "by %s at write %d", by, k)
			require.False(t, w.steppedAt.IsZero(), "too few writes for this to mean anything: %d", k)
			require.Equal(t, 2, w.seen.deletes, "by %s at write %d: each node is deleted once", by, k)
			require.Len(t, all[karpv1.NodeClaim](w.api.objects), 3, "by %s at write %d: and replaced once", by, k)
		}
	}
}

// What once went wrong, or nearly, is played again.
func TestReplay(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(paths), 3)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			s, err := read(path)
			require.NoError(t, err)
			_, err = s.run()
			require.NoError(t, err, s.Why)
		})
	}
}

func passing(d time.Duration) step { return step{Do: "pass", For: &metav1.Duration{Duration: d}} }

func drawSetup(t *rapid.T) setup {
	s := setup{Consolidate: rapid.Bool().Draw(t, "consolidate")}
	for range rapid.IntRange(1, 2).Draw(t, "pools") {
		p := pool{Nodes: rapid.IntRange(1, 6).Draw(t, "nodes")}
		p.Pods = rapid.IntRange(0, p.Nodes).Draw(t, "pods")
		p.Budget = drawBudget(t)
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			p.Limit = p.Nodes + rapid.IntRange(0, 1).Draw(t, "spare")
		case 1:
			p.Static = true
		}
		s.Pools = append(s.Pools, p)
	}
	s.Policy = policy{
		Tolerate:       *drawDuration(t, "tolerate", time.Second, 10*time.Second, time.Minute),
		VerifyFor:      *drawDuration(t, "verifyFor", time.Minute, 5*time.Minute),
		Attempts:       rapid.Int32Range(1, 3).Draw(t, "attempts"),
		TerminateFirst: rapid.Bool().Draw(t, "terminateFirst"),
		MaxUnhealthy:   rapid.SampledFrom([]string{"", "", "100%", "1"}).Draw(t, "maxUnhealthy"),
	}
	if rapid.Bool().Draw(t, "bounded") {
		s.Policy.DrainBound = drawDuration(t, "drainBound", time.Minute, 5*time.Minute)
	}
	return s
}

func drawBudget(t *rapid.T) string {
	return rapid.SampledFrom([]string{"1", "2", "50%", "100%", "20%", "3", "", "scheduled", "0", "invalid"}).Draw(t, "budget")
}

func drawDuration(t *rapid.T, label string, of ...time.Duration) *metav1.Duration {
	return &metav1.Duration{Duration: rapid.SampledFrom(of).Draw(t, label)}
}

// drawEnd draws how long a stop holds, mostly; nil for one that has no end.
func drawEnd(t *rapid.T) *metav1.Duration {
	if rapid.IntRange(0, 2).Draw(t, "without end") == 0 {
		return nil
	}
	return drawDuration(t, "for", 7*time.Second, time.Minute, 10*time.Minute)
}

// kinds of steps, the common ones more often than the others.
var kinds = map[string]int{
	"pass": 12, "sicken": 5, "heal": 3, "race": 8, "crash": 6, "lag": 4, "karpenter": 2,
	"drift": 3, "template": 3, "expire": 2, "delete": 2, "protect": 3, "veto": 2, "unveto": 2, "blind": 1, "see": 1,
	"launch": 4, "initialize": 4, "wave": 1, "calm": 2, "pdb": 2, "budget": 2,
	"mode": 2, "tolerate": 1, "drainBound": 1, "strategy": 1, "conflict": 1,
	"pause": 2, "unpause": 2, "pausePool": 1, "unpausePool": 1, "keep": 1, "clock": 1,
}

var kindsByWeight = func() (out []string) {
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		for range kinds[kind] {
			out = append(out, kind)
		}
	}
	return out
}()

// drawSteps draws scenes: a node turns sick, and then things happen.
func drawSteps(t *rapid.T) []step {
	scene := rapid.Custom(func(t *rapid.T) []step {
		return append([]step{drawOf(t, "sicken")}, rapid.SliceOfN(rapid.Custom(drawStep), 0, 10).Draw(t, "then")...)
	})
	return slices.Concat(rapid.SliceOfN(scene, 1, 10).Draw(t, "scenes")...)
}

// racing are the steps that may come between two writes of ours.
var racing = []string{"heal", "veto", "expire", "delete", "drift", "mode", "budget", "swap", "sicken", "protect", "pause", "pausePool", "keep", "clock"}

func drawStep(t *rapid.T) step { return drawOf(t, rapid.SampledFrom(kindsByWeight).Draw(t, "do")) }

func drawOf(t *rapid.T, do string) step {
	s := step{Do: do}
	pick := func(values ...string) string { return rapid.SampledFrom(values).Draw(t, "to") }
	if _, ok := onNode[do]; ok {
		if s.Node = rapid.IntRange(0, 11).Draw(t, "node"); do != "sicken" && rapid.Bool().Draw(t, "of the sick") {
			s.Node = -1
		}
	}
	switch do {
	case "sicken":
		s.To = pick("kernel", "notready")
	case "clock":
		s.For = drawDuration(t, "by", time.Hour, -time.Hour, 7*time.Minute, -7*time.Minute)
	case "pass":
		s.For = drawDuration(t, "for", time.Second, 5*time.Second, 10*time.Second, 20*time.Second, 45*time.Second, 2*time.Minute, 10*time.Minute)
	case "wave":
		s.To = pick("", "a", "b")
	case "calm":
		s.To = pick("", "heal")
	case "launch":
		s.To = pick("", "", "slow", "never", "refused")
	case "initialize":
		s.To = pick("", "", "slow", "never")
	case "protect":
		s.To = pick("true", "", "no")
	case "mode":
		s.To = pick("Enforce", "Enforce", "Enforce", "Paused", "DryRun")
		if s.To == "Paused" {
			s.For = drawEnd(t)
		}
	case "pause", "keep":
		s.For = drawEnd(t)
	case "pausePool", "unpausePool":
		if s.Pool = rapid.IntRange(0, 1).Draw(t, "pool"); do == "pausePool" {
			s.For = drawEnd(t)
		}
	case "tolerate", "drainBound":
		s.For = drawDuration(t, "for", time.Second, time.Minute, 10*time.Minute)
	case "strategy":
		s.To = pick("ReplaceFirst", "TerminateFirstWhereNeeded")
	case "conflict", "pdb":
		s.To = pick("on", "off", "off", "off")
	case "budget":
		s.To, s.Pool = drawBudget(t), rapid.IntRange(0, 1).Draw(t, "pool")
	case "crash":
		s.Writes, s.Lost = rapid.IntRange(1, 12).Draw(t, "writes"), rapid.Bool().Draw(t, "lost")
	case "lag":
		s.For = drawDuration(t, "for", 500*time.Millisecond, 1500*time.Millisecond)
	case "race":
		s.Writes = rapid.IntRange(1, 12).Draw(t, "writes")
		s.Then = &step{Do: "swap"}
		if then := rapid.SampledFrom(racing).Draw(t, "then"); then != "swap" {
			*s.Then = drawOf(t, then)
		}
	}
	return s
}

// Without this no failure could be played again.
func TestARunIsTheSameEachTime(t *testing.T) {
	s, err := read("testdata/protected-while-fenced.yaml")
	require.NoError(t, err)
	s.Steps = append(s.Steps, step{Do: "crash", Writes: 3}, step{Do: "wave"}, passing(30*time.Minute))
	first, err := s.run()
	require.NoError(t, err)
	for range 3 {
		again, err := s.run()
		require.NoError(t, err)
		require.Equal(t, first.reconciled, again.reconciled)
		require.Equal(t, first.api.objects, again.api.objects)
	}
}

// fewer lets a test that takes long check less often: rapid has one number for all.
func fewer(t *testing.T, oneIn int) {
	checks := flag.Lookup("rapid.checks").Value
	before := checks.String()
	n, err := strconv.Atoi(before)
	require.NoError(t, err)
	require.NoError(t, checks.Set(strconv.Itoa(max(1, n/oneIn))))
	t.Cleanup(func() { require.NoError(t, checks.Set(before)) })
}
