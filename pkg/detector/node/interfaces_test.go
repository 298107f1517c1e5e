package node

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/links"
)

func interfacesOf(t testing.TB, o InterfacesOptions) *Interfaces {
	t.Helper()
	i, err := NewInterfaces(host.New(""), clock.RealClock{}, o)
	require.NoError(t, err)
	return i
}

func TestInterfaces(t *testing.T) {
	for name, tc := range map[string]struct {
		// act on card0 with its other end peer0, both up; spare0 has never been up.
		act  func(s *netSpace)
		want []string
		// wantAfterBoot where it is a fault even to an agent that remembers nothing.
		wantAfterBoot []string
	}{
		"nothing happens": {
			act: func(*netSpace) {},
		},
		"a card is taken down": {
			act:  func(s *netSpace) { s.down("card0") },
			want: []string{"InterfaceNotUp card0: card0 is administratively down"},
		},
		"a card is taken down and up again": {
			act: func(s *netSpace) { s.down("card0"); s.up("card0") },
		},
		"a card loses its carrier": {
			act:  func(s *netSpace) { s.down("peer0") },
			want: []string{"InterfaceNotRunning card0: card0 is up but has no carrier"},
		},
		"a card loses its carrier and has it back": {
			act: func(s *netSpace) { s.down("peer0"); s.up("peer0") },
		},
		"a card is dormant": {
			act: func(s *netSpace) {
				require.NoError(s.t, s.LinkSetUp(s.link("card0")))
				s.dormant("card0")
			},
			want: []string{"InterfaceNotRunning card0: card0 is up and has carrier but its state is dormant"},
		},
		"a card is deleted": {
			act:  func(s *netSpace) { s.remove("card0") },
			want: []string{"InterfaceNotUp card0: card0 is gone"},
		},
		"a card is deleted, and one of its name made that is not up": {
			act:  func(s *netSpace) { s.remove("card0"); s.veth("card0", "peer0") },
			want: []string{"InterfaceNotUp card0: card0 is administratively down"},
		},
		"a card is deleted, and one of its name made and taken up": {
			act: func(s *netSpace) { s.remove("card0"); s.veth("card0", "peer0"); s.up("card0", "peer0") },
		},
		"a card is renamed": {
			act: func(s *netSpace) {
				s.down("card0")
				require.NoError(s.t, s.LinkSetName(s.link("card0"), "other0"))
				s.up("other0")
			},
		},
		"a card that has never been up stays down": {
			act: func(s *netSpace) { s.up("spare1"); s.down("spare1") },
		},
		"a card is taken up that never had a carrier": {
			act: func(s *netSpace) { s.up("spare0") },
		},
		"a card that does not count is taken down": {
			act: func(s *netSpace) { s.down("pod0") },
		},
		"a card that is excluded is taken down": {
			act: func(s *netSpace) { s.down("card9") },
		},
		"a card that does not count is deleted": {
			act: func(s *netSpace) { s.remove("pod0") },
		},
		"the loopback is down": {
			act:           func(s *netSpace) { s.down("lo") },
			want:          []string{"MissingLoopbackInterface lo: lo is down"},
			wantAfterBoot: []string{"MissingLoopbackInterface lo: lo is down"},
		},
		"the loopback is down and up again": {
			act: func(s *netSpace) { s.down("lo"); s.up("lo") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newNetSpace(t)
			s.veth("card0", "peer0")
			s.veth("spare0", "spare1")
			s.veth("pod0", "pod1")
			s.veth("card9", "pod9")
			s.up("card0", "peer0", "pod0", "pod1", "card9", "pod9")
			options := InterfacesOptions{NetworkNamespace: s.path, Include: []string{"card[0-9]+", "spare0"}, Exclude: []string{"card9"}}
			d := interfacesOf(t, options)
			require.Empty(t, netFaults(netLook(t, d)), "before")

			// An agent that restarts meanwhile must say the same.
			asleep := restarted(d, interfacesOf(t, options), true)
			booted := restarted(d, interfacesOf(t, options), false)
			tc.act(s)
			require.ElementsMatch(t, tc.want, netFaults(netLook(t, d)))
			require.ElementsMatch(t, tc.want, netFaults(netLook(t, d)), "a second look")
			require.ElementsMatch(t, tc.want, netFaults(netLook(t, asleep)), "restarted before")
			after := restarted(d, interfacesOf(t, options), true)
			require.ElementsMatch(t, tc.want, netFaults(netLook(t, after)), "restarted after")
			require.ElementsMatch(t, tc.wantAfterBoot, netFaults(netLook(t, booted)), "another boot")
		})
	}
}

