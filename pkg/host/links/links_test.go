package links

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// namespace gives one of the test's own, and a handle to change it with.
func namespace(t *testing.T) (Namespace, *netlink.Handle) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root: run the tests as root")
	}
	runtime.LockOSThread()
	own, err := netns.Get()
	require.NoError(t, err)
	name := fmt.Sprintf("autorepair-links-%d-%d", os.Getpid(), time.Now().UnixNano())
	made, err := netns.NewNamed(name)
	require.NoError(t, netns.Set(own))
	runtime.UnlockOSThread()
	if err != nil {
		t.Skipf("this machine gives no network namespace (%v): run the tests as root, outside of a restricted container", err)
	}
	t.Cleanup(func() { require.NoError(t, netns.DeleteNamed(name)) })
	handle, err := netlink.NewHandleAt(made, unix.NETLINK_ROUTE)
	require.NoError(t, err)
	t.Cleanup(handle.Close)
	require.NoError(t, made.Close())
	require.NoError(t, own.Close())
	return In("/run/netns/" + name), handle
}

func pair(t *testing.T, h *netlink.Handle) netlink.Link {
	t.Helper()
	a := netlink.NewLinkAttrs()
	a.Name = "card0"
	require.NoError(t, h.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "peer0"}))
	l, err := h.LinkByName("card0")
	require.NoError(t, err)
	return l
}

func TestLinks(t *testing.T) {
	n, h := namespace(t)
	l := pair(t, h)
	require.NoError(t, h.LinkSetUp(l))
	listed, err := n.Links()
	require.NoError(t, err)
	byName := map[string]Link{}
	for _, link := range listed {
		byName[link.Name] = link
	}
	require.True(t, byName["lo"].Loopback())
	require.Equal(t, "LOOPBACK", byName["lo"].FlagNames())
	require.Equal(t, "loopback", byName["lo"].Encapsulation)
	require.Empty(t, byName["lo"].Kind)
	card := byName["card0"]
	require.Equal(t, l.Attrs().Index, card.Index)
	require.Equal(t, "veth", card.Kind)
	require.Equal(t, "ether", card.Encapsulation)
	require.Equal(t, l.Attrs().HardwareAddr.String(), card.Address)
	require.True(t, card.Up())
	require.False(t, card.Carrier(), "its peer is down")
	require.Equal(t, "BROADCAST,UP", card.FlagNames())
}

func TestAMissingNamespaceIsAnError(t *testing.T) {
	n := In("/run/netns/autorepair-not-there")
	_, err := n.Links()
	require.ErrorContains(t, err, "listing links, opening network namespace /run/netns/autorepair-not-there")
	_, err = n.DefaultRoutes()
	require.ErrorIs(t, err, unix.ENOENT)
	_, err = n.ID()
	require.ErrorIs(t, err, unix.ENOENT)
}

func TestAListThatChangesUnderwayIsTriedAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		interrupted, wantTries int
		want                   error
	}{
		"never":       {0, 1, nil},
		"once":        {1, 2, nil},
		"each time":   {attempts, attempts, ErrChanging},
		"all but one": {attempts - 1, attempts, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tries := 0
			err := In("").list(func(*netlink.Handle) error {
				if tries++; tries <= tc.interrupted {
					return netlink.ErrDumpInterrupted
				}
				return nil
			})
			require.ErrorIs(t, err, tc.want)
			require.Equal(t, tc.wantTries, tries)
		})
	}
}

// A reader that is too slow loses events; it must hear of it, and go on.
func TestFollowingGoesOnAfterLostEvents(t *testing.T) {
	n, h := namespace(t)
	l := pair(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	release, states, ended := make(chan struct{}), make(chan error, 16), make(chan struct{})
	seen := make(chan Link, 1)
	goroutines := runtime.NumGoroutine()
	go func() {
		defer close(ended)
		n.FollowLinks(ctx, clock.RealClock{}, func(l Link) {
			<-release
			select {
			case seen <- l:
			default:
			}
		}, func(err error) { states <- err })
	}()
	require.NoError(t, <-states, "it begins")
	for range 2000 {
		require.NoError(t, h.LinkSetUp(l))
		require.NoError(t, h.LinkSetDown(l))
	}
	close(release)
	require.ErrorIs(t, within(t, states), errEnded)
	require.NoError(t, within(t, states), "it begins again")
	for len(seen) > 0 {
		<-seen
	}
	require.NoError(t, h.LinkSetUp(l))
	require.Equal(t, "card0", within(t, seen).Name)
	cancel()
	<-ended
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}

func within[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came within ten seconds")
		panic("unreachable")
	}
}

func TestFollowingPausesLongerEachTimeItIsRefused(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	refused, states, ended := errors.New("refused"), make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		follow(ctx, clk, "", func(*netns.NsHandle, chan<- int, <-chan struct{}, func(error)) error { return refused },
			func(int) {}, func(err error) { states <- err })
	}()
	pause := firstPause
	for range 12 {
		require.ErrorIs(t, within(t, states), refused)
		require.Eventually(t, clk.HasWaiters, 5*time.Second, time.Millisecond)
		clk.Step(pause - time.Millisecond)
		require.True(t, clk.HasWaiters(), "it waits for all of %s", pause)
		clk.Step(time.Millisecond)
		pause = min(2*pause, maxPause)
	}
	require.Equal(t, maxPause, pause)
	require.ErrorIs(t, within(t, states), refused)
	cancel()
	<-ended
}

func TestDefaultRouteOf(t *testing.T) {
	_, all4, _ := net.ParseCIDR("0.0.0.0/0")
	_, all6, _ := net.ParseCIDR("::/0")
	_, some, _ := net.ParseCIDR("10.0.0.0/8")
	_, half, _ := net.ParseCIDR("128.0.0.0/1")
	base := netlink.Route{Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Family: netlink.FAMILY_V4, LinkIndex: 2}
	for name, tc := range map[string]struct {
		change func(r *netlink.Route)
		want   bool
	}{
		"to 0.0.0.0/0":              {func(r *netlink.Route) { r.Dst = all4 }, true},
		"to ::/0":                   {func(r *netlink.Route) { r.Dst, r.Family = all6, netlink.FAMILY_V6 }, true},
		"to no destination at all":  {func(*netlink.Route) {}, true},
		"to a network":              {func(r *netlink.Route) { r.Dst = some }, false},
		"to half of all":            {func(r *netlink.Route) { r.Dst = half }, false},
		"of another table":          {func(r *netlink.Route) { r.Table = 2 }, false},
		"unreachable":               {func(r *netlink.Route) { r.Type = unix.RTN_UNREACHABLE }, true},
		"a route of this host":      {func(r *netlink.Route) { r.Type = unix.RTN_LOCAL }, false},
		"a throw to the next table": {func(r *netlink.Route) { r.Type = unix.RTN_THROW }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := base
			tc.change(&r)
			_, ok := defaultRouteOf(r)
			require.Equal(t, tc.want, ok)
		})
	}
}
