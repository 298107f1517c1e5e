package cli

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// pod on a node that has to move with it.
func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart", UID: "rs"}}},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

func theNode(t *testing.T, w *world, name string) *corev1.Node {
	t.Helper()
	node := &corev1.Node{}
	require.NoError(t, w.client.Get(t.Context(), client.ObjectKey{Name: name}, node))
	return node
}

func thePool(t *testing.T, w *world, name string) *karpv1.NodePool {
	t.Helper()
	pool := &karpv1.NodePool{}
	require.NoError(t, w.client.Get(t.Context(), client.ObjectKey{Name: name}, pool))
	return pool
}

func thePolicy(t *testing.T, w *world, name string) *v1alpha1.RepairPolicy {
	t.Helper()
	policy := &v1alpha1.RepairPolicy{}
	require.NoError(t, w.client.Get(t.Context(), client.ObjectKey{Name: name}, policy))
	return policy
}

// TestActionsTell shows what people read before and after a write.
func TestActionsTell(t *testing.T) {
	withPods := func() []client.Object {
		return append(storm(), pod("cart-1", "default-well-0"), pod("cart-2", "default-well-0"))
	}
	paused := func() []client.Object {
		return append(storm(), &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "maintenance", UID: "p1"}, Spec: v1alpha1.RepairPauseSpec{Reason: "ask @netops"}},
			&v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: pauseName, UID: "p2"}, Spec: v1alpha1.RepairPauseSpec{Until: "2026-11-25T18:00:00Z"}})
	}
	vetoed := func() []client.Object {
		objects := storm()
		for _, object := range objects {
			if node, ok := object.(*corev1.Node); ok && node.Name == "ip-10-0-0-2" {
				node.Annotations = map[string]string{v1alpha1.VetoAnnotation: "true", karpv1.DoNotRepairAnnotationKey: "true"}
			}
		}
		return objects
	}
	for name, test := range map[string]struct {
		objects []client.Object
		args    []string
	}{
		"repair-well":           {objects: withPods(), args: []string{"repair", "default-well-0", "--yes"}},
		"repair-gpu":            {objects: withPods(), args: []string{"repair", "gpu-gpu-well-0", "--action", "Reboot", "--yes"}},
		"repair-paused-pool":    {objects: withPods(), args: []string{"repair", "ip-10-0-1-0", "--yes"}},
		"repair-at-work":        {objects: storm(), args: []string{"repair", "ip-10-0-0-1", "--yes"}},
		"repair-dry-run":        {objects: storm(), args: []string{"repair", "ip-10-0-0-2", "--dry-run=server"}},
		"pause-node":            {objects: storm(), args: []string{"pause", "node", "ip-10-0-0-1", "--for", "2h", "--yes"}},
		"pause-nodeclaim":       {objects: storm(), args: []string{"pause", "nodeclaim/default-ip-10-0-0-2", "--yes"}},
		"pause-nodepool":        {objects: storm(), args: []string{"pause", "nodepool/default", "--until", "2026-11-26T08:00:00+02:00", "--yes"}},
		"pause-nodepool-longer": {objects: storm(), args: []string{"pause", "nodepool", "batch", "--for", "1d", "--yes"}},
		"pause-policy":          {objects: storm(), args: []string{"pause", "policy", "default", "--for", "30m", "--yes"}},
		"pause-dryrun-policy":   {objects: storm(), args: []string{"pause", "policy", "gpus", "--yes"}},
		"pause-everything":      {objects: storm(), args: []string{"pause", "everything", "--for", "30m", "--reason", "network maintenance", "--yes"}},
		"pause-twice":           {objects: paused(), args: []string{"pause", "everything", "--until", "2026-11-25T18:00:00Z", "--yes"}},
		"resume-nothing":        {objects: storm(), args: []string{"resume", "everything", "--yes"}},
		"resume-everything":     {objects: paused(), args: []string{"resume", "everything", "--yes"}},
		"resume-others":         {objects: paused(), args: []string{"resume", "everything", "--others", "--yes"}},
		"resume-nodepool":       {objects: storm(), args: []string{"resume", "nodepool", "batch", "--yes"}},
		"resume-policy":         {objects: storm(), args: []string{"resume", "policy", "default", "--yes"}},
		"resume-node":           {objects: vetoed(), args: []string{"resume", "node", "ip-10-0-0-2", "--yes"}},
		"paused":                {objects: paused(), args: []string{"resume"}},
	} {
		for _, format := range Formats {
			t.Run(name+" as "+format, func(t *testing.T) {
				w := newWorld(test.objects...)
				got, err := w.run(t, append(test.args, "-o", format)...)
				require.NoError(t, err)
				requireGolden(t, "actions/"+name+"."+format, got)
			})
		}
	}
}