// dormant is what 802.1X does to a card until it is let in.
func (s *netSpace) dormant(name string) {
	s.t.Helper()
	s.inside(func() {
		request := nlSetOperState(s.link(name).Attrs().Index)
		require.NoError(s.t, request())
	})
}

func TestInterfacesSinceStaysOverARestart(t *testing.T) {
	s := newNetSpace(t)
	s.veth("card0", "peer0")
	s.up("card0", "peer0")
	options := InterfacesOptions{NetworkNamespace: s.path, Include: []string{"card0"}}
	d := interfacesOf(t, options)
	netLook(t, d)
	s.down("card0")
	since := netLook(t, d).Faults[0].Since
	require.False(t, since.IsZero())
	require.Equal(t, since.UTC(), netLook(t, restarted(d, interfacesOf(t, options), true)).Faults[0].Since.UTC())
}

// Never a fault: everything that pods, bridges, tunnels and bonds come and go with.
func TestOnlyTheCardThatWentDownIsAFault(t *testing.T) {
	s := newNetSpace(t)
	s.veth("eth1", "wire1")
	s.veth("cali0123", "lxc0123")
	var others []string
	for _, name := range []string{"br0", "cni0", "docker0"} {
		require.NoError(t, s.LinkAdd(&netlink.Bridge{LinkAttrs: netAttrs(name)}))
		others = append(others, name)
	}
	local, remote := net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 0, 2)
	for _, l := range []netlink.Link{
		&netlink.Dummy{LinkAttrs: netAttrs("dummy0")},
		&netlink.Dummy{LinkAttrs: netAttrs("kube-ipvs0")},
		&netlink.Dummy{LinkAttrs: netAttrs("nodelocaldns")},
		&netlink.Iptun{LinkAttrs: netAttrs("tunl1"), Local: local, Remote: remote},
		&netlink.Gretun{LinkAttrs: netAttrs("gre1"), Local: local, Remote: remote},
		&netlink.Sittun{LinkAttrs: netAttrs("sit1"), Local: local, Remote: remote},
		&netlink.Vxlan{LinkAttrs: netAttrs("flannel.1"), VxlanId: 1, Port: 4789},
		&netlink.Ifb{LinkAttrs: netAttrs("ifb9")},
		&netlink.Vrf{LinkAttrs: netAttrs("vrf0"), Table: 10},
		&netlink.Wireguard{LinkAttrs: netAttrs("wg0")},
		&netlink.IPoIB{LinkAttrs: netAttrs("ib0")},
	} {
		if s.try(l) {
			others = append(others, l.Attrs().Name)
		}
	}
	if bond := netlink.NewLinkBond(netAttrs("bond0")); s.try(bond) {
		s.veth("slave0", "wire2")
		require.NoError(t, s.LinkSetMaster(s.link("slave0"), s.link("bond0")))
		others = append(others, "bond0", "slave0")
	}
	require.NoError(t, s.LinkSetMaster(s.link("lxc0123"), s.link("cni0")))
	others = append(others, "cali0123", "lxc0123", "wire1")
	d := interfacesOf(t, InterfacesOptions{NetworkNamespace: s.path, Include: []string{"eth1"}})
	s.up("eth1")
	s.up(others...)
	require.Empty(t, netFaults(netLook(t, d)))

	s.down("eth1")
	s.down(others...)
	require.Equal(t, []string{"InterfaceNotUp eth1: eth1 is administratively down"}, netFaults(netLook(t, d)))
	for _, name := range others {
		if _, err := s.LinkByName(name); err == nil { // a veth goes with its peer
			s.remove(name)
		}
	}
	require.Equal(t, []string{"InterfaceNotUp eth1: eth1 is gone"}, netFaults(netLook(t, d)), "its own peer was among them")
}

// recordedCard writes what /sys has of a link that a device backs.
func recordedCard(t *testing.T, root, name, driver string, virtualFunction bool) {
	t.Helper()
	device := filepath.Join(root, "sys/class/net", name, "device")
	require.NoError(t, os.MkdirAll(device, 0o755))
	require.NoError(t, os.Symlink("../../../bus/pci/drivers/"+driver, filepath.Join(device, "driver")))
	if virtualFunction {
		require.NoError(t, os.Symlink("../0000:01:00.0", filepath.Join(device, "physfn")))
	}
}

