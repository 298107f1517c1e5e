package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/machine"
)

const (
	machinePool = "machine"
	card        = "eth1"
	reasonDown  = "InterfaceNotUp"
	// toleration of the second act, from the start of the fault on; the default policy has 30 minutes.
	toleration = 20 * time.Second
	// backAfter is when the second run takes the link up again: after the NodeClaim says False, before the toleration.
	backAfter = 15 * time.Second
	// agentConfig makes the second interface count as a network card, although it is none of a device, and leaves out
	// what a network namespace does not have of its own: faults of this computer are not those of the machine.
	agentConfig = `detectors:
  interfaces: {include: ["eth1"]}
  disabled: [kernel-log, kubelet-log, containerd-log, systemd-log, ipamd-log, kube-proxy-log, network-settings, ipamd, kube-proxy,
    mounts, xfs-free-space, disks, processes, clock, memory-errors, container-runtime, kubelet-health, systemd-units, nvidia]
`
)

var networking = health.ConditionType(v1alpha1.CategoryNetworking)

// secondAct takes an interface down: for good, and for less than the toleration.
func secondAct(ctx context.Context, c *cluster.Cluster, say func(string, ...any), out io.Writer) (*agentFacts, error) {
	f := &agentFacts{}
	if f.Skipped = machine.Missing(); f.Skipped != "" {
		say("\nSECOND ACT SKIPPED (an agent whose interface is taken down): %s.", f.Skipped)
		return f, nil
	}
	say("\nSecond act: an agent runs on a machine of its own (a network namespace with two interfaces), joined to a node of the")
	say("cluster, and the second interface of that machine is taken down. The RepairPolicy tolerates it for %s; the default", toleration)
	say("policy, as EKS auto repair, for 30m.")
	policy := cluster.RepairPolicy(machinePool, func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].Tolerate = metav1.Duration{Duration: toleration}
	})
	err := c.Create(ctx, cluster.NodeClass(machinePool), cluster.NodePool(machinePool), policy, cluster.Deployment(namespace, machinePool, 1))
	if err != nil {
		return f, err
	}
	if err := f.linkStaysDown(ctx, c, out); err != nil {
		return f, err
	}
	say("\nOnce more, with the new node and a new machine; this time the link comes back before the toleration has passed.")
	if err := f.linkComesBack(ctx, c, out); err != nil {
		return f, err
	}
	f.judge()
	f.print(out)
	return f, nil
}

// linkStaysDown is the first run: the node is replaced.
func (f *agentFacts) linkStaysDown(ctx context.Context, c *cluster.Cluster, out io.Writer) error {
	return onMachine(ctx, c, out, func(ctx context.Context, m *machine.Machine, s *story) error {
		if err := s.linkDown(m); err != nil {
			return err
		}
		if err := s.countDown(ctx, toleration); err != nil {
			return err
		}
		if err := s.wait(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		f.Found, f.False = s.seen["finding"].Seconds(), s.seen["False"].Seconds()
		f.NodeClaimsMade = len(s.claims) - s.before
		for _, repair := range s.repairs {
			f.Repairs = append(f.Repairs, factsOf(repair))
			f.Admitted = s.seen["repair/"+repair.Name].Seconds()
		}
		return nil
	})
}

// linkComesBack is the second run: the node is left alone.
func (f *agentFacts) linkComesBack(ctx context.Context, c *cluster.Cluster, out io.Writer) error {
	return onMachine(ctx, c, out, func(ctx context.Context, m *machine.Machine, s *story) error {
		before := s.transitions()
		if err := s.linkDown(m); err != nil {
			return err
		}
		if err := s.countDown(ctx, backAfter); err != nil {
			return err
		}
		if err := m.Up(card); err != nil {
			return err
		}
		s.mu.Lock()
		s.tell("HEALED     $ ip link set %s up", card)
		s.mu.Unlock()
		up := time.Since(s.start)
		// Well beyond the toleration.
		if err := sleep(ctx, toleration+8*time.Second-up); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tell("ALONE      the toleration has passed; Node %s is left alone", s.sick[0].Name)
		f.FalseAgain, f.True = s.seen["False"].Seconds(), (s.seen["True"] - up).Seconds()
		f.TransitionsOfSecondRun = len(s.moved) - before
		f.RepairsOfSecondRun = len(s.repairs)
		return nil
	})
}

// onMachine runs an agent on a machine of its own, as that of the pool's only node, and tells what happens meanwhile.
func onMachine(ctx context.Context, c *cluster.Cluster, out io.Writer, run func(context.Context, *machine.Machine, *story) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	node, err := onlyNode(ctx, c)
	if err != nil {
		return err
	}
	m, err := machine.New("demo", c.Address())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Remove()) }()
	agent, err := c.StartAgent(ctx, cluster.AgentOptions{Node: node.Name, Machine: m, Config: agentConfig})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, agent.Stop()) }()
	fmt.Fprintf(out, "An agent plays that of Node %s, with the rights of its ClusterRole and no more.\n", node.Name)
	s, err := watchStory(ctx, c, []corev1.Node{*node}, out)
	if err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return s.transitions() > 0, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the agent to say that networking is well, %w", err)
	}
	return run(ctx, m, s)
}

