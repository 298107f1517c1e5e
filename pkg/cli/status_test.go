package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestStatusPrints(t *testing.T) {
	for name, objects := range map[string][]client.Object{
		"storm": storm(),
		"quiet": quiet(),
		"empty": {},
	} {
		for _, format := range Formats {
			t.Run(name+" as "+format, func(t *testing.T) {
				got, err := newWorld(objects...).run(t, "status", "-o", format)
				require.NoError(t, err)
				requireGolden(t, "status/"+name+"."+format, got)
			})
		}
	}
}

// quiet is a cluster in which nothing is wrong.
func quiet() []client.Object {
	f := &fleet{}
	f.add(lease(time.Second), repairPolicy("default", nil), nodePool("default", "10%", nil))
	f.machines("default", 3)
	return f.objects
}

func TestStatusSaysWhenNoControllerIsAtWork(t *testing.T) {
	got, err := newWorld(lease(time.Hour)).run(t, "status")
	require.NoError(t, err)
	require.Contains(t, got, "Warning: no controller is at work (namespace kube-system, last heard of 60m ago): nothing is diagnosed or repaired, and what is shown is old")
}

func TestStatusKeepsToOneScreen(t *testing.T) {
	f := &fleet{}
	f.add(nodePool("default", "1", nil), repairPolicy("default", nil))
	for i := range 30 {
		f.machine("default", "n"+string(rune('a'+i%26))+string(rune('a'+i/26)), finding("InterfaceNotUp", "eth1", time.Hour))
	}
	short, err := newWorld(f.objects...).run(t, "status")
	require.NoError(t, err)
	require.Contains(t, short, "... and 18 more: --all shows them")
	all, err := newWorld(f.objects...).run(t, "status", "--all")
	require.NoError(t, err)
	require.NotContains(t, all, "more: --all")
	require.Greater(t, len(all), len(short))
}

func TestStatusColoursOnTerminalsOnly(t *testing.T) {
	failing := func() *world {
		return newWorld(append(quiet(), nodeRepair("r", "n", "default", func(r *v1alpha1.NodeRepair) { r.Status.Phase = v1alpha1.PhaseLettingGo }))...)
	}
	for name, test := range map[string]struct {
		terminal bool
		env      map[string]string
		want     bool
	}{
		"a file gets none":         {want: false},
		"a terminal gets them":     {terminal: true, want: true},
		"NO_COLOR is honoured":     {terminal: true, env: map[string]string{"NO_COLOR": "1"}, want: false},
		"so is a dumb terminal":    {terminal: true, env: map[string]string{"TERM": "dumb"}, want: false},
		"an empty NO_COLOR is not": {terminal: true, env: map[string]string{"NO_COLOR": ""}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := failing()
			w.Terminal, w.Getenv = test.terminal, func(key string) string { return test.env[key] }
			got, err := w.run(t, "status")
			require.NoError(t, err)
			if test.want {
				require.Contains(t, got, "\x1b[")
			} else {
				require.NotContains(t, got, "\x1b[")
			}
		})
	}
}

func TestNothingThatATerminalObeysComesThrough(t *testing.T) {
	f := &fleet{}
	f.add(nodePool("default", "1", nil), repairPolicy("default", nil))
	claim := f.machine("default", "a", finding("InterfaceNotUp", "\x1b[2Jeth1", time.Hour))
	setCondition(claim, v1alpha1.ConditionRepairBlocked, "Vetoed", "Vetoed: \x1b]0;owned\x07 by somebody")
	got, err := newWorld(f.objects...).run(t, "status", "-o", "wide")
	require.NoError(t, err)
	require.NotContains(t, got, "\x1b")
}
