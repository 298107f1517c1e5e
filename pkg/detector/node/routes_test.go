package node

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/links"
)

// routed gives a namespace with two cards, card0 and card1, with addresses of both families and no default route.
func routed(t testing.TB) *netSpace {
	t.Helper()
	s := newNetSpace(t)
	for n, name := range []string{"card0", "card1"} {
		s.veth(name, "peer"+name)
		s.up("peer"+name, name)
		v6 := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("2001:db8::2"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
		v6.IP[7] = byte(n)
		require.NoError(t, s.AddrAdd(s.link(name), v6))
		v4 := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, byte(2+64*n)), Mask: net.CIDRMask(26, 32)}}
		require.NoError(t, s.AddrAdd(s.link(name), v4))
	}
	return s
}

// defaultVia gives a default route by the first or second card.
func (s *netSpace) defaultVia(card int, family string, metric int) *netlink.Route {
	s.t.Helper()
	name := []string{"card0", "card1"}[card]
	route := &netlink.Route{LinkIndex: s.link(name).Attrs().Index, Priority: metric}
	if family == links.IPv4 {
		route.Gw, route.Dst = net.IPv4(192, 0, 2, byte(1+64*card)), &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		return route
	}
	route.Gw, route.Dst = net.ParseIP("2001:db8::1"), &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	route.Gw[7] = byte(card)
	return route
}

func (s *netSpace) add(routes ...*netlink.Route) {
	s.t.Helper()
	for _, r := range routes {
		require.NoError(s.t, s.RouteAdd(r))
	}
}

func (s *netSpace) del(routes ...*netlink.Route) {
	s.t.Helper()
	for _, r := range routes {
		require.NoError(s.t, s.RouteDel(r))
	}
}

func unreachable(metric int) *netlink.Route {
	return &netlink.Route{
		Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Type: unix.RTN_UNREACHABLE, Priority: metric, Family: netlink.FAMILY_V4,
	}
}

func TestRoutes(t *testing.T) {
	const (
		gone4 = "MissingDefaultRoutes ipv4: the default route of IPv4 is gone"
		gone6 = "MissingDefaultRoutes ipv6: the default route of IPv6 is gone"
	)
	for name, tc := range map[string]struct {
		// act on the default routes of both families by card0.
		act  func(s *netSpace)
		want []string
	}{
		"nothing happens": {
			act: func(*netSpace) {},
		},
		"the default route is removed": {
			act:  func(s *netSpace) { s.del(s.defaultVia(0, links.IPv4, 0)) },
			want: []string{gone4},
		},
		"the IPv6 default route is removed": {
			act:  func(s *netSpace) { s.del(s.defaultVia(0, links.IPv6, 0)) },
			want: []string{gone6},
		},
		"the default route is removed and put back": {
			act: func(s *netSpace) { r := s.defaultVia(0, links.IPv4, 0); s.del(r); s.add(r) },
		},
		"the default route moves to another interface": {
			act: func(s *netSpace) {
				s.del(s.defaultVia(0, links.IPv4, 0))
				s.add(s.defaultVia(1, links.IPv4, 100))
			},
		},
		"the card is taken down, and its routes with it": {
			act:  func(s *netSpace) { s.down("card0") },
			want: []string{gone4, gone6},
		},
		"the card is deleted": {
			act:  func(s *netSpace) { s.remove("card0") },
			want: []string{gone4, gone6},
		},
		"the card loses its carrier and keeps its routes, which is the interface's fault": {
			act: func(s *netSpace) { s.down("peercard0") },
		},
		"a route to nowhere takes its place": {
			act:  func(s *netSpace) { s.del(s.defaultVia(0, links.IPv4, 0)); s.add(unreachable(0)) },
			want: []string{"MissingDefaultRoutes ipv4: the default route of IPv4 leads nowhere: unreachable"},
		},
		"a route to nowhere stands behind it": {
			act: func(s *netSpace) { s.add(unreachable(4278198272)) },
		},
		"a default route of another table is removed": {
			act: func(s *netSpace) {
				r := s.defaultVia(0, links.IPv4, 0)
				r.Table = 2
				s.add(r)
				s.del(r)
			},
		},
		"a route to a network is removed": {
			act: func(s *netSpace) {
				r := &netlink.Route{LinkIndex: s.link("card0").Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(10, 0, 0, 0), Mask: net.CIDRMask(8, 32)}}
				s.add(r)
				s.del(r)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := routed(t)
			s.add(s.defaultVia(0, links.IPv4, 0), s.defaultVia(0, links.IPv6, 0))
			options := RoutesOptions{NetworkNamespace: s.path}
			d := NewRoutes(clock.RealClock{}, options)
			require.Empty(t, netFaults(netLook(t, d)), "before")
			asleep := restarted(d, NewRoutes(clock.RealClock{}, options), true)
			booted := restarted(d, NewRoutes(clock.RealClock{}, options), false)
			tc.act(s)
			require.ElementsMatch(t, tc.want, netFaults(netLook(t, d)))
			require.ElementsMatch(t, tc.want, netFaults(netLook(t, d)), "a second look")
			require.ElementsMatch(t, tc.want, netFaults(netLook(t, asleep)), "restarted before")
			require.ElementsMatch(t, tc.want, netFaults(netLook(t, restarted(d, NewRoutes(clock.RealClock{}, options), true))), "restarted after")
			require.Empty(t, netFaults(netLook(t, booted)), "another boot")
		})
	}
}