func TestWhichLinksCount(t *testing.T) {
	const ether = "ether"
	root := t.TempDir()
	for _, name := range []string{"eth0", "eth1", "ib0", "can0", "vf-below-netvsc", "slave0", "port0", "in-bridge", "ens9"} {
		recordedCard(t, root, name, "ena", false)
	}
	recordedCard(t, root, "vf3", "iavf", true)
	i, err := NewInterfaces(host.New(root), clock.RealClock{}, InterfacesOptions{Include: []string{"bond[0-9]", "ens9"}, Exclude: []string{"ens9", "eth1"}})
	require.NoError(t, err)
	masters := map[int]links.Link{100: {Index: 100, Kind: "bond"}, 101: {Index: 101, Kind: "team"}, 102: {Index: 102, Kind: "bridge"}}
	for sentence, tc := range map[string]struct {
		link links.Link
		want bool
	}{
		"a card of a device":                                {links.Link{Name: "eth0", Encapsulation: ether}, true},
		"a card of a device in a bridge":                    {links.Link{Name: "in-bridge", Encapsulation: ether, Master: 102}, true},
		"an Ethernet link without a device":                 {links.Link{Name: "virtual0", Encapsulation: ether}, false},
		"a card that is excluded":                           {links.Link{Name: "eth1", Encapsulation: ether}, false},
		"a card both included and excluded":                 {links.Link{Name: "ens9", Encapsulation: ether}, false},
		"a bond":                                            {links.Link{Name: "bonded", Encapsulation: ether, Kind: "bond"}, false},
		"a bond that is included":                           {links.Link{Name: "bond0", Encapsulation: ether, Kind: "bond"}, true},
		"a name that an expression matches only in part":    {links.Link{Name: "bond01", Encapsulation: ether, Kind: "bond"}, false},
		"InfiniBand":                                        {links.Link{Name: "ib0", Encapsulation: "infiniband"}, false},
		"a CAN bus":                                         {links.Link{Name: "can0", Encapsulation: "can"}, false},
		"a slave of a bond":                                 {links.Link{Name: "slave0", Encapsulation: ether, Master: 100, Flags: unix.IFF_SLAVE}, false},
		"a port of a team":                                  {links.Link{Name: "port0", Encapsulation: ether, Master: 101}, false},
		"the fast path below a paravirtual card":            {links.Link{Name: "vf-below-netvsc", Encapsulation: ether, Master: 1, Flags: unix.IFF_SLAVE}, false},
		"a virtual function of a card of this very machine": {links.Link{Name: "vf3", Encapsulation: ether}, false},
		"the loopback":                                      {links.Link{Name: "lo", Encapsulation: "loopback", Flags: unix.IFF_LOOPBACK}, false},
		"a dummy":                                           {links.Link{Name: "eth0", Encapsulation: ether, Kind: "dummy"}, false},
		"a tunnel":                                          {links.Link{Name: "tunl0", Encapsulation: "ipip", Kind: "ipip"}, false},
		"a tunnel that carries Ethernet":                    {links.Link{Name: "gretap0", Encapsulation: ether, Kind: "gretap"}, false},
		"a VLAN of a card":                                  {links.Link{Name: "eth0.100", Encapsulation: ether, Kind: "vlan"}, false},
		"a virtual Ethernet":                                {links.Link{Name: "eth0", Encapsulation: ether, Kind: "veth"}, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Equal(t, tc.want, i.counts(tc.link, masters))
		})
	}
}

