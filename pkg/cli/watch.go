package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
)

const (
	// settle is how long changes are collected before the screen is drawn anew: they come in bursts.
	settle = 250 * time.Millisecond
	// redrawEvery is when the screen is drawn anew without a change, since ages grow.
	redrawEvery = 10 * time.Second
)

// watchStatus shows the status, and shows it anew with every change, until the context ends. What is followed is
// followed with watches; nothing is listed twice.
func (o *Options) watchStatus(ctx context.Context, cluster *Cluster, rows int) error {
	wanted := Wanted{Controller: true}
	first, err := o.Load(ctx, cluster, wanted)
	if err != nil {
		return err
	}
	o.TellGaps(first)
	live, changed, err := o.follow(ctx, cluster, first)
	if err != nil {
		return unlessDone(ctx, err)
	}
	shown := ""
	for {
		fleet, err := o.load(ctx, cluster.Server, live, wanted)
		if err != nil {
			return unlessDone(ctx, err)
		}
		status, err := statusOf(ctx, fleet)
		if err != nil {
			return err
		}
		status.rows = rows
		if is := status.fingerprint(); is != shown || o.Terminal {
			shown = is
			if err := o.redraw(status); err != nil {
				return err
			}
		}
		if !o.waitForChange(ctx, changed) {
			return nil
		}
	}
}

// unlessDone drops the error of who was told to stop.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // who was told to stop has not failed
	}
	return err
}

// waitForChange waits until there is something new to draw; false where the context has ended.
func (o *Options) waitForChange(ctx context.Context, changed <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-o.Clock.After(redrawEvery):
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-o.Clock.After(settle):
		return true
	}
}

// clearScreen goes to the upper left corner of a terminal and clears what follows, and what has scrolled away.
const clearScreen = "\x1b[H\x1b[2J\x1b[3J"

// redraw shows the status in the place of the last one on a terminal, and below it elsewhere.
func (o *Options) redraw(status *Status) error {
	switch {
	case o.Output == FormatJSON || o.Output == FormatYAML:
		if o.Output == FormatYAML {
			fmt.Fprintln(o.Out, "---")
		}
	case o.Terminal:
		fmt.Fprint(o.Out, clearScreen, stamp(status.At.Time), "\n\n")
	default:
		fmt.Fprint(o.Out, "--- ", stamp(status.At.Time), "\n")
	}
	return o.Print(status)
}

// fingerprint tells two statuses apart by anything but the time.
func (s *Status) fingerprint() string {
	copied := *s
	copied.At = metav1.Time{}
	if s.Controller != nil {
		controller := *s.Controller
		controller.Renewed = metav1.Time{}
		copied.Controller = &controller
	}
	text, _ := json.Marshal(copied) // which is made of what can be written
	return string(text)
}

// live reads from a cache that watches keep, and answers for what could not be read as the API server did.
type live struct {
	client.Reader
	unread map[string]error
}

// List gives everything that the watches have brought. What is asked for by the options is what is watched.
func (l live) List(ctx context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if err := l.unread[fmt.Sprintf("%T", list)]; err != nil {
		return err
	}
	return l.Reader.List(ctx, list) //nolint:wrapcheck // gapOf says what was listed
}

// followed are the kinds whose changes are shown.
var followed = map[string]client.Object{
	"*v1.NodeClaimList":          &karpv1.NodeClaim{},
	"*v1.NodePoolList":           &karpv1.NodePool{},
	"*v1.NodeList":               &corev1.Node{},
	"*v1alpha1.NodeHealthList":   &v1alpha1.NodeHealth{},
	"*v1alpha1.NodeRepairList":   &v1alpha1.NodeRepair{},
	"*v1alpha1.RepairPolicyList": &v1alpha1.RepairPolicy{},
	"*v1alpha1.RepairPauseList":  &v1alpha1.RepairPause{},
}

// follow starts watches of what a first look could read. The channel tells of changes, many at once.
func (o *Options) follow(ctx context.Context, cluster *Cluster, first *Fleet) (client.Reader, <-chan struct{}, error) {
	if cluster.config == nil {
		return nil, nil, errors.New("this cluster cannot be watched")
	}
	types := scheme.New()
	informers, err := cache.New(cluster.config, cache.Options{
		Scheme: types, Mapper: mapper(types),
		ByObject: map[client.Object]cache.ByObject{
			&coordinationv1.Lease{}: {Field: fields.OneTermEqualSelector("metadata.name", v1alpha1.LeaseName)},
		},
		DefaultWatchErrorHandler: func(_ context.Context, _ *toolscache.Reflector, err error) {
			if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				fmt.Fprintln(o.ErrOut, "Warning: a watch has ended and is started anew:", err)
			}
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("watching %s, %w", cluster.Server, err)
	}
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default: // it is known already that something has changed
		}
	}
	handler := toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { tell() }, UpdateFunc: func(any, any) { tell() }, DeleteFunc: func(any) { tell() },
	}
	go func() { _ = informers.Start(ctx) }()
	for list, object := range followed {
		if first.unread[list] != nil {
			continue
		}
		informer, err := informers.GetInformer(ctx, object)
		if err != nil {
			return nil, nil, fmt.Errorf("watching %T, %w", object, err)
		}
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, nil, fmt.Errorf("watching %T, %w", object, err)
		}
	}
	// Who reads before they have started is refused.
	if !informers.WaitForCacheSync(ctx) {
		return nil, nil, fmt.Errorf("watching %s, %w", cluster.Server, context.Cause(ctx))
	}
	return live{Reader: informers, unread: first.unread}, changed, nil
}
