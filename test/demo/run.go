package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"time"

	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

const (
	pool         = "demo"
	namespace    = "default"
	replicas     = 6
	minAvailable = 5
)

// faults that the demo makes, as the EKS Node Monitoring Agent and the node-problem-detector report them.
var faults = []corev1.NodeCondition{
	{Type: "KernelReady", Status: corev1.ConditionFalse, Reason: "ForkFailedOutOfPIDs", Message: "fork failed: out of process IDs"},
	{Type: "ReadonlyFilesystem", Status: corev1.ConditionTrue, Reason: "FilesystemIsReadOnly", Message: "EXT4-fs (nvme0n1p1): Remounting filesystem read-only"},
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	say("Starting a local cluster: etcd, Kubernetes, kwok and an unmodified Karpenter.")
	c, err := cluster.Up(ctx, cluster.Options{Name: "demo", Out: out})
	if err != nil {
		return err
	}
	if !o.keep {
		defer func() {
			// The cluster is taken down also where the demo was interrupted.
			if downErr := c.Down(context.WithoutCancel(ctx)); downErr != nil {
				err = errors.Join(err, downErr)
			}
		}()
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if err := c.Install(ctx); err != nil {
		return err
	}
	say("Starting the controller beside Karpenter, with the rights of its ClusterRole and no more.")
	controller, err := c.StartController(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, controller.Stop()) }()

	facts, err := firstAct(ctx, c, say, out)
	if err == nil && len(facts.Broken) == 0 {
		facts.Agent, err = secondAct(ctx, c, say, out)
		facts.Broken = append(facts.Broken, facts.Agent.broken()...)
	}
	if o.json != "" && facts != nil {
		if err := facts.write(o.json); err != nil {
			return err
		}
	}
	if err != nil || len(facts.Broken) > 0 {
		if tail, err := os.ReadFile(controller.Log); err == nil {
			say("\nThe end of the controller's log:\n%s", tail[max(0, len(tail)-4000):])
		}
		if facts != nil {
			err = errors.Join(append([]error{err}, lo.Map(facts.Broken, func(b string, _ int) error { return errors.New(b) })...)...)
		}
		return err
	}
	say("\nAll as promised.")
	if o.keep {
		facts.lookAround(c, say)
	}
	return nil
}

// lookAround says how to ask the cluster that is left up about what has happened in it.
func (f *facts) lookAround(c *cluster.Cluster, say func(string, ...any)) {
	say("\nThe cluster and Karpenter stay up, without the controller. To look around, with the programs in bin/:")
	say("  export PATH=\"$PWD/bin:$PATH\" KUBECONFIG=%s", c.Kubeconfig)
	say("  kubectl-autorepair history              # or kubectl autorepair, where kubectl is installed")
	for _, r := range f.Repairs {
		say("  kubectl-autorepair explain %s   # in the place of %s, which had %s", r.Replacement, r.NodeClaim, r.Cause)
	}
	say("  localcluster --name=%s kubectl get nodehealths,noderepairs,repairpolicies", c.Name)
	say("  localcluster --name=%s down", c.Name)
}

// firstAct breaks two nodes in what their conditions say.
func firstAct(ctx context.Context, c *cluster.Cluster, say func(string, ...any), out io.Writer) (*facts, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sick, err := setUp(ctx, c, say)
	if err != nil {
		return nil, err
	}
	story, err := watchStory(ctx, c, sick, out)
	if err != nil {
		return nil, err
	}
	if err := breakNodes(ctx, c, sick, story); err != nil {
		return nil, err
	}
	waitErr := story.wait(ctx)
	facts, err := story.finish(context.WithoutCancel(ctx), c)
	if err != nil {
		return nil, errors.Join(waitErr, err)
	}
	facts.print(out)
	return facts, waitErr
}

func (f *facts) write(path string) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("writing facts, %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing facts, %w", err)
	}
	return nil
}

// setUp makes the NodePool, the workload and the policy, and gives the two nodes that will break.
func setUp(ctx context.Context, c *cluster.Cluster, say func(string, ...any)) ([]corev1.Node, error) {
	say("Making a NodePool with the budget {nodes: \"1\", reasons: [Unhealthy]}, a Deployment of %d pods spread over %d nodes, and a PodDisruptionBudget of %d.", replicas, replicas, minAvailable)
	spread := func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Affinity = nil
		d.Spec.Template.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: d.Spec.Selector,
		}}
	}
	policy := cluster.RepairPolicy(pool, func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].Tolerate = metav1.Duration{Duration: 5 * time.Second}
		p.Spec.Replacement.VerifyFor = &metav1.Duration{Duration: 10 * time.Second}
	})
	err := c.Create(ctx, cluster.NodeClass(pool), cluster.NodePool(pool), policy,
		cluster.PodDisruptionBudget(namespace, pool, minAvailable), cluster.Deployment(namespace, pool, replicas, spread))
	if err != nil {
		return nil, err
	}
	start := time.Now()
	nodes := &corev1.NodeList{}
	err = wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		deployment := &appsv1.Deployment{}
		if err := c.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: pool}, deployment); err != nil {
			return false, fmt.Errorf("reading the Deployment, %w", err)
		}
		if deployment.Status.AvailableReplicas < replicas {
			return false, nil
		}
		if err := c.Client.List(ctx, nodes, client.MatchingLabels{karpv1.NodePoolLabelKey: pool, karpv1.NodeInitializedLabelKey: "true"}); err != nil {
			return false, fmt.Errorf("listing Nodes, %w", err)
		}
		return len(nodes.Items) >= replicas, nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for %d nodes of Karpenter's, %w", replicas, err)
	}
	say("Karpenter made %d nodes in %.0f s.", len(nodes.Items), time.Since(start).Seconds())
	sort.Slice(nodes.Items, func(i, j int) bool { return nodes.Items[i].Name < nodes.Items[j].Name })
	return nodes.Items[:len(faults)], nil
}

func breakNodes(ctx context.Context, c *cluster.Cluster, sick []corev1.Node, story *story) error {
	for i, node := range sick {
		if err := c.SetNodeCondition(ctx, node.Name, faults[i]); err != nil {
			return err
		}
		story.broke(node.Name, faults[i])
	}
	return nil
}
