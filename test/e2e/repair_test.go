package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// patch merges JSON into an object of the cluster.
func (s *scenario) patch(o client.Object, body string) {
	s.Helper()
	require.NoError(s, s.c.Client.Patch(s.ctx, o, client.RawPatch("application/merge-patch+json", []byte(body))))
}

func (s *scenario) annotateNode(node, body string) {
	s.Helper()
	s.patch(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, `{"metadata":{"annotations":`+body+`}}`)
}

// slowNodes makes new nodes of the NodeClass register late, so that a test can act meanwhile.
func (s *scenario) slowNodes(delay time.Duration) {
	s.Helper()
	class := cluster.NodeClass(s.name)
	s.patch(class, fmt.Sprintf(`{"spec":{"nodeRegistrationDelay":%q}}`, delay))
}

// deletions keeps the number of nodes of the pool that are disrupted at once, as long as the test runs.
func (s *scenario) neverMoreDisruptedThan(limit int) {
	watch, err := s.c.Client.Watch(s.ctx, &karpv1.NodeClaimList{}, client.MatchingLabels{karpv1.NodePoolLabelKey: s.name})
	require.NoError(s, err)
	deleting := map[string]bool{}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for event := range watch.ResultChan() {
			claim, ok := event.Object.(*karpv1.NodeClaim)
			if !ok {
				continue
			}
			if event.Type == "DELETED" {
				delete(deleting, claim.Name)
			} else if !claim.DeletionTimestamp.IsZero() {
				deleting[claim.Name] = true
			}
			if len(deleting) > limit {
				s.Errorf("%d nodes are being removed at once, the budget is %d", len(deleting), limit)
			}
		}
	}()
	s.Cleanup(func() { watch.Stop(); <-finished })
}

func TestASickNodeIsReplaced(t *testing.T) {
	t.Parallel()
	s := begin(t, "basic")
	s.policy()
	repair := s.sickNodeIsReplaced(s.pool(3)[0].Name)
	s.settles(3)

	evidence := repair.Status.Evidence
	require.NotNil(t, evidence)
	require.True(t, lo.ContainsBy(evidence.NodeConditions, func(c corev1.NodeCondition) bool { return c.Type == cluster.Fault.Type }), "the sick node's conditions are kept")
	require.NotEmpty(t, evidence.Pods)
	require.NotNil(t, evidence.NodeInfo)
	for _, condition := range []string{v1alpha1.RepairConditionFenced, v1alpha1.RepairConditionProvisioned, v1alpha1.RepairConditionTerminated, v1alpha1.RepairConditionReleased, v1alpha1.RepairConditionVerified, v1alpha1.RepairConditionSucceeded} {
		require.True(t, meta.IsStatusConditionTrue(repair.Status.Conditions, condition), "condition %s", condition)
	}
	provisioned := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionProvisioned)
	terminated := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionTerminated)
	require.False(t, terminated.LastTransitionTime.Before(&provisioned.LastTransitionTime), "the replacement stands before the sick node goes")
}

func TestTheReplacementOutlivesConsolidationWhilePodsArePendingAndANodeDrifts(t *testing.T) {
	t.Parallel()
	begin(t, "consolidation").replacementOutlivesConsolidation()
}

func (s *scenario) replacementOutlivesConsolidation() {
	s.Helper()
	nodes := s.pool(4, func(np *karpv1.NodePool) {
		np.Spec.Disruption.ConsolidateAfter = karpv1.MustParseNillableDuration("0s")
		np.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "1"}}
	})
	sick := nodes[0].Name
	before := map[string]bool{}
	for _, claim := range s.claims() {
		before[claim.Name] = true
	}
	s.policy()
	s.breakNode(sick)
	s.reaches(v1alpha1.PhaseFencing, v1alpha1.PhaseProvisioning, v1alpha1.PhaseWaiting, v1alpha1.PhaseTerminating)
	// Two more pods than nodes, and a node that Karpenter's drift wants: both while the repair is at work.
	s.patch(cluster.Deployment(s.name, s.name, 6), `{"spec":{"replicas":6}}`)
	drifted := s.claim(nodes[1].Name)
	require.NoError(s, s.c.Client.Patch(s.ctx, &drifted, client.RawPatch("application/merge-patch+json",
		[]byte(`{"metadata":{"annotations":{"karpenter.sh/nodepool-hash":"1"}}}`))))
	repair := s.repairEnds(v1alpha1.PhaseSucceeded)
	s.gone(sick)
	s.gone(nodes[1].Name)
	s.settles(6)
	require.Len(s, repair.Status.Replacements, 1, "exactly one replacement for the sick node")
	made := lo.Filter(s.claims(), func(c karpv1.NodeClaim, _ int) bool { return !before[c.Name] })
	require.Len(s, made, 4, "one for the sick node, one for the drifted, two for the new pods")
}

