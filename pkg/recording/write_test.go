package recording

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

const secret = "hunter2"

func karpenter() *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{
		Namespace: "kube-system", Name: "karpenter", Labels: map[string]string{"app.kubernetes.io/name": "karpenter"},
		Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: secret},
	}}
	d.Spec.Template.Spec.Containers = []corev1.Container{{
		Name: "controller", Image: "example.invalid/karpenter:1.15.0", Args: []string{"--token=" + secret, "--feature-gates=NodeRepair=true"},
		Env: []corev1.EnvVar{{Name: "PASSWORD", Value: secret}, {Name: "LEGACY_NODE_REPAIR", Value: "true"}},
	}}
	return d
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-0", Annotations: map[string]string{"note": secret, karpv1.DoNotDisruptAnnotationKey: "true"}},
		Spec: corev1.PodSpec{
			NodeName: "node-a",
			Containers: []corev1.Container{{
				Name: "main", Image: "example.invalid/cart:1", Command: []string{secret}, Args: []string{secret},
				Env: []corev1.EnvVar{{Name: "PASSWORD", Value: secret}},
			}},
			Volumes: []corev1.Volume{{Name: secret}},
		},
	}
}

func claimAndNode() []client.Object {
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "1"}}
	written := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	claim.ManagedFields = []metav1.ManagedFieldsEntry{
		{Manager: v1alpha1.ConditionsManager, Time: &written, Subresource: "status", FieldsV1: metav1.NewFieldsV1(`{"f:status":{}}`)},
		{Manager: "karpenter", Time: &written},
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a", Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: secret}}}
	return []client.Object{claim, node}
}

func TestARecordingKeepsSecretsOut(t *testing.T) {
	given := append(claimAndNode(), pod(), karpenter())
	var out bytes.Buffer
	require.NoError(t, Write(&out, given))
	require.NotContains(t, out.String(), secret)
	require.Equal(t, secret, given[2].(*corev1.Pod).Spec.Containers[0].Env[0].Value, "what is given stays as it is")
	require.Contains(t, out.String(), "NodeRepair=true", "by which Karpenter is known")
}

func TestARecordingTakesNothingElse(t *testing.T) {
	for name, object := range map[string]client.Object{
		"a Secret":                      &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}},
		"a Deployment of others":        &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		"a ConfigMap":                   &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}},
		"a kind that nobody here knows": &metav1.PartialObjectMetadata{},
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, Write(&bytes.Buffer{}, []client.Object{object}))
		})
	}
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	policy := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	policy.Spec.Rules = []v1alpha1.RepairRule{{Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: metav1.Duration{Duration: time.Minute}}}
	given := append(claimAndNode(), pod(), karpenter(), policy)
	for i := range karpapis.CRDs {
		if slices.Contains(snapshot.KarpenterDefinitions, karpapis.CRDs[i].Name) {
			given = append(given, karpapis.CRDs[i].DeepCopy())
		}
	}
	var out bytes.Buffer
	require.NoError(t, Write(&out, given))
	r := NewReading()
	require.NoError(t, r.Read("recording.json", strings.NewReader(out.String())))
	require.Len(t, r.Objects(), len(given))
	claim := r.Objects()[0].(*karpv1.NodeClaim)
	require.Len(t, claim.ManagedFields, 1, "who wrote the conditions, and when")
	require.Equal(t, "true", r.Objects()[2].GetAnnotations()[karpv1.DoNotDisruptAnnotationKey])

	// What is found out about Karpenter is the same from the recording.
	whole := fake.NewClientBuilder().WithScheme(kinds).WithObjects(given[3:4]...).WithObjects(given[5:]...).Build()
	kept := fake.NewClientBuilder().WithScheme(kinds).WithObjects(r.Objects()[3:4]...).WithObjects(r.Objects()[5:]...).Build()
	want, _, err := snapshot.NewDiscovery(whole, snapshot.Overrides{}).Discover(t.Context())
	require.NoError(t, err)
	got, _, err := snapshot.NewDiscovery(kept, snapshot.Overrides{}).Discover(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.True(t, got.OwnRepair)
	require.False(t, got.HonoursDoNotRepair, "the legacy controller runs")
}