func TestRoutesOfSeveralNextHops(t *testing.T) {
	s := routed(t)
	r := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
	for card, name := range []string{"card0", "card1"} {
		r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: s.link(name).Attrs().Index, Gw: net.IPv4(192, 0, 2, byte(1+64*card))})
	}
	s.add(r)
	d := NewRoutes(clock.RealClock{}, RoutesOptions{NetworkNamespace: s.path})
	require.Empty(t, netFaults(netLook(t, d)))
	s.down("card1")
	require.Empty(t, netFaults(netLook(t, d)), "one next hop is left")
	s.down("card0")
	faults := netLook(t, d).Faults
	require.Len(t, faults, 1)
	require.Equal(t, links.IPv4, faults[0].Subject)
}

func TestRoutesAdvertisedByARouter(t *testing.T) {
	for name, tc := range map[string]struct {
		requireIPv6, lose4 bool
		want               v1alpha1.Severity
	}{
		"a Warning while IPv4 has its own":            {want: v1alpha1.SeverityWarning},
		"the catalogue's where pods need IPv6":        {requireIPv6: true},
		"the catalogue's where IPv4 has lost its own": {lose4: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := routed(t)
			r := s.defaultVia(0, links.IPv6, 0)
			r.Protocol = unix.RTPROT_RA
			s.add(r, s.defaultVia(0, links.IPv4, 0))
			d := NewRoutes(clock.RealClock{}, RoutesOptions{NetworkNamespace: s.path, RequireIPv6: tc.requireIPv6})
			require.Empty(t, netFaults(netLook(t, d)))
			s.del(r)
			if tc.lose4 {
				s.del(s.defaultVia(0, links.IPv4, 0))
			}
			for _, f := range netLook(t, d).Faults {
				if f.Subject == links.IPv6 {
					require.Equal(t, tc.want, f.Severity)
					require.Equal(t, "it was default via 2001:db8::1 dev card0", f.Evidence[0])
					return
				}
			}
			t.Fatal("no fault of IPv6")
		})
	}
}

func TestRoutesWakesAtOnce(t *testing.T) {
	s := routed(t)
	r := s.defaultVia(0, links.IPv4, 0)
	s.add(r)
	d := NewRoutes(clock.RealClock{}, RoutesOptions{NetworkNamespace: s.path})
	netStarted(t, d)
	require.Empty(t, netFaults(netLook(t, d)))
	began := time.Now()
	s.del(r)
	netWoken(t, d, "a default route that is removed")
	t.Logf("woken %s after ip route del began", time.Since(began))
	require.Len(t, netLook(t, d).Faults, 1)
	s.add(r)
	netWoken(t, d, "a default route that is put back")
	require.Empty(t, netFaults(netLook(t, d)))
	netDrain(d)
	s.down("card0")
	netWoken(t, d, "a card that is taken down")
	require.Len(t, netLook(t, d).Faults, 1)
}

func TestRoutesSleepsThroughTheRoutesOfPods(t *testing.T) {
	s := routed(t)
	s.add(s.defaultVia(0, links.IPv4, 0))
	d := NewRoutes(clock.RealClock{}, RoutesOptions{NetworkNamespace: s.path})
	netStarted(t, d)
	require.Empty(t, netFaults(netLook(t, d)))
	netDrain(d)
	for n := range 250 {
		r := &netlink.Route{LinkIndex: s.link("card0").Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(10, 0, 0, byte(n)), Mask: net.CIDRMask(32, 32)}}
		s.add(r)
		s.del(r)
	}
	time.Sleep(200 * time.Millisecond)
	select {
	case <-d.Wake():
		t.Fatal("woken by routes of pods")
	default:
	}
}

func TestRoutesResumesOnlyWhatIsItsOwn(t *testing.T) {
	s := routed(t)
	for _, cursor := range []string{"", "null", "{", `{"had":{"ipv4":null}}`, `{"had":{"ipv4":{}}}`, `{"had":3}`} {
		fresh := NewRoutes(clock.RealClock{}, RoutesOptions{NetworkNamespace: s.path})
		fresh.Resume([]byte(cursor), true)
		require.Empty(t, netFaults(netLook(t, fresh)), cursor)
	}
}

func TestRoutesSinceStaysOverARestart(t *testing.T) {
	s := routed(t)
	s.add(s.defaultVia(0, links.IPv4, 0))
	d := NewRoutes(clock.RealClock{}, RoutesOptions{NetworkNamespace: s.path})
	netLook(t, d)
	s.del(s.defaultVia(0, links.IPv4, 0))
	since := netLook(t, d).Faults[0].Since
	require.False(t, since.IsZero())
	again := restarted(d, NewRoutes(clock.RealClock{}, RoutesOptions{NetworkNamespace: s.path}), true)
	require.Equal(t, since.UTC(), netLook(t, again).Faults[0].Since.UTC())
}
