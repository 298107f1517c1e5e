package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/awslabs/operatorpkg/status"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// story watches the cluster and tells what happens, in plain words and in order.
type story struct {
	out   io.Writer
	c     *cluster.Cluster
	start time.Time
	// expect is how many repairs end the story.
	expect int

	sick []corev1.Node
	// began is when the watching began: repairs of before are another story.
	began time.Time

	mu        sync.Mutex
	sickNodes map[string]bool // NodeClaim names
	claims    map[string]bool // every NodeClaim of the pool ever seen
	before    int             // NodeClaims when the faults began
	repairs   map[string]*v1alpha1.NodeRepair
	told      map[string]bool
	// seen is when a thing was told, in time since the start.
	seen map[string]time.Duration
	// describing are the NodeClaims that kubectl is being asked about.
	describing map[string]bool
	// moved are the times of the last transition that NetworkingReady of the sick ones ever had.
	moved     map[time.Time]bool
	available int32 // the fewest available pods ever seen
	inFlight  int   // the most repairs ever seen to hold the budget at once
	heldBack  bool  // the budget held one back, and said so
	done      chan struct{}
}

// watchStory tells what happens to the nodes until ctx ends; it is over when so many repairs as there are nodes have ended.
func watchStory(ctx context.Context, c *cluster.Cluster, sick []corev1.Node, out io.Writer) (*story, error) {
	s := &story{
		out: out, c: c, start: time.Now(), expect: len(sick), available: replicas, done: make(chan struct{}),
		sickNodes: map[string]bool{}, claims: map[string]bool{}, told: map[string]bool{}, describing: map[string]bool{},
		seen: map[string]time.Duration{}, repairs: map[string]*v1alpha1.NodeRepair{}, moved: map[time.Time]bool{}, sick: sick, began: time.Now(),
	}
	claims := &karpv1.NodeClaimList{}
	if err := c.Client.List(ctx, claims); err != nil {
		return nil, fmt.Errorf("listing NodeClaims, %w", err)
	}
	s.before = len(claims.Items)
	for _, claim := range claims.Items {
		for _, node := range sick {
			if claim.Status.NodeName == node.Name {
				s.sickNodes[claim.Name] = true
			}
		}
	}
	for list, handle := range map[client.ObjectList]func(context.Context, client.Object, bool){
		&karpv1.NodeClaimList{}:    s.nodeClaim,
		&corev1.NodeList{}:         s.node,
		&v1alpha1.NodeRepairList{}: s.nodeRepair,
		&v1alpha1.NodeHealthList{}: s.nodeHealth,
		&appsv1.DeploymentList{}:   s.deployment,
	} {
		w, err := c.Client.Watch(ctx, list)
		if err != nil {
			return nil, fmt.Errorf("watching %T, %w", list, err)
		}
		go func() {
			for event := range w.ResultChan() {
				if object, ok := event.Object.(client.Object); ok {
					handle(ctx, object, event.Type == "DELETED")
				}
			}
		}()
	}
	return s, nil
}

