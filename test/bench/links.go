package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/machine"
)

const (
	reasonDown  = "InterfaceNotUp"
	agentConfig = `detectors: {interfaces: {include: ["eth1"]}}` + "\n"
	// samplePause lets the agent's pace of writing recover, of one in two seconds: a sample takes three or four.
	samplePause = 5 * time.Second
)

// linkFigures are seconds from a link that is taken down.
type linkFigures struct {
	Samples int `json:"samples"`
	// Finding is until a watcher sees the finding in the NodeHealth.
	FindingP50 float64 `json:"findingSecondsP50"`
	FindingP99 float64 `json:"findingSecondsP99"`
	FindingMax float64 `json:"findingSecondsMax"`
	// Condition is until a watcher sees the NodeClaim condition, less the time that the fault has to stand.
	ConditionP50 float64 `json:"conditionBeyondConfirmSecondsP50"`
	ConditionP99 float64 `json:"conditionBeyondConfirmSecondsP99"`
	ConditionMax float64 `json:"conditionBeyondConfirmSecondsMax"`
	Confirm      float64 `json:"confirmSeconds"`
}

// measureLinks takes links down on several machines at once, each with an agent that looks with all detectors.
func measureLinks(ctx context.Context, o options) (f *linkFigures, err error) {
	if missing := machine.Missing(); missing != "" {
		say("agents: NOT MEASURED: %s", missing)
		return nil, nil
	}
	const machines = 4
	c, err := start(ctx, "bench-agent", "", machines)
	if c != nil {
		defer func() { err = errors.Join(err, c.Down(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return nil, err
	}
	controller, err := startController(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, controller.Stop()) }()
	nodes, err := initialized(ctx, c)
	if err != nil {
		return nil, err
	}
	each := (o.links + machines - 1) / machines
	say("agents: taking a link down %d times, on %d machines", each*machines, machines)
	type outcome struct {
		findings, conditions []float64
		err                  error
	}
	outcomes := make(chan outcome)
	for i := range machines {
		go func() {
			var out outcome
			out.findings, out.conditions, out.err = measureLink(ctx, c, nodes[i].Name, fmt.Sprintf("bench%d", i), each)
			outcomes <- out
		}()
	}
	var findings, conditions []float64
	for range machines {
		out := <-outcomes
		findings, conditions, err = append(findings, out.findings...), append(conditions, out.conditions...), errors.Join(err, out.err)
	}
	if err != nil {
		return nil, err
	}
	return figuresOf(findings, conditions), nil
}

func figuresOf(findings, conditions []float64) *linkFigures {
	sort.Float64s(findings)
	sort.Float64s(conditions)
	n := len(findings)
	return &linkFigures{
		Samples: n, Confirm: confirm().Seconds(),
		FindingP50: findings[n/2], FindingP99: findings[n*99/100], FindingMax: findings[n-1],
		ConditionP50: conditions[n/2], ConditionP99: conditions[n*99/100], ConditionMax: conditions[n-1],
	}
}

func confirm() time.Duration {
	reason, _ := health.Lookup(reasonDown)
	return reason.Confirm.For
}

// measureLink takes the link of one machine down and up again.
func measureLink(ctx context.Context, c *cluster.Cluster, node, name string, times int) (findings, conditions []float64, err error) {
	m, err := machine.New(name, c.Address())
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, m.Remove()) }()
	agent, err := c.StartAgent(ctx, cluster.AgentOptions{Node: node, Machine: m, Config: agentConfig})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, agent.Stop()) }()
	healths, err := c.Client.Watch(ctx, &v1alpha1.NodeHealthList{})
	if err != nil {
		return nil, nil, fmt.Errorf("watching NodeHealths, %w", err)
	}
	defer healths.Stop()
	claims, err := c.Client.Watch(ctx, &karpv1.NodeClaimList{})
	if err != nil {
		return nil, nil, fmt.Errorf("watching NodeClaims, %w", err)
	}
	defer claims.Stop()
	found := func(event watch.Event) bool {
		h, ok := event.Object.(*v1alpha1.NodeHealth)
		return ok && h.Name == node && hasFinding(h)
	}
	says := func(want string) func(watch.Event) bool {
		return func(event watch.Event) bool {
			claim, ok := event.Object.(*karpv1.NodeClaim)
			if !ok || claim.Status.NodeName != node {
				return false
			}
			condition := claim.StatusConditions().Get(health.ConditionType(v1alpha1.CategoryNetworking))
			return condition != nil && string(condition.Status) == want
		}
	}
	if _, err := until(ctx, claims, says("True")); err != nil {
		return nil, nil, err
	}
	for range times {
		if err := pause(ctx, samplePause); err != nil {
			return nil, nil, err
		}
		down := time.Now()
		if err := m.Down("eth1"); err != nil {
			return nil, nil, err
		}
		seen, err := until(ctx, healths, found)
		if err != nil {
			return nil, nil, err
		}
		saidFalse, err := until(ctx, claims, says("False"))
		if err != nil {
			return nil, nil, err
		}
		findings = append(findings, seen.Sub(down).Seconds())
		conditions = append(conditions, (saidFalse.Sub(down) - confirm()).Seconds())
		if err := m.Up("eth1"); err != nil {
			return nil, nil, err
		}
		if _, err := until(ctx, claims, says("True")); err != nil {
			return nil, nil, err
		}
		// What the NodeHealth still had to say of this sample must not be taken for the next.
		if _, err := until(ctx, healths, func(event watch.Event) bool {
			h, ok := event.Object.(*v1alpha1.NodeHealth)
			return ok && h.Name == node && !hasFinding(h)
		}); err != nil {
			return nil, nil, err
		}
	}
	return findings, conditions, nil
}

func hasFinding(h *v1alpha1.NodeHealth) bool {
	for _, f := range h.Findings {
		if f.Reason == reasonDown {
			return true
		}
	}
	return false
}

// until gives when a watcher saw what is waited for.
func until(ctx context.Context, w watch.Interface, seen func(watch.Event) bool) (time.Time, error) {
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		select {
		case event, open := <-w.ResultChan():
			if !open {
				return time.Time{}, errors.New("measuring a link, the watch has ended")
			}
			if seen(event) {
				return time.Now(), nil
			}
		case <-limit.C:
			return time.Time{}, errors.New("measuring a link, nothing was seen for a minute")
		case <-ctx.Done():
			return time.Time{}, ctx.Err() //nolint:wrapcheck // only that it was interrupted
		}
	}
}
