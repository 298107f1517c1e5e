package links

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"k8s.io/utils/clock"
)

// Bounds of the pause before a subscription that was refused is tried again.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 30 * time.Second
)

// FollowLinks calls event for each change of a link until ctx ends. state is called with nil each time a subscription
// begins, which says that changes before it may have been missed and a list is due, and with the reason each time that
// one ends or is refused; both are called from one goroutine.
func (n Namespace) FollowLinks(ctx context.Context, clk clock.WithTicker, event func(Link), state func(error)) {
	follow(ctx, clk, n.path, func(at *netns.NsHandle, updates chan<- netlink.LinkUpdate, done <-chan struct{}, failed func(error)) error {
		return netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{Namespace: at, ErrorCallback: failed})
	}, func(u netlink.LinkUpdate) {
		event(linkOf(u.Link))
	}, state)
}

// FollowDefaultRoutes calls event for each change of a route to everywhere in the main table, as FollowLinks does.
func (n Namespace) FollowDefaultRoutes(ctx context.Context, clk clock.WithTicker, event func(Route), state func(error)) {
	follow(ctx, clk, n.path, func(at *netns.NsHandle, updates chan<- netlink.RouteUpdate, done <-chan struct{}, failed func(error)) error {
		return netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{Namespace: at, ErrorCallback: failed})
	}, func(u netlink.RouteUpdate) {
		if route, ok := defaultRouteOf(u.Route); ok {
			event(route)
		}
	}, state)
}

// errEnded says that the socket was closed; the kernel does so by ENOBUFS when changes come faster than they are read.
var errEnded = errors.New("the subscription has ended")

type subscribe[U any] func(at *netns.NsHandle, updates chan<- U, done <-chan struct{}, failed func(error)) error

func follow[U any](ctx context.Context, clk clock.WithTicker, path string, begin subscribe[U], event func(U), state func(error)) {
	pause := firstPause
	for ctx.Err() == nil {
		began := clk.Now()
		err := followOnce(ctx, path, begin, event, state)
		if ctx.Err() != nil {
			return
		}
		state(err)
		// One that held for a while says that the next will be accepted too.
		if clk.Since(began) > maxPause {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-clk.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

func followOnce[U any](ctx context.Context, path string, begin subscribe[U], event func(U), state func(error)) error {
	at := netns.None()
	if path != "" {
		ns, err := netns.GetFromPath(path)
		if err != nil {
			return fmt.Errorf("opening network namespace %s, %w", path, err)
		}
		defer ns.Close() //nolint:errcheck // it was only read from
		at = ns
	}
	updates, done, failures := make(chan U), make(chan struct{}), make(chan error, 1)
	failed := func(err error) {
		select {
		case failures <- err:
		default:
		}
	}
	if err := begin(&at, updates, done, failed); err != nil {
		close(done)
		return fmt.Errorf("subscribing to rtnetlink, %w", err)
	}
	// The library closes updates once its socket is closed, and waits for somebody to read until then.
	defer func() {
		close(done)
		for range updates { //nolint:revive // only drained
		}
	}()
	state(nil)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case update, open := <-updates:
			if open {
				event(update)
				continue
			}
			select {
			case err := <-failures:
				return fmt.Errorf("%w: %w", errEnded, err)
			default:
				return errEnded
			}
		}
	}
}
