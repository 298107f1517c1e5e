package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	agentpkg "github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/node/detection"
	detectors "github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/rights"
)

// stolen is what somebody holds who has taken over a node: the token of its agent, and all the time in the world.
type stolen struct {
	*scenario
	node *corev1.Node
	as   client.Client
}

// steal begins a scenario whose node the controller has spoken of already, so that there is something to spoil.
func steal(t *testing.T, name string) stolen {
	t.Helper()
	s := begin(t, name)
	node := &corev1.Node{}
	require.NoError(t, s.c.Client.Get(s.ctx, client.ObjectKey{Name: s.node}, node))
	v := stolen{scenario: s, node: node, as: s.bearing(node, rest.ImpersonationConfig{})}
	s.eventually("the controller has spoken of the node", func() error {
		if h := s.health(); !slices.ContainsFunc(h.Sources, func(source v1alpha1.Source) bool { return source.Name == detectors.SourceKubelet }) {
			return errors.New("it has not")
		}
		return nil
	})
	s.eventually("the admission policy is in force", func() error {
		if err := v.apply(v.as, of("another-node", node)); !apierrors.IsInvalid(err) {
			return fmt.Errorf("the answer was: %v", err) //nolint:errorlint // may be nil
		}
		return nil
	})
	return v
}

// bearing is a client with the token of an agent, bound as given.
func (s *scenario) bearing(bound client.Object, as rest.ImpersonationConfig) client.Client {
	s.Helper()
	token, err := s.c.Token(s.ctx, cluster.AgentServiceAccount, bound)
	require.NoError(s, err)
	with, err := s.c.ClientWith(token, as)
	require.NoError(s, err)
	return with
}

// of is a NodeHealth as an agent writes it.
func of(name string, owner *corev1.Node, overrides ...func(*v1alpha1.NodeHealth)) *v1alpha1.NodeHealth {
	h := &v1alpha1.NodeHealth{
		ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: owner.Name, UID: owner.UID}}},
		Sources:    []v1alpha1.Source{{Name: "interfaces", State: v1alpha1.SourceActive}},
	}
	h.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("NodeHealth"))
	for _, override := range overrides {
		override(h)
	}
	return h
}

// lie is a finding of the agent's.
func lie(source string, i int) v1alpha1.Finding {
	return v1alpha1.Finding{
		Source: source, Reason: "InterfaceNotUp", Subject: fmt.Sprintf("eth%d", i), Category: v1alpha1.CategoryNetworking,
		Severity: v1alpha1.SeverityFatal, Since: metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second)), Count: 1,
	}
}

// apply writes as the agent does.
func (v stolen) apply(with client.Client, h *v1alpha1.NodeHealth, options ...client.PatchOption) error {
	return with.Patch(v.ctx, h, client.Apply, append([]client.PatchOption{client.FieldOwner(agentpkg.FieldManager), client.ForceOwnership}, options...)...) //nolint:staticcheck,wrapcheck // as the agent does
}

// patch writes past the rules of server-side apply.
func (v stolen) patch(kind types.PatchType, body string, options ...client.PatchOption) error {
	h := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: v.node.Name}}
	return v.as.Patch(v.ctx, h, client.RawPatch(kind, []byte(body)), append([]client.PatchOption{client.FieldOwner(agentpkg.FieldManager)}, options...)...) //nolint:wrapcheck // a test's
}

