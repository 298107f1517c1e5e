package diagnosis

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestFacts(t *testing.T) {
	net, gpu := v1alpha1.CategoryNetworking, v1alpha1.CategoryAcceleratedHardware
	unavailable := clusterSource(net)
	unavailable.State, unavailable.Message = v1alpha1.SourceUnavailable, "the API server does not answer"
	degraded := clusterSource(net)
	degraded.State = v1alpha1.SourceDegraded
	tests := map[string]struct {
		now    time.Duration
		health *v1alpha1.NodeHealth
		want   []Fact
	}{
		"nothing is said of a node that nothing watches": {},
		"a category that no source lists has no fact": {
			health: stating([]v1alpha1.Source{clusterSource()}),
		},
		"a source that finds nothing says healthy": {
			health: stating([]v1alpha1.Source{clusterSource(net)}),
			want:   []Fact{{net, metav1.ConditionTrue, "Healthy", "nothing found by cluster"}},
		},
		"a Fatal finding makes it False": {
			health: stating([]v1alpha1.Source{clusterSource(net)}, finding("InterfaceNotUp", 0, about("eth0"), saying("eth0 is down."))),
			want: []Fact{{
				net, metav1.ConditionFalse, "InterfaceNotUp",
				"InterfaceNotUp eth0 since 2026-01-02T10:00:00Z (Fatal, cluster): eth0 is down",
			}},
		},
		"a Warning never makes it False": {
			health: stating([]v1alpha1.Source{clusterSource(net)}, finding("ConntrackExceeded", 0, warning)),
			want: []Fact{{
				net, metav1.ConditionTrue, "ConntrackExceeded",
				"ConntrackExceeded since 2026-01-02T10:00:00Z (Warning, cluster)",
			}},
		},
		"the worst is the reason, and all are listed": {
			health: stating([]v1alpha1.Source{clusterSource(net)},
				finding("ConntrackExceeded", 0, warning),
				finding("MissingDefaultRoutes", 2*time.Minute),
				finding("InterfaceNotUp", time.Minute, about("eth1")),
				finding("InterfaceNotUp", time.Minute, about("eth0")),
			),
			want: []Fact{{
				net, metav1.ConditionFalse, "InterfaceNotUp",
				"InterfaceNotUp eth0 since 2026-01-02T10:01:00Z (Fatal, cluster); " +
					"InterfaceNotUp eth1 since 2026-01-02T10:01:00Z (Fatal, cluster); " +
					"MissingDefaultRoutes since 2026-01-02T10:02:00Z (Fatal, cluster); " +
					"ConntrackExceeded since 2026-01-02T10:00:00Z (Warning, cluster)",
			}},
		},
		"a finding in a category that its source does not list counts": {
			health: stating([]v1alpha1.Source{clusterSource()}, finding("InterfaceNotUp", 0)),
			want: []Fact{{
				net, metav1.ConditionFalse, "InterfaceNotUp", "InterfaceNotUp since 2026-01-02T10:00:00Z (Fatal, cluster)",
			}},
		},
		"a Degraded source is still believed": {
			health: stating([]v1alpha1.Source{degraded}, finding("InterfaceNotUp", 0)),
			want: []Fact{{
				net, metav1.ConditionFalse, "InterfaceNotUp", "InterfaceNotUp since 2026-01-02T10:00:00Z (Fatal, cluster)",
			}},
		},
		"the last word of a silent source is neither sick nor healthy": {
			now:    15 * time.Minute,
			health: stating([]v1alpha1.Source{agentSource(0)}, finding("InterfaceNotUp", 0, of("agent"))),
			want: []Fact{
				{net, metav1.ConditionUnknown, "SourceSilent",
					"source agent is silent since 2026-01-02T10:15:00Z (last heartbeat 2026-01-02T10:00:00Z); " +
						"last known: InterfaceNotUp since 2026-01-02T10:00:00Z (Fatal, agent)"},
				{gpu, metav1.ConditionUnknown, "SourceSilent",
					"source agent is silent since 2026-01-02T10:15:00Z (last heartbeat 2026-01-02T10:00:00Z)"},
			},
		},
		"a source that has missed two heartbeats is still believed": {
			now:    15*time.Minute - time.Second,
			health: stating([]v1alpha1.Source{agentSource(0)}, finding("InterfaceNotUp", 0, of("agent"))),
			want: []Fact{
				{net, metav1.ConditionFalse, "InterfaceNotUp", "InterfaceNotUp since 2026-01-02T10:00:00Z (Fatal, agent)"},
				{gpu, metav1.ConditionTrue, "Healthy", "nothing found by agent"},
			},
		},
		"a source that cannot see says nothing": {
			health: stating([]v1alpha1.Source{unavailable}, finding("InterfaceNotUp", 0)),
			want: []Fact{{
				net, metav1.ConditionUnknown, "SourceUnavailable", "source cluster cannot see: the API server does not answer; " +
					"last known: InterfaceNotUp since 2026-01-02T10:00:00Z (Fatal, cluster)",
			}},
		},
		"a finding of a source that nobody knows says nothing": {
			health: stating(nil, finding("InterfaceNotUp", 0)),
			want: []Fact{{
				net, metav1.ConditionUnknown, "SourceUnavailable", "source cluster does not say whether it can see; " +
					"last known: InterfaceNotUp since 2026-01-02T10:00:00Z (Fatal, cluster)",
			}},
		},
		"one source that sees is enough, and the silent one is named": {
			now:    time.Hour,
			health: stating([]v1alpha1.Source{agentSource(0), clusterSource(net, gpu)}, finding("InterfaceNotUp", 0, of("agent"))),
			want: []Fact{
				{net, metav1.ConditionTrue, "Healthy", "nothing found by cluster; " +
					"source agent is silent since 2026-01-02T10:15:00Z (last heartbeat 2026-01-02T10:00:00Z); " +
					"last known: InterfaceNotUp since 2026-01-02T10:00:00Z (Fatal, agent)"},
				{gpu, metav1.ConditionTrue, "Healthy", "nothing found by cluster; " +
					"source agent is silent since 2026-01-02T10:15:00Z (last heartbeat 2026-01-02T10:00:00Z)"},
			},
		},
		"what a person asks for is no fact": {
			health: stating([]v1alpha1.Source{clusterSource(v1alpha1.CategoryRequest)},
				finding("RepairRequested", 0, in(v1alpha1.CategoryRequest), about("Replace"))),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Compile(nil).Diagnose(at(tt.now), Subject{Health: tt.health})
			require.Equal(t, tt.want, got.Facts)
			if tt.health != nil {
				slices.Reverse(tt.health.Findings)
				slices.Reverse(tt.health.Sources)
				require.Equal(t, got, Compile(nil).Diagnose(at(tt.now), Subject{Health: tt.health}), "the order of what is stated must not matter")
			}
		})
	}
}