func (s *story) tell(format string, args ...any) {
	fmt.Fprintf(s.out, "%7.1f s  %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

// once tells a thing the first time that it is seen.
func (s *story) once(key, format string, args ...any) bool {
	if s.told[key] {
		return false
	}
	s.told[key] = true
	s.seen[key] = time.Since(s.start)
	s.tell(format, args...)
	return true
}

func (s *story) broke(node string, fault corev1.NodeCondition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	s.tell("BROKEN     Node %s now says %s=%s: %s", node, fault.Type, fault.Status, fault.Message)
}

// begin starts the clock of the story, at the first fault.
func (s *story) begin() {
	if !s.told["start"] {
		s.told["start"] = true
		s.start = time.Now()
		fmt.Fprintln(s.out)
	}
}

func (s *story) deployment(_ context.Context, object client.Object, _ bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	deployment := object.(*appsv1.Deployment)
	if deployment.Name == pool && deployment.Status.AvailableReplicas < s.available {
		s.available = deployment.Status.AvailableReplicas
	}
}

func (s *story) node(_ context.Context, object client.Object, _ bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, taint := range object.(*corev1.Node).Spec.Taints {
		if taint.Key == v1alpha1.UnhealthyTaintKey {
			s.once("fence/"+object.GetName(), "FENCED     Node %s takes no new pods, and Karpenter's other methods leave it alone", object.GetName())
		}
	}
}

func (s *story) nodeClaim(ctx context.Context, object client.Object, deleted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	claim := object.(*karpv1.NodeClaim)
	if !s.sickNodes[claim.Name] && !s.claims[claim.Name] && s.told["start"] {
		if repair := claim.Labels[v1alpha1.NodeRepairLabel]; repair != "" {
			s.once("claim/"+claim.Name, "REPLACING  NodeClaim %s made as replacement, for %s", claim.Name, repair)
		}
	}
	s.claims[claim.Name] = true
	switch {
	case deleted && s.sickNodes[claim.Name]:
		s.once("gone/"+claim.Name, "GONE       NodeClaim %s and its node", claim.Name)
		return
	case deleted:
		return
	case !s.sickNodes[claim.Name] && claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() && s.told["claim/"+claim.Name]:
		s.once("initialized/"+claim.Name, "STANDING   NodeClaim %s is Initialized: node %s", claim.Name, claim.Status.NodeName)
	}
	if s.sickNodes[claim.Name] {
		s.networkingOf(claim)
		s.sickClaim(ctx, claim)
	}
}

func (s *story) sickClaim(ctx context.Context, claim *karpv1.NodeClaim) {
	if !claim.DeletionTimestamp.IsZero() {
		s.once("delete/"+claim.Name, "DRAINING   NodeClaim %s is deleted; Karpenter drains its node", claim.Name)
	}
	for _, condition := range ours(claim.Status.Conditions) {
		short := strings.TrimPrefix(condition.Type, v1alpha1.Group+"/")
		key := claim.Name + "/" + short + "/" + string(condition.Status) + "/" + condition.Reason
		switch {
		case condition.Type == v1alpha1.ConditionUnhealthy:
			if s.once(key, "UNHEALTHY  NodeClaim %s: %s", claim.Name, condition.Message) {
				s.describe(ctx, claim.Name)
			}
		case condition.Type == v1alpha1.ConditionRepairBlocked:
			if condition.Reason == "DisruptionBudget" {
				s.heldBack = true
			}
			if s.once(key, "WAITING    NodeClaim %s: %s", claim.Name, condition.Message) && condition.Reason == "DisruptionBudget" {
				s.describe(ctx, claim.Name)
			}
		case condition.Type == v1alpha1.ConditionRepairing:
			if s.once(key, "REPAIRING  NodeClaim %s: %s", claim.Name, condition.Message) {
				s.describe(ctx, claim.Name)
			}
		case condition.Status == metav1.ConditionFalse:
			s.once(key, "FOUND      NodeClaim %s: %s is False: %s", claim.Name, short, condition.Message)
		}
	}
}

func ours(conditions []status.Condition) []status.Condition {
	kept := []status.Condition{}
	for _, condition := range conditions {
		if strings.HasPrefix(condition.Type, v1alpha1.Group+"/") {
			kept = append(kept, condition)
		}
	}
	return kept
}

// describe shows the conditions of ours as kubectl does, once for what is told of a NodeClaim at the same moment.
func (s *story) describe(ctx context.Context, claim string) {
	if s.describing[claim] {
		return
	}
	s.describing[claim] = true
	go func() {
		text, err := s.c.Kubectl(ctx, "describe", "nodeclaim", claim)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.describing[claim] = false
		if err != nil {
			s.tell("could not describe NodeClaim %s: %v", claim, err)
			return
		}
		fmt.Fprintf(s.out, "\n           $ kubectl describe nodeclaim %s      (the conditions of ours)\n", claim)
		for _, line := range strings.Split(cluster.OurConditions(text), "\n") {
			fmt.Fprintf(s.out, "           | %s\n", line)
		}
		fmt.Fprintln(s.out)
	}()
}

func (s *story) nodeRepair(ctx context.Context, object client.Object, deleted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	repair := object.(*v1alpha1.NodeRepair)
	if deleted || repair.CreationTimestamp.Time.Before(s.began.Truncate(time.Second)) {
		return
	}
	s.repairs[repair.Name] = repair.DeepCopy()
	s.once("repair/"+repair.Name, "ADMITTED   NodeRepair %s: %s because of %s, by policy %s", repair.Name, repair.Spec.Action, repair.Spec.Cause.Reason, repair.Spec.Policy.Name)
	for _, condition := range repair.Status.Conditions {
		key := repair.Name + "/" + condition.Type + "/" + string(condition.Status)
		switch {
		case condition.Type == v1alpha1.RepairConditionVerified && condition.Status == metav1.ConditionTrue:
			s.once(key, "VERIFIED   %s: %s", repair.Name, condition.Message)
		case condition.Type == v1alpha1.RepairConditionSucceeded && condition.Status == metav1.ConditionFalse:
			s.once(key, "FAILED     %s: %s", repair.Name, condition.Message)
		}
	}
	holding, finished := 0, 0
	for _, r := range s.repairs {
		if r.HoldsBudget() && !s.gone(ctx, r) {
			holding++
		}
		if r.Finished() {
			finished++
		}
	}
	s.inFlight = max(s.inFlight, holding)
	if finished == s.expect && !s.told["done"] {
		s.told["done"] = true
		close(s.done)
	}
}

// gone says whether the sick NodeClaim of a repair has gone: that frees the budget, a moment before the repair says so.
func (s *story) gone(ctx context.Context, repair *v1alpha1.NodeRepair) bool {
	if repair.Status.Phase != v1alpha1.PhaseTerminating {
		return false
	}
	claim := &karpv1.NodeClaim{}
	err := s.c.Client.Get(ctx, client.ObjectKey{Name: repair.Spec.NodeClaim.Name}, claim)
	return apierrors.IsNotFound(err) || (err == nil && claim.UID != repair.Spec.NodeClaim.UID)
}

func (s *story) wait(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for all repairs to end, %w", ctx.Err())
	}
}