// A card of a recorded machine, whose device no test can take away for real.
func TestCardsThatVanish(t *testing.T) {
	const up = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	eth := func(index int, name string) links.Link {
		return links.Link{Index: index, Name: name, Encapsulation: "ether", Flags: up, OperState: "up", Address: "02:00:00:00:00:01"}
	}
	by := func(index, metric int) []links.Route {
		return []links.Route{{Family: links.IPv4, Metric: metric, Links: []int{index}, Type: "unicast"}}
	}
	type picture struct {
		links  []links.Link
		routes []links.Route
	}
	for name, tc := range map[string]struct {
		pictures []picture
		want     []string
	}{
		"a second card that the CNI detaches": {
			pictures: []picture{{[]links.Link{eth(2, "eth0"), eth(3, "eth1")}, by(2, 0)}, {[]links.Link{eth(2, "eth0")}, by(2, 0)}},
		},
		"a second card that is detached and another of its name attached, not yet up": {
			pictures: []picture{
				{[]links.Link{eth(2, "eth0"), eth(3, "eth1")}, by(2, 0)},
				{[]links.Link{eth(2, "eth0"), {Index: 4, Name: "eth1", Encapsulation: "ether"}}, by(2, 0)},
			},
		},
		"the card of the default route": {
			pictures: []picture{{[]links.Link{eth(2, "eth0")}, by(2, 0)}, {nil, nil}},
			want:     []string{"InterfaceNotUp eth0: eth0 is gone"},
		},
		"the card of the default route, down first": {
			pictures: []picture{
				{[]links.Link{eth(2, "eth0")}, by(2, 0)},
				{[]links.Link{{Index: 2, Name: "eth0", Encapsulation: "ether"}}, nil},
				{nil, nil},
			},
			want: []string{"InterfaceNotUp eth0: eth0 is gone"},
		},
		"the card of the default route, which goes through another now": {
			pictures: []picture{{[]links.Link{eth(2, "eth0"), eth(3, "eth1")}, by(2, 0)}, {[]links.Link{eth(3, "eth1")}, by(3, 512)}},
		},
		"the card of the default route, and its driver is loaded again": {
			pictures: []picture{{[]links.Link{eth(2, "eth0")}, by(2, 0)}, {nil, nil}, {[]links.Link{eth(5, "eth0")}, by(5, 0)}},
		},
		"the card of the default route, and its driver is loaded again but it is not taken up": {
			pictures: []picture{
				{[]links.Link{eth(2, "eth0")}, by(2, 0)}, {nil, nil}, {[]links.Link{{Index: 5, Name: "eth0", Encapsulation: "ether"}}, nil},
			},
			want: []string{"InterfaceNotUp eth0: eth0 is administratively down"},
		},
		"a card that is renamed": {
			pictures: []picture{{[]links.Link{eth(2, "eth0")}, by(2, 0)}, {[]links.Link{eth(2, "eth1")}, by(2, 0)}},
		},
		"none": {
			pictures: []picture{{[]links.Link{eth(2, "eth0")}, by(2, 0)}, {[]links.Link{eth(2, "eth0")}, by(2, 0)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			recordedCard(t, root, "eth0", "ena", false)
			recordedCard(t, root, "eth1", "ena", false)
			i, err := NewInterfaces(host.New(root), clock.RealClock{}, InterfacesOptions{})
			require.NoError(t, err)
			var got []string
			for _, p := range tc.pictures {
				require.True(t, i.remember(p.links))
				i.carry(p.routes)
				got = nil
				for _, f := range i.judge(p.links) {
					got = append(got, f.Reason+" "+f.Subject+": "+f.Message)
				}
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestInterfacesEvidence(t *testing.T) {
	root := t.TempDir()
	recordedCard(t, root, "eth0", "ena", false)
	i, err := NewInterfaces(host.New(root), clock.RealClock{}, InterfacesOptions{})
	require.NoError(t, err)
	link := links.Link{Index: 2, Name: "eth0", Encapsulation: "ether", OperState: "down", Address: "02:00:00:00:00:01", Flags: unix.IFF_BROADCAST}
	card := &ifaceCard{Name: "eth0", Index: 2, Since: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)}
	require.Equal(t, []string{
		"flags BROADCAST, operational state down", "driver ena", "address 02:00:00:00:00:01", "last change 2026-11-25T09:00:00Z",
	}, i.evidence(card, link, true))
}

func TestInterfacesOfThisMachineAreSound(t *testing.T) {
	i := interfacesOf(t, InterfacesOptions{})
	require.Empty(t, netFaults(netLook(t, i)))
}

func TestInterfacesMoreThanItRemembers(t *testing.T) {
	i := interfacesOf(t, InterfacesOptions{Include: []string{"many.*"}})
	var many []links.Link
	for n := range 10 * maxIfaceCards {
		many = append(many, links.Link{Index: n + 1, Name: fmt.Sprintf("many%d", n), Flags: unix.IFF_UP})
	}
	require.False(t, i.remember(many))
	require.Len(t, i.cards, maxIfaceCards)
}

func TestInterfacesRejectsExpressions(t *testing.T) {
	_, err := NewInterfaces(host.New(""), clock.RealClock{}, InterfacesOptions{Include: []string{"eth0", "eth(1"}})
	require.EqualError(t, err, "reading include[1] of the interfaces, error parsing regexp: missing closing ): `eth(1`")
	_, err = NewInterfaces(host.New(""), clock.RealClock{}, InterfacesOptions{Exclude: []string{"["}})
	require.ErrorContains(t, err, "reading exclude[0] of the interfaces")
}

func TestInterfacesResumesOnlyWhatIsItsOwn(t *testing.T) {
	s, other := newNetSpace(t), newNetSpace(t)
	s.veth("card0", "peer0")
	s.up("card0", "peer0")
	d := interfacesOf(t, InterfacesOptions{NetworkNamespace: s.path, Include: []string{"card0"}})
	netLook(t, d)
	elsewhere := restarted(d, interfacesOf(t, InterfacesOptions{NetworkNamespace: other.path, Include: []string{"card0"}}), true)
	require.Empty(t, netFaults(netLook(t, elsewhere)), "a memory of another namespace")
	for _, cursor := range []string{"", "null", "{", `{"cards":[null]}`, `{"cards":3}`} {
		fresh := interfacesOf(t, InterfacesOptions{NetworkNamespace: s.path, Include: []string{"card0"}})
		fresh.Resume([]byte(cursor), true)
		require.Empty(t, netFaults(netLook(t, fresh)), cursor)
	}
}

func TestInterfacesThatAreNoLongerAskedForAreLetGo(t *testing.T) {
	s := newNetSpace(t)
	s.veth("card0", "peer0")
	s.up("card0", "peer0")
	options := InterfacesOptions{NetworkNamespace: s.path, Include: []string{"card0"}}
	d := interfacesOf(t, options)
	netLook(t, d)
	s.down("card0")
	require.Len(t, netLook(t, d).Faults, 1)
	options.Include = nil
	require.Empty(t, netFaults(netLook(t, restarted(d, interfacesOf(t, options), true))), "no longer included")
	options.Include, options.Exclude = []string{"card0"}, []string{"card0"}
	require.Empty(t, netFaults(netLook(t, restarted(d, interfacesOf(t, options), true))), "excluded")
}

func TestInterfacesWakesAtOnce(t *testing.T) {
	s := newNetSpace(t)
	s.veth("card0", "peer0")
	s.up("card0", "peer0")
	d := interfacesOf(t, InterfacesOptions{NetworkNamespace: s.path, Include: []string{"card0"}})
	netStarted(t, d)
	require.Empty(t, netFaults(netLook(t, d)))

	began := time.Now()
	s.down("card0")
	netWoken(t, d, "a card that is taken down")
	t.Logf("woken %s after ip link set down began", time.Since(began))
	require.Len(t, netLook(t, d).Faults, 1)
	netDrain(d)
	s.up("card0")
	netWoken(t, d, "a card that is taken up")
	require.Eventually(t, func() bool { return len(netLook(t, d).Faults) == 0 }, 5*time.Second, 10*time.Millisecond)
	netDrain(d)
	s.remove("card0")
	netWoken(t, d, "a card that is deleted")
	require.Len(t, netLook(t, d).Faults, 1)
}

// A thousand ends of pods come, go up and down, and go.
func TestInterfacesSleepsThroughAFloodOfPods(t *testing.T) {
	s := newNetSpace(t)
	s.veth("card0", "peer0")
	s.up("card0", "peer0")
	d := interfacesOf(t, InterfacesOptions{NetworkNamespace: s.path, Include: []string{"card0"}})
	netStarted(t, d)
	require.Empty(t, netFaults(netLook(t, d)))
	goroutines, before := runtime.NumGoroutine(), heap()
	for n := range 500 {
		s.veth(fmt.Sprintf("pod%d", n), fmt.Sprintf("end%d", n))
		s.up(fmt.Sprintf("pod%d", n), fmt.Sprintf("end%d", n))
	}
	for n := range 500 {
		s.down(fmt.Sprintf("pod%d", n), fmt.Sprintf("end%d", n))
	}
	require.Empty(t, netFaults(netLook(t, d)), "among a thousand")
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
	require.Less(t, heap(), before+4<<20)
	netDrain(d)
	s.down("card0")
	netWoken(t, d, "a card that is taken down after the flood")
	require.Len(t, netLook(t, d).Faults, 1)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestInterfacesSaysThatItCannotFollow(t *testing.T) {
	d := interfacesOf(t, InterfacesOptions{NetworkNamespace: "/run/netns/autorepair-not-there"})
	d.Start(t.Context())
	netWoken(t, d, "a subscription that is refused")
	_, err := d.Look(t.Context())
	require.ErrorContains(t, err, "opening network namespace /run/netns/autorepair-not-there")
	require.Contains(t, d.following.degraded("links", time.Minute), "no events of links, which are looked at every 1m0s instead")
}

func BenchmarkInterfacesLook(b *testing.B) {
	i := interfacesOf(b, InterfacesOptions{})
	b.ReportAllocs()
	for b.Loop() {
		netLook(b, i)
	}
}
