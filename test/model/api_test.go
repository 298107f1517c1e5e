package model

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
)

// api is an API server in memory that is made to be fast: a run of the model makes tens of thousands of calls, and the
// one of controller-runtime takes a hundred times as long for each. Objects in it are never changed, only replaced, so
// that a copy of the maps is the state at one moment.
type api struct {
	clock   *clocktesting.FakeClock
	version int
	objects state
	// wrote hears of every write that has landed: before is nil for a new object, after for one that is gone.
	wrote func(actor string, before, after client.Object)
}

type state map[reflect.Type]map[client.ObjectKey]client.Object

func newAPI(clk *clocktesting.FakeClock) *api {
	return &api{clock: clk, objects: state{}, wrote: func(string, client.Object, client.Object) {}}
}

func (s state) copied() state {
	out := make(state, len(s))
	for kind, objects := range s {
		out[kind] = maps.Clone(objects)
	}
	return out
}

// all gives the objects of a kind by name. They must not be changed.
func all[T any, P interface {
	*T
	client.Object
}](s state) []P {
	objects := s[reflect.TypeFor[T]()]
	out := make([]P, 0, len(objects))
	for _, o := range objects {
		out = append(out, o.(P))
	}
	slices.SortFunc(out, func(a, b P) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return out
}

// named gives one object; nil where there is none. It must not be changed.
func named[T any, P interface {
	*T
	client.Object
}](s state, name string) P {
	if o, ok := s[reflect.TypeFor[T]()][client.ObjectKey{Name: name}]; ok {
		return o.(P)
	}
	return nil
}

// kindOf knows whole objects, and Nodes and NodeClaims by their metadata alone.
func kindOf(o client.Object) reflect.Type {
	if partial, ok := o.(*metav1.PartialObjectMetadata); ok {
		if partial.Kind == "Node" {
			return reflect.TypeFor[corev1.Node]()
		}
		return reflect.TypeFor[karpv1.NodeClaim]()
	}
	return reflect.TypeOf(o).Elem()
}

func kindName(kind reflect.Type) schema.GroupResource {
	return schema.GroupResource{Resource: kind.Name()}
}

func copyOf(o client.Object) client.Object { return o.DeepCopyObject().(client.Object) }

// put replaces an object, or lets go one that is being deleted and that nothing holds any more.
func (a *api) put(actor string, before, after client.Object) {
	kind, key := kindOf(after), client.ObjectKeyFromObject(after)
	a.version++
	after.SetResourceVersion(fmt.Sprint(a.version))
	if !after.GetDeletionTimestamp().IsZero() && len(after.GetFinalizers()) == 0 {
		delete(a.objects[kind], key)
		a.wrote(actor, before, nil)
		return
	}
	if a.objects[kind] == nil {
		a.objects[kind] = map[client.ObjectKey]client.Object{}
	}
	a.objects[kind][key] = after
	a.wrote(actor, before, after)
}

func (a *api) create(actor string, o client.Object) error {
	kind, key := kindOf(o), client.ObjectKeyFromObject(o)
	if _, ok := a.objects[kind][key]; ok {
		return apierrors.NewAlreadyExists(kindName(kind), key.Name)
	}
	stored := copyOf(o)
	a.version++
	stored.SetUID(types.UID(fmt.Sprintf("%s-%d", key.Name, a.version)))
	stored.SetGeneration(1)
	stored.SetCreationTimestamp(metav1.NewTime(a.clock.Now().Truncate(time.Second)))
	a.put(actor, nil, stored)
	fill(o, stored)
	return nil
}

func (a *api) get(kind reflect.Type, key client.ObjectKey) (client.Object, error) {
	o, ok := a.objects[kind][key]
	if !ok {
		return nil, apierrors.NewNotFound(kindName(kind), key.Name)
	}
	return o, nil
}

func (a *api) delete(actor string, o client.Object, only metav1.Preconditions) error {
	kind, key := kindOf(o), client.ObjectKeyFromObject(o)
	stored, err := a.get(kind, key)
	if err != nil {
		return err
	}
	if only.UID != nil && stored.GetUID() != *only.UID {
		return apierrors.NewConflict(kindName(kind), key.Name, errors.New("the UID in the precondition is another's"))
	}
	if only.ResourceVersion != nil && stored.GetResourceVersion() != *only.ResourceVersion {
		return apierrors.NewConflict(kindName(kind), key.Name, errors.New("the version in the precondition is another"))
	}
	if !stored.GetDeletionTimestamp().IsZero() {
		return nil
	}
	after := copyOf(stored)
	after.SetDeletionTimestamp(&metav1.Time{Time: a.clock.Now().Truncate(time.Second)})
	a.put(actor, stored, after)
	return nil
}

// change replaces an object by what how makes of it. It is how the model, which sees everything, writes.
func change[T client.Object](a *api, actor string, o T, how func(T)) {
	stored, ok := a.objects[kindOf(o)][client.ObjectKeyFromObject(o)]
	if !ok {
		return
	}
	after := copyOf(stored).(T)
	how(after)
	if !reflect.DeepEqual(stored, client.Object(after)) {
		a.put(actor, stored, after)
	}
}

// patch merges; a status patch changes the status alone, any other everything else.
func (a *api) patch(actor string, o client.Object, p client.Patch, ofStatus bool) error {
	kind, key := kindOf(o), client.ObjectKeyFromObject(o)
	stored, err := a.get(kind, key)
	if err != nil {
		return err
	}
	data, err := p.Data(o)
	if err != nil {
		return err
	}
	var changes, whole map[string]any
	if err := json.Unmarshal(data, &changes); err != nil {
		return err
	}
	if metadata, ok := changes["metadata"].(map[string]any); ok {
		if version, locked := metadata["resourceVersion"]; locked && version != stored.GetResourceVersion() {
			return apierrors.NewConflict(kindName(kind), key.Name, errors.New("the object has been modified"))
		}
	}
	text, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &whole); err != nil {
		return err
	}
	for _, part := range []string{"metadata", "spec", "status"} {
		if (part == "status") != ofStatus {
			delete(changes, part)
		}
	}
	if text, err = json.Marshal(merged(whole, changes)); err != nil {
		return err
	}
	after := reflect.New(kind).Interface().(client.Object)
	if err := json.Unmarshal(text, after); err != nil {
		return err
	}
	a.put(actor, stored, after)
	fill(o, after)
	return nil
}