func TestTheTokenOfAnAgentIsGoodForItsOwnNodeAlone(t *testing.T) {
	t.Parallel()
	v := steal(t, "rights")
	s := v.scenario
	require.NoError(t, v.apply(v.as, of(s.node, v.node)), "its own node")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.AgentServiceAccount.Namespace, Name: "rights"}}
	pod.Spec = corev1.PodSpec{
		NodeName: s.node, ServiceAccountName: cluster.AgentServiceAccount.Name,
		Containers: []corev1.Container{{Name: "agent", Image: "agent"}}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
	}
	require.NoError(t, s.c.Create(s.ctx, pod))
	t.Cleanup(func() { _ = s.c.Client.Delete(context.Background(), pod) })
	ofPod := s.bearing(pod, rest.ImpersonationConfig{})
	require.NoError(t, v.apply(ofPod, of(s.node, v.node)), "its own node, with the token that a pod is given")

	other := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "rights-other"}}
	require.NoError(t, s.c.Create(s.ctx, other))
	require.NoError(t, s.c.Create(s.ctx, of(other.Name, other)))
	t.Cleanup(func() { _ = s.c.Client.Delete(context.Background(), other) })
	controllerName := rest.ImpersonationConfig{UserName: rights.UserName(cluster.ServiceAccount)}
	otherNode := rest.ImpersonationConfig{
		UserName: rights.UserName(cluster.AgentServiceAccount), Extra: map[string][]string{"authentication.kubernetes.io/node-name": {other.Name}},
	}
	generated := of("", v.node)
	generated.GenerateName = s.node
	for what, try := range map[string]struct {
		err  error
		want string
	}{
		"another node's":                           {v.apply(v.as, of(other.Name, other)), "may not write the NodeHealth of rights-other"},
		"another node's, with a pod's token":       {v.apply(ofPod, of(other.Name, other)), "may not write the NodeHealth of rights-other"},
		"a forged name":                            {v.apply(v.as, of("no-such-node", v.node)), "may not write the NodeHealth of no-such-node"},
		"a name that begins as its own":            {v.as.Create(s.ctx, generated, client.FieldOwner(agentpkg.FieldManager)), "may not write the NodeHealth of"},
		"a token that is bound to no node":         {v.apply(s.bearing(nil, rest.ImpersonationConfig{}), of(s.node, v.node)), "bound to no node"},
		"the stolen name of the controller":        {v.apply(s.bearing(v.node, controllerName), of(other.Name, other)), "cannot impersonate"},
		"a stolen name of another node's agent":    {v.apply(s.bearing(v.node, otherNode), of(other.Name, other)), "cannot impersonate"},
		"the stolen field manager":                 {v.apply(v.as, of(s.node, v.node), client.FieldOwner(detection.FieldManager)), "writes as the field manager"},
		"a field manager of its own":               {v.apply(v.as, of(s.node, v.node), client.FieldOwner("somebody")), "writes as the field manager"},
		"no field manager, by the default":         {v.patch(types.MergePatchType, `{"bootID":"x"}`, client.FieldOwner("")), "writes as the field manager"},
		"the token of the controller's, asked for": {v.as.SubResource("token").Create(s.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "autorepair", Name: "autorepair-controller"}}, &authenticationv1.TokenRequest{}), "cannot create"},
	} {
		t.Run(what, func(t *testing.T) {
			require.ErrorContains(t, try.err, try.want)
			require.True(t, apierrors.IsInvalid(try.err) || apierrors.IsForbidden(try.err), try.err)
		})
	}
}

func TestAnAgentSpeaksForItselfAlone(t *testing.T) {
	t.Parallel()
	v := steal(t, "forge")
	s := v.scenario
	full := func(h *v1alpha1.NodeHealth) {
		for i := range 200 {
			f := lie("interfaces", i)
			f.Message = strings.Repeat("m", 900)
			f.Evidence = slices.Repeat([]string{strings.Repeat("e", 512)}, 5)
			h.Findings = append(h.Findings, f)
		}
	}
	require.NoError(t, v.apply(v.as, of(s.node, v.node, full)), "all that an agent ever writes")
	require.NoError(t, v.apply(v.as, of(s.node, v.node)), "and nothing again")
	out, err := s.c.Kubectl(s.ctx, "label", "nodehealth", s.node, "team=a")
	require.NoError(t, err, out)
	require.NoError(t, v.apply(v.as, of(s.node, v.node)), "beside the label of a person")
	before := s.health()

	with := func(change func(h *v1alpha1.NodeHealth)) error { return v.apply(v.as, of(s.node, v.node, change)) }
	for what, try := range map[string]struct {
		err  error
		want string
	}{
		"a source of the controller's": {with(func(h *v1alpha1.NodeHealth) {
			h.Sources = append(h.Sources, v1alpha1.Source{Name: detectors.SourceKubelet, State: v1alpha1.SourceUnavailable})
		}), "may not change what the controller says"},
		"a finding of the controller's": {with(func(h *v1alpha1.NodeHealth) { h.Findings = append(h.Findings, lie(detectors.SourceNodeConditions, 0)) }), "may not change what the controller says"},
		"a person's request": {with(func(h *v1alpha1.NodeHealth) {
			f := lie(detectors.SourceRepairRequest, 0)
			f.Reason, f.Subject, f.Category = detectors.ReasonRepairRequested, "Replace", v1alpha1.CategoryRequest
			h.Findings = append(h.Findings, f)
		}), "may not change what the controller says"},
		"a person's request, of a source of its own": {with(func(h *v1alpha1.NodeHealth) {
			f := lie("interfaces", 0)
			f.Reason, f.Subject, f.Category = detectors.ReasonRepairRequested, "Replace", v1alpha1.CategoryRequest
			h.Findings = append(h.Findings, f)
		}), "in the name of a person"},
		"nothing of what the controller says": {v.patch(types.MergePatchType, `{"sources":[],"findings":[]}`), "may not change what the controller says"},
		"the controller's entry, in place":    {v.patch(types.JSONPatchType, `[{"op":"replace","path":"/sources/0/state","value":"Unavailable"},{"op":"replace","path":"/sources/1/state","value":"Unavailable"}]`), "may not change what the controller says"},
		"who has written what":                {v.patch(types.MergePatchType, `{"metadata":{"managedFields":[{}]}}`), "may not take from the controller"},
		"more findings than there is room for": {with(func(h *v1alpha1.NodeHealth) {
			for i := range 225 {
				h.Findings = append(h.Findings, lie("interfaces", i))
			}
		}), "no more than 224 findings"},
		"more sources than there is room for": {with(func(h *v1alpha1.NodeHealth) {
			for i := range 49 {
				h.Sources = append(h.Sources, v1alpha1.Source{Name: fmt.Sprintf("s%d", i), State: v1alpha1.SourceActive})
			}
		}), "48 sources"},
		"a finalizer, so that it never goes": {with(func(h *v1alpha1.NodeHealth) { h.Finalizers = []string{"example.com/stay"} }), "may not change finalizers"},
		"a label":                            {with(func(h *v1alpha1.NodeHealth) { h.Labels = map[string]string{"a": "b"} }), "may not change finalizers, labels or annotations"},
		"the label of a person, taken away":  {v.patch(types.MergePatchType, `{"metadata":{"labels":null}}`), "may not change finalizers, labels or annotations"},
		"an annotation of the controller's": {with(func(h *v1alpha1.NodeHealth) {
			h.Annotations = map[string]string{detectors.FlipsAnnotation: "[]"}
		}), "may not change finalizers, labels or annotations"},
		"an annotation as long as may be": {with(func(h *v1alpha1.NodeHealth) { h.Annotations = map[string]string{"a": strings.Repeat("x", 200<<10)} }), "may not change finalizers, labels or annotations"},
	} {
		t.Run(what, func(t *testing.T) {
			require.ErrorContains(t, try.err, try.want)
			require.True(t, apierrors.IsInvalid(try.err), try.err)
		})
	}
	require.Equal(t, theirs(before), theirs(s.health()), "what the controller says stands as before")
}

