package cli

import (
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// withKarpenter adds the Deployment of Karpenter, 1.15 with its own repair off, to a cluster.
func withKarpenter(objects []client.Object) []client.Object {
	return append(objects, karpenterDeployment())
}

// told is a cluster in which the controller has written what holds on the NodeClaim, by a first explanation.
func told(t *testing.T, name string, objects []client.Object) []client.Object {
	t.Helper()
	w := newWorld(objects...)
	p, err := w.look(t.Context(), &source{})
	require.NoError(t, err)
	e, err := p.explain(t.Context(), name)
	require.NoError(t, err)
	for _, object := range objects {
		claim, ok := object.(*karpv1.NodeClaim)
		if !ok || claim.Name != e.NodeClaim {
			continue
		}
		var kept []status.Condition
		for _, c := range claim.Status.Conditions {
			if c.Type[0] >= 'A' && c.Type[0] <= 'Z' { // Karpenter's
				kept = append(kept, c)
			}
		}
		claim.Status.Conditions = kept
		for _, d := range e.Written.Differences {
			if d.Now != nil {
				claim.Status.Conditions = append(claim.Status.Conditions, status.Condition{
					Type: d.Type, Status: d.Now.Status, Reason: d.Now.Reason, Message: d.Now.Message, LastTransitionTime: ago(time.Minute),
				})
			}
		}
	}
	return objects
}

func TestExplainPrints(t *testing.T) {
	for name, test := range map[string]struct {
		node    string
		objects func(*testing.T) []client.Object
	}{
		"healthy":   {node: "ip-10-0-0-9", objects: func(*testing.T) []client.Object { return oneNode() }},
		"tolerated": {node: "ip-10-0-0-3", objects: func(*testing.T) []client.Object { return withKarpenter(storm()) }},
		"blocked": {node: "ip-10-0-0-2", objects: func(*testing.T) []client.Object {
			return withKarpenter(storm())
		}},
		"told": {node: "ip-10-0-0-2", objects: func(t *testing.T) []client.Object {
			f := &fleet{}
			f.add(lease(3*time.Second), repairPolicy("default", nil), nodePool("default", "0", nil))
			f.machines("default", 6)
			f.machine("default", "ip-10-0-0-2", finding("InterfaceNotUp", "eth1", 15*time.Minute))
			return told(t, "ip-10-0-0-2", withKarpenter(f.objects))
		}},
		"repairing": {node: "default-ip-10-0-0-1", objects: func(*testing.T) []client.Object { return withKarpenter(storm()) }},
		"paused":    {node: "ip-10-0-1-0", objects: func(*testing.T) []client.Object { return withKarpenter(storm()) }},
		"admitted":  {node: "ip-10-0-0-9", objects: func(*testing.T) []client.Object { return oneNode(finding("InterfaceNotUp", "eth1", 20*time.Minute)) }},
		"no-controller": {node: "ip-10-0-0-9", objects: func(*testing.T) []client.Object {
			objects := oneNode(finding("InterfaceNotUp", "eth1", 20*time.Minute))
			return append(objects, lease(time.Hour))
		}},
		"unwatched": {node: "ip-10-0-0-9", objects: func(*testing.T) []client.Object {
			var kept []client.Object
			for _, o := range oneNode() {
				if _, ok := o.(*v1alpha1.NodeHealth); !ok {
					kept = append(kept, o)
				}
			}
			return kept
		}},
		"source-silent": {node: "ip-10-0-0-9", objects: func(*testing.T) []client.Object {
			objects := oneNode(finding("InterfaceNotUp", "eth1", 2*time.Hour))
			for _, o := range objects {
				if health, ok := o.(*v1alpha1.NodeHealth); ok && health.Name == "ip-10-0-0-9" {
					health.Sources[0].LastHeartbeat = new(ago(time.Hour))
					health.Sources[0].HeartbeatInterval = &metav1.Duration{Duration: 5 * time.Minute}
				}
			}
			return objects
		}},
		"history": {node: "ip-10-0-0-9", objects: func(*testing.T) []client.Object {
			failed := nodeRepair("default-ip-10-0-0-9-1", "ip-10-0-0-9", "default", func(r *v1alpha1.NodeRepair) {
				r.CreationTimestamp = ago(3 * time.Hour)
				r.Status.Phase, r.Status.Message, r.Status.FinishedAt = v1alpha1.PhaseFailed, "no replacement became ready", new(ago(2*time.Hour))
				r.Status.Replacements = []v1alpha1.ReplacementStatus{{
					NodeClaim: "default-r1", Attempt: 1, CreatedAt: new(ago(179 * time.Minute)), WithdrawnAt: new(ago(177 * time.Minute)), Message: "it was not launched within 1m30s",
				}}
				r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.RepairConditionFenced, Status: metav1.ConditionTrue, LastTransitionTime: ago(179 * time.Minute)}}
			})
			return append(oneNode(finding("InterfaceNotUp", "eth1", 4*time.Hour)), failed)
		}},
	} {
		for _, format := range Formats {
			t.Run(name+" as "+format, func(t *testing.T) {
				w := newWorld(test.objects(t)...)
				got, err := w.run(t, "explain", test.node, "-o", format)
				require.NoError(t, err)
				requireGolden(t, "explain/"+name+"."+format, got)
			})
		}
	}
}

// oneNode is a NodePool of seven nodes, of which ip-10-0-0-9 has the findings.
func oneNode(findings ...v1alpha1.Finding) []client.Object {
	f := &fleet{}
	f.add(repairPolicy("default", nil), nodePool("default", "1", nil))
	f.machines("default", 6)
	f.machine("default", "ip-10-0-0-9", findings...)
	return withKarpenter(f.objects)
}

func TestExplainSaysWhatItCannotExplain(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no name":                     {want: "explain needs the name of a Node or NodeClaim: see kubectl autorepair explain --help"},
		"two names":                   {args: []string{"a", "b"}, want: "explain takes one name, of a Node or NodeClaim, not 2"},
		"an unknown name":             {args: []string{"ip-10-0-0-8"}, want: `there is no Node or NodeClaim "ip-10-0-0-8": did you mean ip-10-0-0-9`},
		"a node of somebody else":     {args: []string{"managed-1"}, want: "node managed-1 has no NodeClaim: it is none of Karpenter's, so nothing is done about it"},
		"a time that is none":         {args: []string{"ip-10-0-0-9", "--now", "yesterday"}, want: `--now="yesterday" is no time: write for example 2030-01-31T18:00:00Z`},
		"a version that is none":      {args: []string{"ip-10-0-0-9", "--karpenter-version", "new"}, want: `--karpenter-version="new" is not a version: write for example 1.15.0`},
		"neither true nor false":      {args: []string{"ip-10-0-0-9", "--karpenter-node-repair", "maybe"}, want: `--karpenter-node-repair="maybe": write true, false or auto`},
		"an output that there is not": {args: []string{"ip-10-0-0-9", "-o", "xml"}, want: `--output="xml": write one of table, wide, json, yaml`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(append(oneNode(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "managed-1"}})...)
			_, err := w.run(t, append([]string{"explain"}, test.args...)...)
			require.ErrorContains(t, err, test.want)
		})
	}
}
