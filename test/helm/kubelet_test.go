package helm

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// kubelet plays the node that is not Karpenter's, where the controllers run. Of a pod of ours it starts the program as a
// process, with the pod's arguments and ServiceAccount, and tells how that goes; other pods it says to run. The nodes of
// Karpenter's are kwok's.
type kubelet struct {
	c    *cluster.Cluster
	node string

	mu   sync.Mutex
	pods map[types.UID]context.CancelFunc
	wait sync.WaitGroup
}

const systemNode = "system"

// startKubelet adds the node, and takes it away at the end of the test.
func startKubelet(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: systemNode, Labels: map[string]string{
		corev1.LabelHostname: systemNode, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", "example.com/role": "system",
	}}}
	require.NoError(t, c.Client.Create(t.Context(), n))
	stored := n.DeepCopy()
	n.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("50")}
	n.Status.Allocatable = n.Status.Capacity
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
	require.NoError(t, c.Client.Status().Patch(t.Context(), n, client.MergeFrom(stored)))
	ctx, cancel := context.WithCancel(context.Background())
	k := &kubelet{c: c, node: systemNode, pods: map[types.UID]context.CancelFunc{}}
	k.wait.Go(func() { k.run(ctx) })
	t.Cleanup(func() {
		cancel()
		k.wait.Wait()
		require.NoError(t, c.Client.Delete(context.Background(), n))
	})
}

// run looks at the pods of the node until the context ends.
func (k *kubelet) run(ctx context.Context) {
	for ctx.Err() == nil {
		_ = k.heartbeat(ctx) // the next one comes soon
		pods := &corev1.PodList{}
		if err := k.c.Client.List(ctx, pods, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("spec.nodeName", k.node)}); err == nil {
			for i := range pods.Items {
				k.look(ctx, &pods.Items[i])
			}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (k *kubelet) heartbeat(ctx context.Context) error {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: k.node}}
	if err := k.c.Client.Get(ctx, client.ObjectKeyFromObject(lease), lease); client.IgnoreNotFound(err) != nil {
		return err
	}
	lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: ptr.To(k.node), LeaseDurationSeconds: ptr.To[int32](40), RenewTime: ptr.To(metav1.NowMicro())}
	if lease.ResourceVersion == "" {
		return k.c.Client.Create(ctx, lease)
	}
	return k.c.Client.Update(ctx, lease)
}

// look starts a pod that is new, and ends one that is to go.
func (k *kubelet) look(ctx context.Context, pod *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	end, known := k.pods[pod.UID]
	switch {
	case !pod.DeletionTimestamp.IsZero() && known:
		end()
	case !pod.DeletionTimestamp.IsZero():
		_ = k.remove(ctx, pod) // it is tried again as long as it is there
	case !known && pod.Status.Phase == corev1.PodPending:
		podCtx, end := context.WithCancel(ctx)
		k.pods[pod.UID] = end
		k.wait.Go(func() {
			defer end()
			if err := k.play(podCtx, pod); err != nil && ctx.Err() == nil {
				_ = k.tell(ctx, pod, corev1.PodFailed, err.Error()) // the test sees that it does not run
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			delete(k.pods, pod.UID)
		})
	}
}

// play runs a pod until its context ends or, if it is one that ends, its program has.
func (k *kubelet) play(ctx context.Context, pod *corev1.Pod) error {
	container := pod.Spec.Containers[0]
	account := client.ObjectKey{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}
	switch container.Name {
	case "controller":
		args := append(container.Args, "--metrics-bind-address=0", "--health-probe-bind-address=0", "--leader-election-namespace="+pod.Namespace)
		return k.restart(ctx, pod, account, args)
	case "cleanup":
		program, err := k.c.StartControllerAs(ctx, account, pod.Name, func(context.Context) bool { return true }, container.Args...)
		if err == nil {
			err = program.Wait()
		}
		if err != nil {
			return err
		}
		return k.tell(ctx, pod, corev1.PodSucceeded, "")
	default:
		if err := k.tell(ctx, pod, corev1.PodRunning, ""); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
}

// restart runs a program anew whenever it ends, as a kubelet does.
func (k *kubelet) restart(ctx context.Context, pod *corev1.Pod, account client.ObjectKey, args []string) error {
	for ctx.Err() == nil {
		program, err := k.c.StartControllerAs(ctx, account, pod.Name, func(context.Context) bool { return true }, args...)
		if err != nil {
			return err
		}
		if err := k.tell(ctx, pod, corev1.PodRunning, ""); err != nil {
			program.Kill()
			return err
		}
		ended := make(chan struct{})
		go func() { _ = program.Wait(); close(ended) }()
		select {
		case <-ended:
			time.Sleep(time.Second)
		case <-ctx.Done():
			return program.Stop()
		}
	}
	return nil
}

func (k *kubelet) tell(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase, message string) error {
	ready := corev1.ConditionFalse
	state := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: string(phase), Message: message}}
	switch phase {
	case corev1.PodRunning:
		ready, state = corev1.ConditionTrue, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	case corev1.PodFailed:
		state.Terminated.ExitCode = 1
	default:
	}
	stored := pod.DeepCopy()
	pod.Status.Phase, pod.Status.Message = phase, message
	pod.Status.Conditions = nil
	for _, t := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: t, Status: ready, LastTransitionTime: metav1.Now()})
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image, Ready: ready == corev1.ConditionTrue, State: state}}
	if err := k.c.Client.Status().Patch(ctx, pod, client.MergeFrom(stored)); err != nil {
		return fmt.Errorf("telling of pod %s, %w", pod.Name, err)
	}
	return nil
}

func (k *kubelet) remove(ctx context.Context, pod *corev1.Pod) error {
	return client.IgnoreNotFound(k.c.Client.Delete(ctx, pod, client.GracePeriodSeconds(0), client.Preconditions{UID: &pod.UID}))
}