func TestANodeHealthIsOwnedByItsNodeAlone(t *testing.T) {
	t.Parallel()
	v := steal(t, "owner")
	s := v.scenario
	// A Node that the controller does not speak of: there is nothing yet, and what is there would be judged by the
	// admission plugin OwnerReferencesPermissionEnforcement first, where a cluster has it.
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "owner-plain"}}
	require.NoError(t, s.c.Create(s.ctx, node))
	t.Cleanup(func() { _ = s.c.Client.Delete(context.Background(), node) })
	as := s.bearing(node, rest.ImpersonationConfig{})
	for what, change := range map[string]func(h *v1alpha1.NodeHealth){
		"no owner":                          func(h *v1alpha1.NodeHealth) { h.OwnerReferences = nil },
		"an owner that it is controlled by": func(h *v1alpha1.NodeHealth) { h.OwnerReferences[0].Controller = new(true) },
		"another owner besides": func(h *v1alpha1.NodeHealth) {
			h.OwnerReferences = append(h.OwnerReferences, metav1.OwnerReference{APIVersion: "karpenter.sh/v1", Kind: "NodePool", Name: "owner", UID: "1"})
		},
		"another Node besides": func(h *v1alpha1.NodeHealth) {
			h.OwnerReferences = append(h.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: s.node, UID: v.node.UID})
		},
		"another Node": func(h *v1alpha1.NodeHealth) { h.OwnerReferences[0].Name = s.node },
	} {
		t.Run(what, func(t *testing.T) {
			err := v.apply(as, of(node.Name, node, change))
			require.ErrorContains(t, err, "owned by its Node")
			require.True(t, apierrors.IsInvalid(err), err)
		})
	}
	t.Run("an owner that it keeps from going", func(t *testing.T) {
		err := v.apply(as, of(node.Name, node, func(h *v1alpha1.NodeHealth) { h.OwnerReferences[0].BlockOwnerDeletion = new(true) }))
		require.True(t, apierrors.IsInvalid(err) || apierrors.IsForbidden(err), err)
	})
	require.NoError(t, v.apply(as, of(node.Name, node)), "its Node it may name")
}

// theirs is what the controller says.
func theirs(h v1alpha1.NodeHealth) []v1alpha1.Source {
	return slices.DeleteFunc(h.Sources, func(s v1alpha1.Source) bool { return !slices.Contains(detectors.Sources, s.Name) })
}

