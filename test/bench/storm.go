package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/storm"
)

// stormFigures are one storm beside one repairer.
type stormFigures struct {
	Storm    string `json:"storm"`
	Repairer string `json:"repairer"`
	storm.Result
}

// weather is one storm.
type weather struct {
	name string
	// budget of the NodePool for nodes of any reason: Karpenter's default is 10%.
	budget  string
	options storm.Options
	// policy of ours.
	policy func(*v1alpha1.RepairPolicy)
	// oursOnly leaves stock Karpenter out, since it would stand by for the whole time.
	oursOnly bool
}

// contagion is how long a detector that is wrong, or a fault that every node has, takes to show on a new node: longer
// than a replacement takes to be Initialized, which is the worse case.
const contagion = 20 * time.Second

func storms(o options) []weather {
	half, few := o.nodes/2, o.nodes*19/100
	byDefault := func(*v1alpha1.RepairPolicy) {}
	wrong := storm.Options{Struck: storm.Any, Most: half, Spread: time.Minute, Contagion: contagion, Window: o.window}
	below := wrong
	below.Most = few
	healed := storm.Options{Struck: storm.Any, Most: half, Window: o.window * 3, UntilGone: true}
	// The worst that a person can allow: every budget open, and no node that comes is any better.
	hopeless := storm.Options{Struck: storm.Any, Most: half, Contagion: contagion, Window: o.window * 3}
	zone := storm.Options{Struck: storm.InZone("test-zone-a"), Fault: storm.Silence, Contagion: time.Millisecond, Lasts: 5 * time.Minute, Window: 8 * time.Minute}
	return []weather{
		{name: "half sick within a minute, and every new node: a wrong detector", budget: "10%", options: wrong, policy: byDefault},
		{name: "19 % sick within a minute, and every new node", budget: "10%", options: below, policy: byDefault},
		{name: "half sick at once, new nodes healthy, slow start (verifyFor 10 s)", budget: "100%", options: healed, policy: verifyFor(10 * time.Second)},
		{name: "half sick at once, new nodes healthy, no slow start", budget: "100%", options: healed, oursOnly: true, policy: func(p *v1alpha1.RepairPolicy) {
			verifyFor(10 * time.Second)(p)
			p.Spec.CorrelatedFailure.MaxUnhealthy = lo.ToPtr(intstr.FromString("100%"))
		}},
		{name: "a zone of the nodes' is silent for five minutes, and three follow", budget: "10%", options: zone, policy: byDefault, oursOnly: true},
		{name: "half sick at once, and every replacement, for three windows", budget: "100%", options: hopeless, policy: byDefault, oursOnly: true},
	}
}

func verifyFor(d time.Duration) func(*v1alpha1.RepairPolicy) {
	return func(p *v1alpha1.RepairPolicy) { p.Spec.Replacement.VerifyFor = &metav1.Duration{Duration: d} }
}

func measureStorms(ctx context.Context, o options) ([]stormFigures, error) {
	ours, err := measureStormsOf(ctx, o, "ours", "", func(ctx context.Context, c *cluster.Cluster) (func() error, error) {
		controller, err := startController(ctx, c)
		if err != nil {
			return nil, err
		}
		return controller.Stop, nil
	})
	if err != nil {
		return ours, err
	}
	stock, err := measureStormsOf(ctx, o, "stock", "NodeRepair=true", func(ctx context.Context, c *cluster.Cluster) (func() error, error) {
		// What counts the losses watches our kinds too.
		return func() error { return nil }, c.InstallCRDs(ctx)
	})
	return append(ours, stock...), err
}

func measureStormsOf(ctx context.Context, o options, who, gates string, begin func(context.Context, *cluster.Cluster) (func() error, error)) (out []stormFigures, err error) {
	wanted, err := wantedOf(o, who)
	if err != nil || len(wanted) == 0 {
		return nil, err
	}
	c, err := start(ctx, "storm-"+who, gates, o.nodes)
	if c != nil {
		defer func() { err = errors.Join(err, c.Down(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return nil, err
	}
	end, err := begin(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	for _, w := range wanted {
		if w.options.Fault.Strike == nil {
			w.options.Fault = storm.Condition
		}
		w.options.Pool = pool
		say("%s: %s", who, w.name)
		if who == "stock" {
			w.options.Window = min(w.options.Window, o.window) // where it stands by, it does so for ever
		}
		r, err := w.pass(ctx, c, who == "ours")
		if err != nil {
			return out, fmt.Errorf("%s, %w", w.name, err)
		}
		say("%s: %d of %d struck; %d lost, %d of those that came lost again, %d of both after the fault had gone, %d launched; %+v; %.0f s; repairs %v; blocked %v; pods %d of %d",
			who, r.Struck, r.Nodes, r.Lost, r.LostAgain, r.LostAfter, r.Launched, r.Most, r.Seconds, r.Repairs, r.Blocked, r.Pods, o.nodes)
		out = append(out, stormFigures{Storm: w.name, Repairer: who, Result: r})
	}
	return out, nil
}

// wantedOf gives the storms that a repairer is to live through.
func wantedOf(o options, who string) ([]weather, error) {
	_, pattern, _ := strings.Cut(o.only, "=")
	wanted, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("--only=%q: %w", o.only, err)
	}
	return lo.Filter(storms(o), func(w weather, _ int) bool {
		return wanted.MatchString(who+": "+w.name) && (who == "ours" || !w.oursOnly)
	}), nil
}

// pass lets the storm pass, and clears up after it.
func (w weather) pass(ctx context.Context, c *cluster.Cluster, ours bool) (storm.Result, error) {
	np := &karpv1.NodePool{}
	if err := c.Client.Get(ctx, client.ObjectKey{Name: pool}, np); err != nil {
		return storm.Result{}, fmt.Errorf("reading the NodePool, %w", err)
	}
	stored := np.DeepCopy()
	np.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: w.budget}}
	if err := c.Client.Patch(ctx, np, client.MergeFrom(stored)); err != nil {
		return storm.Result{}, fmt.Errorf("setting the budget, %w", err)
	}
	policy := cluster.RepairPolicy(pool, func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].Tolerate = metav1.Duration{Duration: storm.Toleration}
		p.Spec.CorrelatedFailure, p.Spec.Replacement = v1alpha1.CorrelatedFailureSpec{}, v1alpha1.ReplacementSpec{}
		p.Spec.Replacement.MaxLaunching = lo.ToPtr[int32](10)
	}, w.policy)
	if ours {
		if err := c.Create(ctx, policy); err != nil {
			return storm.Result{}, err
		}
	}
	r, err := storm.Run(ctx, c, w.options)
	if err != nil {
		return r, err //nolint:wrapcheck // says it
	}
	if err := storm.Calm(ctx, c, w.options); err != nil {
		return r, err //nolint:wrapcheck // says it
	}
	if ours {
		return r, client.IgnoreNotFound(c.Client.Delete(ctx, policy))
	}
	return r, nil
}
