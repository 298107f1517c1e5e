package recording

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// Write writes the objects as one List in JSON, an object on each line, so that Read, kubectl and people's tools read it
// (JSON is YAML too). Of each object only what decisions rest on is written: no environment, command, volume or image of a
// container of a pod, and no object of a kind that may hold secrets. The objects given stay as they are.
func Write(out io.Writer, objects []client.Object) error {
	w := bufio.NewWriter(out)
	fmt.Fprint(w, `{"apiVersion":"v1","kind":"List","items":[`)
	for i, object := range objects {
		text, err := marshal(object)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprint(w, ",")
		}
		fmt.Fprint(w, "\n")
		if _, err := w.Write(text); err != nil {
			return fmt.Errorf("writing a recording, %w", err)
		}
	}
	fmt.Fprint(w, "\n]}\n")
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing a recording, %w", err)
	}
	return nil
}

func marshal(object client.Object) ([]byte, error) {
	gvk, err := apiutil.GVKForObject(object, kinds)
	if err != nil {
		return nil, fmt.Errorf("finding the kind of %T, %w", object, err)
	}
	if !wanted(gvk) || !tells(object) {
		return nil, fmt.Errorf("a recording takes no %s %s", gvk.Kind, object.GetName())
	}
	kept, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		return nil, fmt.Errorf("copying %s %s: it is no object", gvk.Kind, object.GetName())
	}
	slim(kept)
	kept.GetObjectKind().SetGroupVersionKind(gvk)
	text, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("writing %s %s down, %w", gvk.Kind, object.GetName(), err)
	}
	return text, nil
}

// slim leaves of an object what is recorded of it.
func slim(object client.Object) {
	writers := writersOfConditions(object)
	snapshot.Slim(object)
	object.SetManagedFields(append(object.GetManagedFields(), writers...))
	annotations := object.GetAnnotations()
	delete(annotations, corev1.LastAppliedConfigAnnotation) // a whole second copy of the object
	object.SetAnnotations(annotations)
	switch o := object.(type) {
	case *appsv1.Deployment:
		snapshot.SlimDeployment(o)
	case *apiextensionsv1.CustomResourceDefinition:
		snapshot.SlimDefinition(o)
	case *coordinationv1.Lease:
		o.Annotations = nil
	}
}

// writersOfConditions says who wrote our conditions on a NodeClaim and when, without the long list of fields.
func writersOfConditions(object client.Object) []metav1.ManagedFieldsEntry {
	if _, ok := object.(*karpv1.NodeClaim); !ok {
		return nil
	}
	var out []metav1.ManagedFieldsEntry
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == v1alpha1.ConditionsManager {
			entry.FieldsV1 = nil
			out = append(out, entry)
		}
	}
	return out
}