func merged(whole, changes map[string]any) map[string]any {
	if whole == nil {
		whole = map[string]any{}
	}
	for key, value := range changes {
		switch value := value.(type) {
		case nil:
			delete(whole, key)
		case map[string]any:
			below, _ := whole[key].(map[string]any)
			whole[key] = merged(below, value)
		default:
			whole[key] = value
		}
	}
	return whole
}

func fill(out, stored client.Object) {
	if _, partial := out.(*metav1.PartialObjectMetadata); !partial {
		reflect.ValueOf(out).Elem().Set(reflect.ValueOf(copyOf(stored)).Elem())
	}
}

// applyConditions is what server-side apply by the one owner of our conditions comes to.
func (a *api) applyConditions(actor string, applied runtime.ApplyConfiguration) error {
	text, err := json.Marshal(applied)
	if err != nil {
		return err
	}
	claim := &karpv1.NodeClaim{}
	if err := json.Unmarshal(text, claim); err != nil {
		return err
	}
	stored := named[karpv1.NodeClaim](a.objects, claim.Name)
	switch {
	case stored == nil:
		return apierrors.NewNotFound(kindName(kindOf(claim)), claim.Name)
	case stored.UID != claim.UID:
		return apierrors.NewConflict(kindName(kindOf(claim)), claim.Name, errors.New("the UID is another's"))
	}
	change(a, actor, stored, func(c *karpv1.NodeClaim) {
		c.Status.Conditions = append(slices.DeleteFunc(c.Status.Conditions, ours), claim.Status.Conditions...)
	})
	return nil
}

func ours(c status.Condition) bool {
	return len(c.Type) > len(v1alpha1.Group) && c.Type[:len(v1alpha1.Group)+1] == v1alpha1.Group+"/"
}

// view is how one process sees the API: what it reads may be behind, and each write may be its last.
type view struct {
	client.Client // what is not needed is nil
	api           *api
	actor         string
	// read gives what reads see.
	read func() state
	// write carries a write out, or does not.
	write func(verb string, o client.Object, do func() error) error
}

func (v *view) Get(_ context.Context, key client.ObjectKey, out client.Object, _ ...client.GetOption) error {
	o, ok := v.read()[kindOf(out)][key]
	if !ok {
		return apierrors.NewNotFound(kindName(kindOf(out)), key.Name)
	}
	fill(out, o)
	return nil
}

func (v *view) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	options := client.ListOptions{}
	options.ApplyOptions(opts)
	items := reflect.ValueOf(list).Elem().FieldByName("Items")
	kind := items.Type().Elem()
	objects := v.read()[kind]
	keys := slices.SortedFunc(maps.Keys(objects), func(a, b client.ObjectKey) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	out := reflect.MakeSlice(items.Type(), 0, len(keys))
	for _, key := range keys {
		o := objects[key]
		if !selected(options, o) {
			continue
		}
		if options.UnsafeDisableDeepCopy == nil || !*options.UnsafeDisableDeepCopy {
			o = copyOf(o)
		}
		out = reflect.Append(out, reflect.ValueOf(o).Elem())
	}
	items.Set(out)
	return nil
}

func selected(options client.ListOptions, o client.Object) bool {
	if options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(o.GetLabels())) {
		return false
	}
	if options.FieldSelector == nil {
		return true
	}
	for _, requirement := range options.FieldSelector.Requirements() {
		for _, index := range scheme.Indexes {
			if index.Field == requirement.Field && reflect.TypeOf(index.Object) == reflect.TypeOf(o) && !slices.Contains(index.Extract(o), requirement.Value) {
				return false
			}
		}
	}
	return true
}

func (v *view) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	return v.write("create", o, func() error { return v.api.create(v.actor, o) })
}

func (v *view) Delete(_ context.Context, o client.Object, opts ...client.DeleteOption) error {
	options := client.DeleteOptions{}
	options.ApplyOptions(opts)
	only := lo.FromPtr(options.Preconditions)
	return v.write("delete", o, func() error { return v.api.delete(v.actor, o, only) })
}

func (v *view) Patch(_ context.Context, o client.Object, p client.Patch, _ ...client.PatchOption) error {
	return v.write("patch", o, func() error { return v.api.patch(v.actor, o, p, false) })
}

func (v *view) Status() client.SubResourceWriter { return &statusView{view: v} }

type statusView struct {
	client.SubResourceWriter
	view *view
}

func (s *statusView) Patch(_ context.Context, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
	return s.view.write("patch status", o, func() error { return s.view.api.patch(s.view.actor, o, p, true) })
}

func (s *statusView) Apply(_ context.Context, applied runtime.ApplyConfiguration, _ ...client.SubResourceApplyOption) error {
	return s.view.write("apply status", &karpv1.NodeClaim{}, func() error { return s.view.api.applyConditions(s.view.actor, applied) })
}
