package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/machine"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// patience is how long an expected thing may take; generous, since the computer may be slow.
const patience = 90 * time.Second

// cards makes eth1, a veth, count as a card of the node.
const cards = `detectors: {interfaces: {include: ["eth1"]}}` + "\n"

// scenario is a node of Karpenter's, a machine whose agent plays the agent of that node, and a record of what the
// NodeClaim said.
type scenario struct {
	*testing.T
	ctx     context.Context
	c       *cluster.Cluster
	name    string
	node    string
	machine *machine.Machine
	agent   *cluster.Agent
	record  *record
}

// begun are the names of the scenarios: they run side by side, and one that took another's name would end its node.
var begun sync.Map

// begin makes a node and a machine. The name has at most six letters, and no other scenario has it.
func begin(t *testing.T, name string) *scenario {
	t.Helper()
	needCluster(t)
	if other, taken := begun.LoadOrStore(name, t.Name()); taken {
		t.Fatalf("%s has the name %q already: give this scenario another", other, name)
	}
	t.Cleanup(func() { begun.Delete(name) })
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	s := &scenario{T: t, ctx: ctx, c: shared, name: name}
	t.Cleanup(func() {
		defer cancel()
		s.cleanUp()
	})
	require.NoError(t, s.c.EnsureNamespace(ctx, name))
	require.NoError(t, s.c.Create(ctx, cluster.NodeClass(name), cluster.NodePool(name), cluster.Deployment(name, name, 1)))
	s.eventually("the pool has its node", func() error {
		for _, claim := range s.claims() {
			if claim.Status.NodeName != "" && claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
				s.node = claim.Status.NodeName
				return nil
			}
		}
		return errors.New("it is not initialized")
	})
	var err error
	s.machine, err = machine.New(name, s.c.Address())
	require.NoError(t, err)
	s.record = newRecord(s)
	return s
}

func (s *scenario) cleanUp() {
	if s.Failed() {
		s.dump()
	}
	if s.agent != nil {
		s.NoError(s.agent.Stop())
	}
	if s.machine != nil {
		s.NoError(s.machine.Remove())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	drop := func(o client.Object, name string) {
		o.SetName(name)
		_ = client.IgnoreNotFound(s.c.Client.Delete(ctx, o))
	}
	drop(&v1alpha1.RepairPolicy{}, s.name)
	drop(&corev1.Namespace{}, s.name)
	drop(&karpv1.NodePool{}, s.name)
	for _, claim := range s.claims() {
		drop(&karpv1.NodeClaim{}, claim.Name)
	}
}

// NoError tells of an error without ending the test, as for what is cleaned up.
func (s *scenario) NoError(err error) {
	s.Helper()
	if err != nil {
		s.Error(err)
	}
}

func (s *scenario) dump() {
	for _, args := range [][]string{
		{"get", "nodeclaims", "-l", karpv1.NodePoolLabelKey + "=" + s.name, "-o", "yaml"},
		{"get", "nodehealth", s.node, "-o", "yaml"},
	} {
		out, err := s.c.Kubectl(context.Background(), args...)
		s.Logf("kubectl %s (%v)\n%s", strings.Join(args, " "), err, out)
	}
	if s.record != nil {
		s.Logf("the NodeClaim's record:\n%s", s.record)
	}
	if s.agent != nil {
		text, _ := os.ReadFile(s.agent.Log)
		s.Logf("the agent's log:\n%s", text[max(0, len(text)-4000):])
	}
}

func (s *scenario) claims() []karpv1.NodeClaim {
	claims, err := s.c.NodeClaims(context.Background(), s.name)
	if err != nil {
		s.Error(err)
	}
	return claims
}

// start runs the agent, with eth1 as a card, and waits until the NodeClaim says that networking is well.
func (s *scenario) start(overrides ...func(*cluster.AgentOptions)) {
	s.Helper()
	s.run(overrides...)
	s.says(v1alpha1.CategoryNetworking, metav1.ConditionTrue)
}

// run runs the agent without waiting for what it sees.
func (s *scenario) run(overrides ...func(*cluster.AgentOptions)) {
	s.Helper()
	o := cluster.AgentOptions{Node: s.node, Machine: s.machine, Config: cards}
	for _, override := range overrides {
		override(&o)
	}
	var err error
	s.agent, err = s.c.StartAgent(s.ctx, o)
	require.NoError(s, err)
}

// do fails the test where the machine refuses.
func (s *scenario) do(err error) { s.Helper(); require.NoError(s, err) }

// health of the node; empty where there is none.
func (s *scenario) health() v1alpha1.NodeHealth {
	got := v1alpha1.NodeHealth{}
	if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: s.node}, &got); client.IgnoreNotFound(err) != nil {
		s.Errorf("reading NodeHealth, %v", err)
	}
	return got
}

// finding with a reason; nil where there is none.
func (s *scenario) finding(reason string) *v1alpha1.Finding {
	for _, f := range s.health().Findings {
		if f.Reason == reason {
			return &f
		}
	}
	return nil
}

// finds waits for a finding of the agent's with this severity.
func (s *scenario) finds(reason string, severity v1alpha1.Severity) v1alpha1.Finding {
	s.Helper()
	var found v1alpha1.Finding
	s.eventually(fmt.Sprintf("the NodeHealth has %s (%s)", reason, severity), func() error {
		f := s.finding(reason)
		if f == nil || f.Severity != severity {
			return fmt.Errorf("it has %+v", f)
		}
		found = *f
		return nil
	})
	return found
}

// says waits until the NodeClaim's condition of the category is so, and gives it.
func (s *scenario) says(category v1alpha1.Category, status metav1.ConditionStatus) said {
	s.Helper()
	var now said
	s.eventually(fmt.Sprintf("the NodeClaim says that %s is %s", health.ConditionType(category), status), func() error {
		now = s.record.now(category)
		if now.Status != status {
			return fmt.Errorf("it says %s %s: %s", now.Status, now.Reason, now.Message)
		}
		return nil
	})
	return now
}

func (s *scenario) eventually(what string, check func() error) {
	s.Helper()
	s.within(patience, what, check)
}

func (s *scenario) within(limit time.Duration, what string, check func() error) {
	s.Helper()
	suite.Within(s.ctx, s, limit, what, check)
}

func (s *scenario) holdsFor(span time.Duration, what string, check func() error) {
	s.Helper()
	suite.HoldsFor(s, span, what, check)
}

// noRepair fails where the node is being repaired.
func (s *scenario) noRepair() error {
	repairs := &v1alpha1.NodeRepairList{}
	if err := s.c.Client.List(s.ctx, repairs); err != nil {
		return err
	}
	if i := slices.IndexFunc(repairs.Items, func(r v1alpha1.NodeRepair) bool { return r.Spec.NodePool == s.name }); i >= 0 {
		return fmt.Errorf("there is NodeRepair %s", repairs.Items[i].Name)
	}
	return nil
}

func errFound(f *v1alpha1.Finding) error {
	return fmt.Errorf("there is %s %s (%s): %s", f.Reason, f.Subject, f.Severity, f.Message)
}

func errSaid(s said) error { return fmt.Errorf("it said %s %s: %s", s.Status, s.Reason, s.Message) }