func TestRepairWritesTheRequestOnTheNode(t *testing.T) {
	w := newWorld(storm()...)
	_, err := w.run(t, "repair", "default-default-well-1", "--action", "Reboot", "--yes")
	require.NoError(t, err)
	require.Equal(t, "Reboot", theNode(t, w, "default-well-1").Annotations[v1alpha1.RepairRequestAnnotation])
	require.Empty(t, theNode(t, w, "default-well-0").Annotations)
}

func TestResumeUndoesWhatPauseHasDone(t *testing.T) {
	for name, test := range map[string]struct {
		what  []string
		other func(*world) client.Object
	}{
		"a node":     {what: []string{"node", "default-well-0"}, other: func(*world) client.Object { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "default-well-0"}} }},
		"a NodePool": {what: []string{"nodepool", "default"}, other: func(*world) client.Object { return &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "default"}} }},
		"a policy": {what: []string{"policy", "default"}, other: func(*world) client.Object {
			return &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		}},
		"one in DryRun": {what: []string{"policy", "gpus"}, other: func(*world) client.Object { return &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "gpus"}} }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(storm()...)
			read := func() client.Object {
				object := test.other(w)
				require.NoError(t, w.client.Get(t.Context(), client.ObjectKeyFromObject(object), object))
				object.SetResourceVersion("")
				object.SetManagedFields(nil)
				if len(object.GetAnnotations()) == 0 {
					object.SetAnnotations(nil)
				}
				return object
			}
			before := read()
			_, err := w.run(t, append([]string{"pause", "--yes"}, test.what...)...)
			require.NoError(t, err)
			require.NotEqual(t, before, read(), "pausing writes something")
			_, err = w.run(t, append([]string{"resume", "--yes"}, test.what...)...)
			require.NoError(t, err)
			require.Equal(t, before, read())
		})
	}
	t.Run("everything", func(t *testing.T) {
		w := newWorld(storm()...)
		_, err := w.run(t, "pause", "everything", "--yes")
		require.NoError(t, err)
		pauses := &v1alpha1.RepairPauseList{}
		require.NoError(t, w.client.List(t.Context(), pauses))
		require.Len(t, pauses.Items, 1)
		_, err = w.run(t, "resume", "everything", "--yes")
		require.NoError(t, err)
		require.NoError(t, w.client.List(t.Context(), pauses))
		require.Empty(t, pauses.Items)
	})
}

func TestAPauseOfAPolicyHasTheEndThatWasAskedFor(t *testing.T) {
	w := newWorld(storm()...)
	_, err := w.run(t, "pause", "policy", "default", "--for", "90m", "--yes")
	require.NoError(t, err)
	policy := thePolicy(t, w, "default")
	require.Equal(t, v1alpha1.ModePaused, policy.Spec.Mode)
	require.Equal(t, "2026-11-25T13:30:00Z", policy.Spec.PausedUntil)
	_, err = w.run(t, "pause", "nodepool", "gpu", "--for", "90m", "--yes")
	require.NoError(t, err)
	require.Equal(t, "2026-11-25T13:30:00Z", thePool(t, w, "gpu").Annotations[v1alpha1.PauseAnnotation])
}