func TestTheTokenOfAnAgentIsGoodForNothingElse(t *testing.T) {
	t.Parallel()
	v := steal(t, "else")
	s := v.scenario
	own := of(s.node, v.node)
	require.NoError(t, v.apply(v.as, own.DeepCopy()))
	pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "else"}}
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: s.claims()[0].Name}}
	merge := func(o client.Object, body string) error {
		return v.as.Patch(s.ctx, o, client.RawPatch(types.MergePatchType, []byte(body)))
	}
	for what, err := range map[string]error{
		"reading pods":                     v.as.List(s.ctx, &corev1.PodList{}),
		"listing Nodes":                    v.as.List(s.ctx, &corev1.NodeList{}),
		"reading Secrets":                  v.as.List(s.ctx, &corev1.SecretList{}),
		"reading ConfigMaps":               v.as.List(s.ctx, &corev1.ConfigMapList{}),
		"changing its Node":                merge(v.node.DeepCopy(), `{"metadata":{"labels":{"a":"b"}}}`),
		"changing its Node's status":       v.as.Status().Patch(s.ctx, v.node.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"status":{}}`))),
		"deleting its Node":                v.as.Delete(s.ctx, v.node.DeepCopy()),
		"reading its NodeHealth":           v.as.Get(s.ctx, client.ObjectKey{Name: s.node}, &v1alpha1.NodeHealth{}),
		"reading NodeHealths":              v.as.List(s.ctx, &v1alpha1.NodeHealthList{}),
		"writing over its NodeHealth":      v.as.Update(s.ctx, own.DeepCopy()),
		"its NodeHealth's status":          v.as.Status().Patch(s.ctx, own.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"status":{}}`))),
		"deleting its NodeHealth":          v.as.Delete(s.ctx, own.DeepCopy()),
		"deleting all NodeHealths":         v.as.DeleteAllOf(s.ctx, &v1alpha1.NodeHealth{}),
		"changing its NodeClaim":           merge(claim, `{"metadata":{"annotations":{"a":"b"}}}`),
		"deleting its NodeClaim":           v.as.Delete(s.ctx, claim),
		"pausing all repairs":              v.as.Create(s.ctx, pause),
		"reading RepairPolicies":           v.as.List(s.ctx, &v1alpha1.RepairPolicyList{}),
		"reading NodeRepairs":              v.as.List(s.ctx, &v1alpha1.NodeRepairList{}),
		"reading its own admission policy": v.as.Get(s.ctx, client.ObjectKey{Name: "autorepair-agent"}, &admissionregistrationv1.ValidatingAdmissionPolicy{}),
		"asking whose a token is":          v.as.Create(s.ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "x"}}),
	} {
		t.Run(what, func(t *testing.T) { require.True(t, apierrors.IsForbidden(err), "must be forbidden: %v", err) })
	}
	require.NoError(t, v.as.Get(s.ctx, client.ObjectKey{Name: s.node}, &corev1.Node{}), "its Node it reads")
}

func TestTheAdmissionPolicyKnowsTheSourcesOfTheController(t *testing.T) {
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	ofChart(t, "ValidatingAdmissionPolicy", policy)
	i := slices.IndexFunc(policy.Spec.Variables, func(v admissionregistrationv1.Variable) bool { return v.Name == "reserved" })
	var want []string
	for _, source := range append(slices.Clone(detectors.Sources), "ec2") { // test/aws holds the last to its program
		want = append(want, "'"+source+"'")
	}
	require.Equal(t, "["+strings.Join(want, ", ")+"]", policy.Spec.Variables[i].Expression)
	var text []string
	for _, validation := range policy.Spec.Validations {
		text = append(text, validation.Expression)
	}
	require.Contains(t, strings.Join(text, "\n"), "'"+agentpkg.FieldManager+"'")
	require.Contains(t, fmt.Sprint(policy.Spec.Variables), "'"+detection.FieldManager+"'")
}

func TestAnAgentOfANodeThatIsNotOursMakesItsNodeHealth(t *testing.T) {
	t.Parallel()
	needCluster(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "rights-plain"}}
	require.NoError(t, shared.Create(t.Context(), node))
	t.Cleanup(func() { _ = shared.Client.Delete(context.Background(), node) })
	agent, err := shared.StartAgent(t.Context(), cluster.AgentOptions{Node: node.Name, Config: cards})
	require.NoError(t, err)
	defer agent.Stop() //nolint:errcheck // nothing is left
	require.Eventually(t, func() bool {
		health := &v1alpha1.NodeHealth{}
		return shared.Client.Get(t.Context(), client.ObjectKey{Name: node.Name}, health) == nil && len(health.Sources) > 0
	}, patience, 100*time.Millisecond)
}
