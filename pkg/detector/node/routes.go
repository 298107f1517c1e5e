package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/links"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// RoutesOptions say which default routes the node cannot do without.
type RoutesOptions struct {
	// Interval between looks where no event comes; default 30 s, our own choice: events bring a change at once.
	Interval metav1.Duration `json:"interval,omitempty"`
	// RequireIPv6 says that pods need IPv6, so that a lost IPv6 default route is Fatal however it went. Without it one
	// that a router advertised is only a Warning while IPv4 has its own: it ends by itself when the router withdraws
	// it, for all nodes alike, and a new node would not have it either.
	RequireIPv6 bool `json:"requireIPv6,omitempty"`
	// NetworkNamespace is the file of the namespace to look at, as of the interfaces.
	NetworkNamespace string `json:"networkNamespace,omitempty"`
}

// Routes sees that a family had a default route in this boot and no longer has. It needs no capability, only the
// node's network namespace.
type Routes struct {
	clock       clock.WithTicker
	interval    time.Duration
	requireIPv6 bool
	space       links.Namespace
	wake        netWake
	// A card that is taken down takes its IPv4 routes along without an event of theirs, so links are followed too.
	routes, links netFollowing

	mu   sync.Mutex
	had  map[string]*routeSeen
	last *tracking.Look
}

// routeSeen is what is remembered of the default route of a family.
type routeSeen struct {
	Gateway    string `json:"gateway,omitempty"`
	Links      []int  `json:"links,omitempty"`
	Interface  string `json:"interface,omitempty"`
	Advertised bool   `json:"advertised,omitempty"`
	// Gone since; zero while it stands.
	Gone time.Time `json:"gone,omitzero"`
}

const routesMissing = "MissingDefaultRoutes"

// routeFamilies as a person writes them.
var routeFamilies = []struct{ family, name string }{{links.IPv4, "IPv4"}, {links.IPv6, "IPv6"}}

// NewRoutes gives the detector of default routes.
func NewRoutes(clk clock.WithTicker, o RoutesOptions) *Routes {
	return &Routes{
		clock: clk, interval: netInterval(o.Interval, 30*time.Second), requireIPv6: o.RequireIPv6,
		space: links.In(o.NetworkNamespace), wake: newNetWake(), had: map[string]*routeSeen{},
	}
}

// Spec of the source routes.
func (r *Routes) Spec() detector.Spec {
	return detector.Spec{Name: "routes", Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}, Interval: r.interval}
}

// Start follows the changes of default routes, and of the links that they lead out of.
func (r *Routes) Start(ctx context.Context) {
	go r.space.FollowDefaultRoutes(ctx, r.clock, func(links.Route) { r.wake.raise() }, func(err error) {
		r.routes.set(err)
		r.wake.raise()
	})
	go r.space.FollowLinks(ctx, r.clock, func(l links.Link) {
		if r.carries(l.Index) {
			r.wake.raise()
		}
	}, func(err error) {
		r.links.set(err)
		r.wake.raise()
	})
}

func (r *Routes) carries(link int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, seen := range r.had {
		if slices.Contains(seen.Links, link) {
			return true
		}
	}
	return false
}

// Wake holds a value after a change of a default route or of its link.
func (r *Routes) Wake() <-chan struct{} { return r.wake }

// Cursor keeps which families had a default route in this boot.
func (r *Routes) Cursor() json.RawMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return netRemember(r.space, r.had)
}

// Resume takes up the memory of before, if it is of the same boot and the same network namespace.
func (r *Routes) Resume(cursor json.RawMessage, sameBoot bool) {
	had, ok := netRecall[map[string]*routeSeen](r.space, cursor, sameBoot)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range routeFamilies {
		if seen := had[f.family]; seen != nil {
			r.had[f.family] = seen
		}
	}
}

// Look lists the default routes and compares them with those that have been.
func (r *Routes) Look(context.Context) (tracking.Look, error) {
	routes, err := r.space.DefaultRoutes()
	var names map[int]string
	if err == nil {
		names, err = r.names(routes)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, links.ErrChanging) && r.last != nil:
		look := *r.last
		look.Degraded = err.Error()
		return look, nil
	case err != nil:
		return tracking.Look{}, err
	}
	look := tracking.Look{Faults: r.judge(routes, names), Degraded: r.routes.degraded("routes", r.interval)}
	if look.Degraded == "" {
		look.Degraded = r.links.degraded("links", r.interval)
	}
	r.last = &look
	return look, nil
}

// names of links, which are only asked for where a route leads out of one.
func (r *Routes) names(routes []links.Route) (map[int]string, error) {
	if len(routes) == 0 {
		return nil, nil
	}
	present, err := r.space.Links()
	if err != nil {
		return nil, err
	}
	names := make(map[int]string, len(present))
	for _, l := range present {
		names[l.Index] = l.Name
	}
	return names, nil
}

// judge each family by the route that the kernel uses. A default route that moved to another interface is one; a route
// to nowhere ("unreachable") is none, unless one that leads somewhere comes before it.
func (r *Routes) judge(routes []links.Route, names map[int]string) []tracking.Fault {
	best := netBestRoutes(routes)
	var faults []tracking.Fault
	for _, f := range routeFamilies {
		route, found := best[f.family]
		seen := r.had[f.family]
		switch {
		case found && route.Usable():
			r.had[f.family] = routeSeenOf(route, names)
		case seen != nil:
			if seen.Gone.IsZero() {
				seen.Gone = r.clock.Now()
			}
			fault := tracking.Fault{
				Reason: routesMissing, Subject: f.family, Since: seen.Gone,
				Message:  fmt.Sprintf("the default route of %s is gone", f.name),
				Evidence: []string{"it was " + seen.String()},
			}
			if found {
				fault.Message = fmt.Sprintf("the default route of %s leads nowhere: %s", f.name, route.Type)
			}
			if f.family == links.IPv6 && seen.Advertised && !r.requireIPv6 && best[links.IPv4].Usable() {
				fault.Severity = v1alpha1.SeverityWarning
				fault.Evidence = append(fault.Evidence, "it was advertised by a router, and IPv4 has its default route")
			}
			faults = append(faults, fault)
		}
	}
	return faults
}

func routeSeenOf(route links.Route, names map[int]string) *routeSeen {
	seen := &routeSeen{Gateway: route.Gateway, Links: route.Links, Advertised: route.Advertised}
	var through []string
	for _, index := range route.Links {
		if name, known := names[index]; known {
			through = append(through, name)
		}
	}
	seen.Interface = strings.Join(through, ",")
	return seen
}

// String as ip(8) writes a route.
func (s *routeSeen) String() string {
	text := "default"
	if s.Gateway != "" {
		text += " via " + s.Gateway
	}
	if s.Interface != "" {
		text += " dev " + s.Interface
	}
	return text
}