func TestNothingIsWrittenWithoutAYes(t *testing.T) {
	for name, test := range map[string]struct {
		answer    string
		terminal  bool
		args      []string
		wantError string
		wantDone  bool
	}{
		"a yes":                      {terminal: true, answer: "y\n", wantDone: true},
		"a whole yes":                {terminal: true, answer: "Yes\n", wantDone: true},
		"a yes without an end":       {terminal: true, answer: "y", wantDone: true},
		"a no":                       {terminal: true, answer: "n\n", wantError: "nothing was done"},
		"a return":                   {terminal: true, answer: "\n", wantError: "nothing was done"},
		"an end of file":             {terminal: true, wantError: "nothing was done"},
		"nobody there":               {wantError: "nothing was done: standard input is no terminal, so nobody can be asked: add --yes to do it, or --dry-run=server to let the API server check it"},
		"nobody there, and --yes":    {args: []string{"--yes"}, wantDone: true},
		"nobody there, and dry run":  {args: []string{"--dry-run=server"}},
		"a dry run that there isn't": {args: []string{"--dry-run=client"}, wantError: `--dry-run="client": write none or server`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(storm()...)
			if test.terminal {
				w.answer(test.answer)
			}
			_, err := w.run(t, append([]string{"pause", "nodepool", "default"}, test.args...)...)
			if test.wantError != "" {
				require.EqualError(t, err, test.wantError)
			} else {
				require.NoError(t, err)
			}
			_, done := thePool(t, w, "default").Annotations[v1alpha1.PauseAnnotation]
			require.Equal(t, test.wantDone, done)
		})
	}
}