func TestARecoveredNodeIsLetGo(t *testing.T) {
	t.Parallel()
	s := begin(t, "recovers")
	node := s.pool(1)[0].Name
	s.annotateNode(node, `{"karpenter.sh/do-not-disrupt":"true","example.com/own":"kept"}`)
	s.slowNodes(time.Minute)
	s.policy()
	s.breakNode(node)
	repair := s.reaches(v1alpha1.PhaseProvisioning, v1alpha1.PhaseWaiting)
	s.eventually("the replacement is made", func() error {
		if len(s.claims()) != 2 {
			return fmt.Errorf("there are %d NodeClaims", len(s.claims()))
		}
		return nil
	})
	s.heal(node)
	s.repairEnds(v1alpha1.PhaseCanceled)
	s.eventually("the replacement is withdrawn and the fence is gone", func() error {
		if len(s.claims()) != 1 {
			return fmt.Errorf("there are %d NodeClaims", len(s.claims()))
		}
		got := &corev1.Node{}
		if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: node}, got); err != nil {
			return err
		}
		if lo.ContainsBy(got.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.UnhealthyTaintKey }) {
			return fmt.Errorf("the taint is there")
		}
		_, vetoed := got.Annotations[karpv1.DoNotRepairAnnotationKey]
		_, fenced := got.Annotations[v1alpha1.FenceOwnerAnnotation]
		if vetoed || fenced {
			return fmt.Errorf("annotations of the fence are there: %v", got.Annotations)
		}
		require.Equal(t, "true", got.Annotations[karpv1.DoNotDisruptAnnotationKey], "what stood there before is restored")
		require.Equal(t, "kept", got.Annotations["example.com/own"])
		return nil
	})
	require.Contains(t, s.onlyRepair().Name, repair.Name)
}

func TestTwoSickNodesAndABudgetOfOneGoOneAtATime(t *testing.T) {
	t.Parallel()
	s := begin(t, "one-at-a-time")
	nodes := s.pool(3)
	s.neverMoreDisruptedThan(1)
	s.policy()
	s.breakNode(nodes[0].Name)
	s.breakNode(nodes[1].Name)
	waits := ""
	s.eventually("one waits for the budget and says so", func() error {
		for _, node := range nodes[:2] {
			if _, ok := lo.Find(s.claims(), func(c karpv1.NodeClaim) bool { return c.Status.NodeName == node.Name }); !ok {
				continue
			}
			blocked := s.condition(node.Name, v1alpha1.ConditionRepairBlocked)
			if blocked.Reason == "DisruptionBudget" && !strings.Contains(blocked.Message, "starting now") {
				waits = node.Name
				return nil
			}
		}
		return fmt.Errorf("none does")
	})
	s.golden("budget-exhausted", waits)
	s.repairsEnd(v1alpha1.PhaseSucceeded, 2)
	s.settles(3)
	require.Len(t, s.repairs(), 2)
}

func TestTwoNotReadyNodesDoNotEatTheBudget(t *testing.T) {
	t.Parallel()
	s := begin(t, "not-ready")
	nodes := s.pool(3)
	s.policy()
	for _, node := range nodes[:2] {
		// With this label kwok no longer says that the node is ready, as with a kubelet that is not.
		s.patch(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}, `{"metadata":{"labels":{"kwok.x-k8s.io/stage":"unhealthy"}}}`)
		require.NoError(t, s.c.SetNodeCondition(s.ctx, node.Name, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "PLEG is not healthy"}))
	}
	s.repairsEnd(v1alpha1.PhaseSucceeded, 2)
	for _, repair := range s.repairs() {
		require.Contains(t, []string{"NodeNotReady", "NodeStatusUnknown"}, repair.Spec.Cause.Reason)
	}
	s.gone(nodes[0].Name)
	s.gone(nodes[1].Name)
}

func TestSmallPoolsAreRepaired(t *testing.T) {
	for _, size := range []int32{1, 2, 3, 5} {
		t.Run(fmt.Sprintf("%d nodes", size), func(t *testing.T) {
			t.Parallel()
			s := begin(t, fmt.Sprintf("small-%d", size))
			nodes := s.pool(size)
			s.policy(func(p *v1alpha1.RepairPolicy) { p.Spec.CorrelatedFailure = v1alpha1.CorrelatedFailureSpec{} })
			s.breakNode(nodes[0].Name)
			s.repairEnds(v1alpha1.PhaseSucceeded)
			s.settles(int(size))
		})
	}
}