// onlyNode of the pool, once the one before it is gone.
func onlyNode(ctx context.Context, c *cluster.Cluster) (*corev1.Node, error) {
	nodes, claims := &corev1.NodeList{}, &karpv1.NodeClaimList{}
	of := client.MatchingLabels{karpv1.NodePoolLabelKey: machinePool}
	err := wait.PollUntilContextTimeout(ctx, 300*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		if err := c.Client.List(ctx, claims, of); err != nil {
			return false, fmt.Errorf("listing NodeClaims, %w", err)
		}
		if err := c.Client.List(ctx, nodes, of); err != nil {
			return false, fmt.Errorf("listing Nodes, %w", err)
		}
		return len(nodes.Items) == 1 && len(claims.Items) == 1 && claims.Items[0].StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for the node of NodePool %q, %w", machinePool, err)
	}
	return &nodes.Items[0], nil
}

// linkDown is the fault.
func (s *story) linkDown(m *machine.Machine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	if err := m.Down(card); err != nil {
		return err
	}
	s.tell("BROKEN     $ ip link set %s down      (on the machine of Node %s)", card, s.sick[0].Name)
	return nil
}

// countDown tells of the toleration until so long after the fault.
func (s *story) countDown(ctx context.Context, until time.Duration) error {
	for left := toleration - 8*time.Second; left > toleration-until; left -= 4 * time.Second {
		if err := sleep(ctx, time.Until(s.start.Add(toleration-left))); err != nil {
			return err
		}
		s.mu.Lock()
		s.tell("TOLERATED  for %.0f s more", left.Seconds())
		s.mu.Unlock()
	}
	return sleep(ctx, time.Until(s.start.Add(until)))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting, %w", ctx.Err())
	}
}

// nodeHealth tells of what an agent finds.
func (s *story) nodeHealth(_ context.Context, object client.Object, _ bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.told["start"] || object.GetName() != s.sick[0].Name {
		return
	}
	for _, f := range object.(*v1alpha1.NodeHealth).Findings {
		if f.Reason != reasonDown {
			continue
		}
		if f.Severity == v1alpha1.SeverityWarning {
			s.once("finding", "SEEN       NodeHealth %s: %s %s (%s): %s", object.GetName(), f.Reason, f.Subject, f.Severity, f.Message)
		} else {
			s.once("confirmed", "CONFIRMED  NodeHealth %s: %s %s (%s)", object.GetName(), f.Reason, f.Subject, f.Severity)
		}
	}
}

// networkingOf notes how the condition that the agent's findings make moves.
func (s *story) networkingOf(claim *karpv1.NodeClaim) {
	condition := claim.StatusConditions().Get(networking)
	if condition == nil {
		return
	}
	s.moved[condition.LastTransitionTime.Time] = true
	switch {
	case condition.IsFalse():
		s.told["wasFalse"] = true
		if _, ok := s.seen["False"]; !ok {
			s.seen["False"] = time.Since(s.start)
		}
	case condition.IsTrue() && s.told["wasFalse"]:
		s.once("True", "WELL       NodeClaim %s: NetworkingReady is True again: %s", claim.Name, condition.Message)
	}
}

// transitions counts the times at which NetworkingReady has moved.
func (s *story) transitions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.moved)
}