func TestWhatCannotBeDoneSaysWhatToDo(t *testing.T) {
	dead := func() []client.Object {
		f := &fleet{}
		claim := f.machine("default", "leaving")
		claim.DeletionTimestamp, claim.Finalizers = new(ago(time.Minute)), []string{"karpenter.sh/termination"}
		f.add(&karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "coming"}})
		return append(storm(), f.objects...)
	}
	vetoed := func() []client.Object {
		objects := storm()
		for _, object := range objects {
			if node, ok := object.(*corev1.Node); ok && node.Name == "ip-10-0-0-2" {
				node.Annotations = map[string]string{karpv1.DoNotRepairAnnotationKey: "true"}
			}
		}
		return objects
	}
	for name, test := range map[string]struct {
		objects []client.Object
		args    []string
		want    string
	}{
		"a node that is not Karpenter's": {args: []string{"repair", "managed-1"}, want: "node managed-1 is not Karpenter's (no NodeClaim has its provider ID), and only Karpenter's nodes are repaired"},
		"a node that leaves":             {objects: dead(), args: []string{"repair", "leaving"}, want: "NodeClaim default-leaving is being deleted already, since 2026-11-25T11:59:00Z"},
		"a node that has not come":       {objects: dead(), args: []string{"repair", "coming"}, want: "NodeClaim coming has no Node yet: Karpenter itself ends NodeClaims whose nodes do not join"},
		"an unknown node":                {args: []string{"repair", "ip-10-0-0-9"}, want: `there is no Node or NodeClaim "ip-10-0-0-9": did you mean ip-10-0-0-1 or ip-10-0-0-2 or ip-10-0-0-3?`},
		"an unknown action":              {args: []string{"repair", "ip-10-0-0-2", "--action", "replace"}, want: `--action="replace": write Replace or Reboot`},
		"an unknown NodePool":            {args: []string{"pause", "nodepool", "defaul"}, want: `there is no NodePool "defaul": did you mean default?`},
		"an unknown policy":              {args: []string{"resume", "policy", "gpu"}, want: `there is no RepairPolicy "gpu": did you mean gpus?`},
		"an unknown kind":                {args: []string{"pause", "pod", "a"}, want: `"pod" is none of them: say what: node NAME, nodepool NAME, policy NAME, or everything`},
		"a kind without a name":          {args: []string{"pause", "nodepool"}, want: "write one name after nodepool"},
		"everything with a name":         {args: []string{"pause", "everything", "now"}, want: `everything takes no name, so what is "now"?`},
		"an end that has passed":         {args: []string{"pause", "everything", "--until", "2026-11-25T11:00:00Z"}, want: "--until=2026-11-25T11:00:00Z has passed: it is 2026-11-25T12:00:00Z"},
		"an end that is no time":         {args: []string{"pause", "everything", "--until", "tomorrow"}, want: `--until="tomorrow": write a time with its zone, for example 2030-01-31T18:00:00Z`},
		"a length that is none":          {args: []string{"pause", "everything", "--for", "long"}, want: `--for: "long" is no duration: write for example 30m, 2h or 7d`},
		"a length of nothing":            {args: []string{"pause", "everything", "--for", "1ms"}, want: "--for: write at least 1s"},
		"a reason without a place":       {args: []string{"pause", "nodepool", "default", "--reason", "x"}, want: "--reason is kept for everything only: an annotation has no place for it"},
		"a DryRun policy with an end":    {args: []string{"pause", "policy", "gpus", "--for", "1h"}, want: "RepairPolicy gpus is in mode DryRun, so it repairs nothing anyway; a pause with an end would end in Enforce"},
		"an end beside Karpenter's veto": {objects: vetoed(), args: []string{"pause", "node", "ip-10-0-0-2", "--for", "1h"}, want: "node ip-10-0-0-2 is vetoed without end already, by annotation karpenter.sh/do-not-repair on Node ip-10-0-0-2: an end beside it would end that veto too, so pause the node without one"},
		"a format that there is not":     {args: []string{"status", "-o", "xml"}, want: `--output="xml": write one of table, wide, json, yaml`},
	} {
		t.Run(name, func(t *testing.T) {
			objects := test.objects
			if objects == nil {
				objects = storm()
			}
			_, err := newWorld(objects...).run(t, append(test.args, "--yes")[:len(test.args)]...)
			require.EqualError(t, err, test.want)
		})
	}
}

// TestAChangeThatSomebodyElseMadeMeanwhileIsNotOverwritten lets somebody write between the question and the answer.
func TestAChangeThatSomebodyElseMadeMeanwhileIsNotOverwritten(t *testing.T) {
	w := newWorld(storm()...)
	cluster, err := w.Connect()
	require.NoError(t, err)
	pool := thePool(t, w, "default")
	asked := annotate(pool.DeepCopy(), v1alpha1.PauseAnnotation, "true")

	t.Run("another field is left alone", func(t *testing.T) {
		other := thePool(t, w, "default")
		other.Labels = map[string]string{"team": "a"}
		require.NoError(t, w.client.Update(t.Context(), other))
		require.NoError(t, asked(context.Background(), cluster, writeOptions{owner: manager}))
		now := thePool(t, w, "default")
		require.Equal(t, "a", now.Labels["team"])
		require.Equal(t, "true", now.Annotations[v1alpha1.PauseAnnotation])
	})
	t.Run("the same one is not", func(t *testing.T) {
		err := annotate(pool.DeepCopy(), v1alpha1.PauseAnnotation, "2026-11-25T18:00:00Z")(context.Background(), cluster, writeOptions{owner: manager})
		require.ErrorContains(t, err, `has changed meanwhile, from "" to "true": look again`)
	})
	t.Run("another object of the name is not touched", func(t *testing.T) {
		gone := thePool(t, w, "default")
		gone.UID = "before"
		err := annotate(gone, v1alpha1.PauseAnnotation, "")(context.Background(), cluster, writeOptions{owner: manager})
		require.ErrorContains(t, err, "it has been deleted meanwhile, and another of the same name has come")
	})
}