func TestAnEmptyNodeIsReplacedByNothing(t *testing.T) {
	t.Parallel()
	s := begin(t, "empty")
	node := s.pool(1)[0].Name
	s.policy()
	s.patch(cluster.Deployment(s.name, s.name, 0), `{"spec":{"replicas":0}}`)
	s.eventually("the pod is gone", func() error {
		pods := &corev1.PodList{}
		if err := s.c.Client.List(s.ctx, pods, client.InNamespace(s.name)); err != nil {
			return err
		}
		if len(pods.Items) > 0 {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	s.breakNode(node)
	repair := s.repairEnds(v1alpha1.PhaseSucceeded)
	require.Empty(t, repair.Status.Replacements)
	s.gone(node)
	s.settles(0)
}

// Not parallel: while a claim does not launch, Karpenter launches nothing for the other tests either. That is why such
// a claim is withdrawn.
func TestAClaimThatCannotLaunchIsWithdrawnAndKarpenterGoesOn(t *testing.T) {
	s := begin(t, "unlaunchable")
	node := s.pool(1)[0].Name
	s.policy(func(p *v1alpha1.RepairPolicy) {
		p.Spec.Replacement.LaunchTimeout = &metav1.Duration{Duration: 10 * time.Second}
		p.Spec.Replacement.Attempts = lo.ToPtr[int32](2)
	})
	// From now on the NodePool asks for an instance type that the provider does not have.
	s.patch(cluster.NodePool(s.name), `{"spec":{"template":{"spec":{"requirements":[
		{"key":"node.kubernetes.io/instance-type","operator":"In","values":["no-such-type"]},
		{"key":"karpenter.sh/capacity-type","operator":"In","values":["on-demand"]}]}}}}`)
	s.breakNode(node)
	repair := s.repairEnds(v1alpha1.PhaseFailed)
	require.Len(t, repair.Status.Replacements, 2)
	for _, replacement := range repair.Status.Replacements {
		require.NotNil(t, replacement.WithdrawnAt, "replacement %s", replacement.NodeClaim)
		require.NotEmpty(t, replacement.Message)
	}
	s.eventually("only the sick node's claim is left", func() error {
		if claims := s.claims(); len(claims) != 1 {
			return fmt.Errorf("there are %d NodeClaims", len(claims))
		}
		return nil
	})
	got := &corev1.Node{}
	require.NoError(t, s.c.Client.Get(s.ctx, client.ObjectKey{Name: node}, got))
	require.NotContains(t, got.Annotations, v1alpha1.FenceOwnerAnnotation)

	other := begin(t, "unlaunchable-other")
	other.pool(1)
}

func TestPodsThatAPodDisruptionBudgetHoldsAreHonouredUpToTheDrainBound(t *testing.T) {
	t.Parallel()
	s := begin(t, "drain-bound")
	node := s.pool(1)[0].Name
	require.NoError(t, s.c.Create(s.ctx, cluster.PodDisruptionBudget(s.name, s.name, 1)))
	s.policy(func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].DrainBound = &metav1.Duration{Duration: 15 * time.Second}
	})
	s.breakNode(node)
	s.reaches(v1alpha1.PhaseTerminating)
	deleted := time.Now()
	repair := s.repairEnds(v1alpha1.PhaseSucceeded)
	require.GreaterOrEqual(t, time.Since(deleted), 10*time.Second, "the PodDisruptionBudget was honoured up to the bound")
	require.Len(t, repair.Status.Replacements, 1)
	s.settles(1)
}

func TestAPersonMayAskForARepair(t *testing.T) {
	t.Parallel()
	s := begin(t, "requested")
	node := s.pool(1)[0].Name
	s.policy(func(p *v1alpha1.RepairPolicy) { p.Spec.Rules[0].Tolerate.Duration = time.Hour })
	s.annotateNode(node, `{"autorepair.sh/repair":"Replace"}`)
	repair := s.repairEnds(v1alpha1.PhaseSucceeded)
	require.Equal(t, "RepairRequested", repair.Spec.Cause.Reason)
	s.gone(node)
	s.settles(1)
}

func TestPausingThePolicyLetsGoWhatIsFenced(t *testing.T) {
	t.Parallel()
	s := begin(t, "pause-midway")
	node := s.pool(1)[0].Name
	s.slowNodes(time.Minute)
	s.policy()
	s.breakNode(node)
	s.reaches(v1alpha1.PhaseProvisioning, v1alpha1.PhaseWaiting)
	s.patch(cluster.RepairPolicy(s.name), `{"spec":{"mode":"Paused"}}`)
	s.repairEnds(v1alpha1.PhaseCanceled)
	s.blocked(node, "Paused")
	s.eventually("the fence is gone", func() error {
		got := &corev1.Node{}
		if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: node}, got); err != nil {
			return err
		}
		if _, fenced := got.Annotations[v1alpha1.FenceOwnerAnnotation]; fenced {
			return fmt.Errorf("it is there")
		}
		return nil
	})
}

func TestADrainBoundEndsAVolumeThatStaysOnADeadNode(t *testing.T) {
	t.Parallel()
	s := begin(t, "volume")
	class := "volume-none"
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		StorageClassName: class, PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "test.autorepair.sh", VolumeHandle: s.name}},
	}}
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: s.name, Namespace: s.name}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class, VolumeName: s.name,
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}}
	require.NoError(t, s.c.Create(s.ctx, pv, pvc))
	t.Cleanup(func() { _ = s.c.Client.Delete(s.ctx, pv) })
	node := s.pool(1, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: s.name}}}}
	})[0].Name
	s.attach(node)
	s.policy(func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].DrainBound = &metav1.Duration{Duration: 20 * time.Second}
	})
	s.breakNode(node)
	s.reaches(v1alpha1.PhaseTerminating)
	s.repairEnds(v1alpha1.PhaseSucceeded)
	s.gone(node)
}
