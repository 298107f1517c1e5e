package insideaws

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeaws"
)

// What happens to a NodeClaim, beside the calls of EC2.
const (
	chosen      = "chosen for being unhealthy"
	initialized = "initialized"
	deleted     = "deleted"
)

// event that the test has seen: of a NodeClaim, or a call of EC2.
type event struct {
	at   time.Time
	what string
	// who is the name of a NodeClaim, or the instance that a call was about.
	who string
	// instance of the NodeClaim.
	instance string
}

func (e event) String() string {
	return fmt.Sprintf("%s %s %s %s", e.at.Format("15:04:05.000"), e.what, e.who, e.instance)
}

// atOnce is how many instances were given up at most at any moment, from when the queue took them: Karpenter's budget counts
// none any more of which the end has been asked for.
func atOnce(log []event) int {
	disrupted, most := map[string]bool{}, 0
	for _, e := range log {
		switch e.what {
		case chosen, deleted:
			disrupted[e.instance] = true
		case "ec2:TerminateInstances":
			delete(disrupted, e.who)
		}
		most = max(most, len(disrupted))
	}
	return most
}

// follow plays the kubelets of the instances and watches the NodeClaims until the test ends. The function gives all
// that has happened so far, oldest first.
func follow(ctx context.Context, t *testing.T, c *cluster.Cluster, aws *fakeaws.AWS) func() []event {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	watcher, err := c.Client.Watch(ctx, &karpv1.NodeClaimList{})
	require.NoError(t, err)
	var mu sync.Mutex
	var seen []event
	var done sync.WaitGroup
	done.Go(func() {
		said := map[string]bool{}
		for e := range watcher.ResultChan() {
			claim, ok := e.Object.(*karpv1.NodeClaim)
			if !ok {
				continue
			}
			mu.Lock()
			for _, what := range shows(claim) {
				if key := what + claim.Name; !said[key] {
					said[key] = true
					seen = append(seen, event{at: time.Now(), what: what, who: claim.Name, instance: filepath.Base(claim.Status.ProviderID)})
				}
			}
			mu.Unlock()
		}
	})
	done.Go(func() { playKubelets(ctx, t, c, aws) })
	t.Cleanup(func() { cancel(); watcher.Stop(); done.Wait() })
	return func() []event {
		mu.Lock()
		defer mu.Unlock()
		all := slices.Clone(seen)
		for _, change := range aws.Changes() {
			for _, instance := range change.Instances {
				all = append(all, event{at: change.At, what: change.Action, who: instance})
			}
		}
		slices.SortStableFunc(all, func(a, b event) int { return a.at.Compare(b.at) })
		return all
	}
}

// shows is what a NodeClaim shows to have happened to it.
func shows(claim *karpv1.NodeClaim) []string {
	var out []string
	conditions := claim.StatusConditions(status.WithObservedOnly())
	if reason := conditions.Get(karpv1.ConditionTypeDisruptionReason); reason.IsTrue() && reason.Reason == string(karpv1.DisruptionReasonUnhealthy) {
		out = append(out, chosen)
	}
	if conditions.Get(karpv1.ConditionTypeInitialized).IsTrue() {
		out = append(out, initialized)
	}
	if !claim.DeletionTimestamp.IsZero() {
		out = append(out, deleted)
	}
	return out
}

// playKubelets registers a Node for each instance that is launched, as its kubelet does; kwok keeps it Ready. With a
// reboot the fault goes.
func playKubelets(ctx context.Context, t *testing.T, c *cluster.Cluster, aws *fakeaws.AWS) {
	seen := map[string]int{} // boots of each instance
	for ; ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		for _, instance := range running(aws) {
			if seen[instance.ID] == instance.Reboots+1 {
				continue
			}
			if err := boot(ctx, c, instance); err != nil {
				if ctx.Err() == nil {
					t.Errorf("booting %s: %v", instance.ID, err)
				}
				continue
			}
			seen[instance.ID] = instance.Reboots + 1
		}
	}
}

func boot(ctx context.Context, c *cluster.Cluster, instance fakeaws.Instance) error {
	node := nodeOf(instance)
	if instance.Reboots == 0 {
		return client.IgnoreAlreadyExists(c.Client.Create(ctx, node))
	}
	stored := &corev1.Node{}
	if err := c.Client.Get(ctx, client.ObjectKeyFromObject(node), stored); err != nil {
		return err
	}
	booted := stored.DeepCopy()
	booted.Status.NodeInfo.BootID = node.Status.NodeInfo.BootID
	if err := c.Client.Status().Patch(ctx, booted, client.MergeFrom(stored)); err != nil {
		return err
	}
	return c.Heal(ctx, node.Name)
}

func nodeOf(instance fakeaws.Instance) *corev1.Node {
	has := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("3500Mi"),
		corev1.ResourcePods: resource.MustParse("29"), corev1.ResourceEphemeralStorage: resource.MustParse("20Gi"),
	}
	name := "ip-" + instance.ID[len(instance.ID)-4:]
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux",
				corev1.LabelInstanceTypeStable: instance.Type, corev1.LabelTopologyZone: instance.Zone,
			},
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		},
		Spec: corev1.NodeSpec{
			ProviderID: instance.ProviderID(),
			// What a kubelet of Karpenter's registers with.
			Taints: []corev1.Taint{karpv1.UnregisteredNoExecuteTaint},
		},
		Status: corev1.NodeStatus{
			Capacity: has, Allocatable: lo.Assign(has), NodeInfo: corev1.NodeSystemInfo{BootID: fmt.Sprintf("boot-%d", instance.Reboots)},
		},
	}
}
