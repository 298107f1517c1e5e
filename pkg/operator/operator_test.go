package operator

import (
	"reflect"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
)

func TestFlags(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"the defaults are valid":                    {},
		"metrics for everybody":                     {args: []string{"--metrics-secure=false"}},
		"metrics with a certificate":                {args: []string{"--metrics-cert-dir=/certs"}},
		"a certificate for plain HTTP is refused":   {args: []string{"--metrics-secure=false", "--metrics-cert-dir=/certs"}, want: "leave one of them out"},
		"a level that does not exist is refused":    {args: []string{"--log-level=loud"}, want: "write debug, info or error"},
		"a format that does not exist is refused":   {args: []string{"--log-format=xml"}, want: "write json or console"},
		"no requests at all is refused":             {args: []string{"--kube-api-qps=0"}, want: "leave them out for the defaults"},
		"a version that is none is refused":         {args: []string{"--karpenter-version=new"}, want: "write for example 1.15.0"},
		"a version is taken":                        {args: []string{"--karpenter-version=1.14.2"}},
		"anything but true, false, auto is refused": {args: []string{"--karpenter-node-repair=maybe"}, want: "write true, false or auto"},
		"whether Karpenter repairs may be said":     {args: []string{"--karpenter-node-repair=false"}},
	} {
		t.Run(name, func(t *testing.T) {
			options := Options{}
			flags := pflag.NewFlagSet("controller", pflag.ContinueOnError)
			options.AddFlags(flags)
			require.NoError(t, flags.Parse(test.args))
			err := options.Validate()
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestOnlyWhatTheFlagsSayOverridesWhatIsFound(t *testing.T) {
	require.Nil(t, (&Options{KarpenterNodeRepair: "auto"}).karpenterOverrides().OwnRepair)
	require.True(t, *(&Options{KarpenterNodeRepair: "true"}).karpenterOverrides().OwnRepair)
	require.False(t, *(&Options{KarpenterNodeRepair: "false"}).karpenterOverrides().OwnRepair)
}

func TestMissingDefinitionsAreNamedWithWhatToApply(t *testing.T) {
	mapper := meta.NewDefaultRESTMapper(nil)
	karpenter := schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}
	mapper.Add(karpenter.WithKind("NodePool"), meta.RESTScopeRoot)
	mapper.Add(karpenter.WithKind("NodeClaim"), meta.RESTScopeRoot)
	mapper.Add(v1alpha1.SchemeGroupVersion.WithKind("NodeHealth"), meta.RESTScopeRoot)
	err := CheckKinds(mapper)
	require.EqualError(t, err, "the API server does not know RepairPolicy.autorepair.sh: install the chart autorepair-crd of the same version\n"+
		"the API server does not know NodeRepair.autorepair.sh: install the chart autorepair-crd of the same version\n"+
		"the API server does not know RepairPause.autorepair.sh: install the chart autorepair-crd of the same version")
	mapper.Add(v1alpha1.SchemeGroupVersion.WithKind("RepairPolicy"), meta.RESTScopeRoot)
	mapper.Add(v1alpha1.SchemeGroupVersion.WithKind("NodeRepair"), meta.RESTScopeRoot)
	mapper.Add(v1alpha1.SchemeGroupVersion.WithKind("RepairPause"), meta.RESTScopeRoot)
	require.NoError(t, CheckKinds(mapper))
}

func TestTheSchemeKnowsEveryNeededKind(t *testing.T) {
	for _, need := range needed {
		require.True(t, scheme.New().Recognizes(need.kind), need.kind)
	}
}

func TestTheCacheKeepsWhoSetAStop(t *testing.T) {
	managed := []metav1.ManagedFieldsEntry{
		{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{}},"f:spec":{"f:mode":{}}}`)},
		{Manager: "kubectl-annotate", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:karpenter.sh/do-not-repair":{}}}}`)},
	}
	metadata := metav1.ObjectMeta{ManagedFields: managed, Annotations: map[string]string{karpv1.DoNotRepairAnnotationKey: "true"}}
	options := cacheOptions()
	for name, test := range map[string]struct {
		object    client.Object
		transform toolscache.TransformFunc
		want      []string
	}{
		"a vetoed Node":     {object: &corev1.Node{ObjectMeta: metadata}, want: []string{"kubectl-annotate"}},
		"a vetoed NodePool": {object: &karpv1.NodePool{ObjectMeta: metadata}, want: []string{"kubectl-annotate"}},
		"a Node without":    {object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{ManagedFields: managed}}},
		"a RepairPolicy":    {object: &v1alpha1.RepairPolicy{ObjectMeta: metadata}, want: []string{"kubelet"}},
		"a RepairPause":     {object: &v1alpha1.RepairPause{ObjectMeta: metadata}, want: []string{"kubelet", "kubectl-annotate"}},
		"a NodeRepair":      {object: &v1alpha1.NodeRepair{ObjectMeta: metadata}},
	} {
		t.Run(name, func(t *testing.T) {
			transform := options.DefaultTransform
			for kind, by := range options.ByObject {
				if reflect.TypeOf(kind) == reflect.TypeOf(test.object) {
					transform = by.Transform
				}
			}
			_, err := transform(test.object)
			require.NoError(t, err)
			var got []string
			for _, entry := range test.object.GetManagedFields() {
				got = append(got, entry.Manager)
			}
			require.Equal(t, test.want, got)
		})
	}
}
