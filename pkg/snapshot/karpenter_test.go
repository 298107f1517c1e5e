package snapshot

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	karpcrds "sigs.k8s.io/karpenter/pkg/apis"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

func TestDiscovery(t *testing.T) {
	env := func(pairs ...string) func(*corev1.Container) {
		return func(c *corev1.Container) {
			for i := 0; i < len(pairs); i += 2 {
				c.Env = append(c.Env, corev1.EnvVar{Name: pairs[i], Value: pairs[i+1]})
			}
		}
	}
	args := func(args ...string) func(*corev1.Container) { return func(c *corev1.Container) { c.Args = args } }
	for name, test := range map[string]struct {
		objects     []client.Object
		overrides   Overrides
		want        decision.Karpenter
		wantAssumed bool
	}{
		"1.15 without the gate does not repair": {
			objects: []client.Object{deployment("1.15.0", env("FEATURE_GATES", "StaticCapacity=true,NodeRepair=false"))},
			want:    decision.Karpenter{Version: "1.15.0", HonoursDoNotRepair: true, RebootSupported: true},
		},
		"1.15 with no gates set does not repair": {
			objects: []client.Object{deployment("1.15.0", nil)},
			want:    decision.Karpenter{Version: "1.15.0", HonoursDoNotRepair: true, RebootSupported: true},
		},
		"1.15 with the gate repairs and can be kept off": {
			objects: []client.Object{deployment("1.15.0", env("FEATURE_GATES", "ReservedCapacity=true,NodeRepair=true"))},
			want:    decision.Karpenter{Version: "1.15.0", OwnRepair: true, HonoursDoNotRepair: true, RebootSupported: true},
		},
		"a flag counts before the environment": {
			objects: []client.Object{deployment("1.15.0", func(c *corev1.Container) {
				env("FEATURE_GATES", "NodeRepair=false")(c)
				args("--feature-gates", "NodeRepair=true")(c)
			})},
			want: decision.Karpenter{Version: "1.15.0", OwnRepair: true, HonoursDoNotRepair: true, RebootSupported: true},
		},
		"the legacy controller cannot be kept off": {
			objects: []client.Object{deployment("1.15.0", args("--feature-gates=NodeRepair=true", "--legacy-node-repair=true"))},
			want:    decision.Karpenter{Version: "1.15.0", OwnRepair: true, RebootSupported: true},
		},
		"before 1.15 it cannot be kept off": {
			objects: []client.Object{deployment("1.9.2", env("FEATURE_GATES", "NodeRepair=true"))},
			want:    decision.Karpenter{Version: "1.9.2", OwnRepair: true},
		},
		"gates from elsewhere are taken to be on": {
			objects: []client.Object{deployment("1.15.0", func(c *corev1.Container) {
				c.Env = []corev1.EnvVar{{Name: "FEATURE_GATES", ValueFrom: &corev1.EnvVarSource{}}}
			})},
			want:        decision.Karpenter{Version: "1.15.0", OwnRepair: true, HonoursDoNotRepair: true, RebootSupported: true},
			wantAssumed: true,
		},
		"of two Karpenters the more dangerous counts": {
			objects: []client.Object{
				deployment("1.15.0", nil),
				func() client.Object {
					d := deployment("1.8.0", env("FEATURE_GATES", "NodeRepair=true"))
					d.Namespace = "other"
					return d
				}(),
			},
			want: decision.Karpenter{Version: "1.8.0", OwnRepair: true},
		},
		"an image without a tag leaves the label": {
			objects: []client.Object{deployment("", func(c *corev1.Container) { c.Image = "registry:5000/karpenter@sha256:0" })},
			want:    decision.Karpenter{Version: "1.14.0"},
		},
		"nothing found and an old CRD: taken to repair, cannot be kept off": {
			want: decision.Karpenter{OwnRepair: true}, wantAssumed: true,
		},
		"nothing found and the CRD of 1.15: taken to repair, can be kept off": {
			objects: []client.Object{nodePoolDefinition(t)},
			want:    decision.Karpenter{OwnRepair: true, HonoursDoNotRepair: true}, wantAssumed: true,
		},
		"flags count before what is found": {
			objects:   []client.Object{deployment("1.15.0", env("FEATURE_GATES", "NodeRepair=true"))},
			overrides: Overrides{Version: "1.9.0", OwnRepair: new(false)},
			want:      decision.Karpenter{Version: "1.9.0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			require.NoError(t, appsv1.AddToScheme(scheme))
			require.NoError(t, apiextensionsv1.AddToScheme(scheme))
			discovery := NewDiscovery(fake.NewClientBuilder().WithScheme(scheme).WithObjects(test.objects...).Build(), test.overrides)
			require.True(t, discovery.Karpenter().OwnRepair, "nothing is known before the first look")
			require.False(t, discovery.Karpenter().HonoursDoNotRepair)
			found, _, err := discovery.Discover(context.Background())
			require.NoError(t, err)
			require.Equal(t, test.want, found.Karpenter)
			require.Equal(t, test.wantAssumed, found.OwnRepairAssumed)
			require.Equal(t, test.want, discovery.Karpenter())
			_, changed, err := discovery.Discover(context.Background())
			require.NoError(t, err)
			require.False(t, changed, "the same again is no change")
		})
	}
}

func deployment(version string, change func(*corev1.Container)) *appsv1.Deployment {
	container := corev1.Container{Name: "controller", Image: "registry:5000/karpenter/controller:" + version + "@sha256:0"}
	if change != nil {
		change(&container)
	}
	if version == "" {
		version = "1.14.0"
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "karpenter", Labels: map[string]string{
			"app.kubernetes.io/name": "karpenter", "app.kubernetes.io/version": version,
		}},
		Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "sidecar"}, container},
		}}},
	}
}

func TestConditionsAreOneListUntilTheDefinitionSaysThatTheyMerge(t *testing.T) {
	ofToday := definitionOf(t, nodeClaimCRD)
	older := ofToday.DeepCopy()
	for i := range older.Spec.Versions {
		status := older.Spec.Versions[i].Schema.OpenAPIV3Schema.Properties["status"]
		list := status.Properties["conditions"]
		list.XListType, list.XListMapKeys = nil, nil // as before 1.15
		status.Properties["conditions"] = list
	}
	for name, test := range map[string]struct {
		definitions []client.Object
		want        bool
	}{
		"the definition of 1.15":   {[]client.Object{ofToday}, false},
		"the definition before it": {[]client.Object{older}, true},
		"no definition":            {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			require.NoError(t, appsv1.AddToScheme(scheme))
			require.NoError(t, apiextensionsv1.AddToScheme(scheme))
			d := NewDiscovery(fake.NewClientBuilder().WithScheme(scheme).WithObjects(test.definitions...).Build(), Overrides{})
			require.True(t, d.ConditionsAreOneList(), "nothing is known yet")
			_, _, err := d.Discover(context.Background())
			require.NoError(t, err)
			require.Equal(t, test.want, d.ConditionsAreOneList())
		})
	}
}

// nodePoolDefinition is the real one of the Karpenter that we build against.
func nodePoolDefinition(t *testing.T) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	return definitionOf(t, nodePoolCRD)
}

func definitionOf(t *testing.T, name string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	for _, definition := range karpcrds.CRDs {
		if definition.Name == name {
			out := definition.DeepCopy()
			out.ResourceVersion = ""
			return out
		}
	}
	t.Fatalf("karpenter brings no CustomResourceDefinition %s", name)
	return nil
}
