// Package links reads the network links and default routes of the node over rtnetlink, and follows their changes.
// Reading and following need no capability.
package links

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Link is what the kernel says of one network interface.
type Link struct {
	Index int
	Name  string
	// Kind of a link that software made, as "veth" or "bridge"; empty for the link of a device's driver, and for lo.
	Kind string
	// Encapsulation, for example "ether", "infiniband", "loopback".
	Encapsulation string
	// Flags as in linux/if.h: IFF_UP and so on.
	Flags uint32
	// OperState as in /sys/class/net/NAME/operstate.
	OperState string
	// Address of the hardware, empty where it has none.
	Address string
	// Master is the index of the bond, bridge or the like that the link is part of; 0 for none.
	Master int
}

// Up says that the link has been taken up by somebody (ip link set up).
func (l Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// Running says that packets can flow: up, with carrier, and (802.1X and the like) let in.
func (l Link) Running() bool { return l.Flags&unix.IFF_RUNNING != 0 }

// Carrier says that the driver sees the other end.
func (l Link) Carrier() bool { return l.Flags&unix.IFF_LOWER_UP != 0 }

// Loopback says that it is lo, by whatever name.
func (l Link) Loopback() bool { return l.Flags&unix.IFF_LOOPBACK != 0 }

// Slave says that it is part of a bond, or the fast path below a paravirtual card (netvsc, net_failover).
func (l Link) Slave() bool { return l.Flags&unix.IFF_SLAVE != 0 }

// flagNames are the flags worth showing to a person, as ip(8) writes them.
var flagNames = []struct {
	flag uint32
	name string
}{
	{unix.IFF_LOOPBACK, "LOOPBACK"}, {unix.IFF_BROADCAST, "BROADCAST"}, {unix.IFF_POINTOPOINT, "POINTOPOINT"},
	{unix.IFF_SLAVE, "SLAVE"}, {unix.IFF_MASTER, "MASTER"}, {unix.IFF_UP, "UP"}, {unix.IFF_LOWER_UP, "LOWER_UP"},
	{unix.IFF_RUNNING, "RUNNING"}, {unix.IFF_DORMANT, "DORMANT"},
}

// FlagNames are the flags as ip(8) writes them, joined by commas.
func (l Link) FlagNames() string {
	var names []string
	for _, f := range flagNames {
		if l.Flags&f.flag != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}

// Families of addresses, as subjects of findings have them.
const (
	IPv4 = "ipv4"
	IPv6 = "ipv6"
)

// Route is a route to everywhere (0.0.0.0/0 or ::/0) in the main table.
type Route struct {
	// Family is IPv4 or IPv6.
	Family string
	// Metric: the route with the lowest is the one that is used.
	Metric int
	// Links that it leads out of; more than one with several next hops.
	Links []int
	// Gateway of the first next hop, empty where there is none.
	Gateway string
	// Type as ip(8) writes it: "unicast", or one that leads nowhere: "unreachable", "blackhole", "prohibit".
	Type string
	// Advertised says that it came with a router's advertisement, and so ends by itself when those cease.
	Advertised bool
}

// Usable says that the route leads somewhere.
func (r Route) Usable() bool { return r.Type == typeUnicast }

// Namespace is the network namespace that is looked at.
type Namespace struct {
	path string
}

// In gives the namespace that a file such as /run/netns/NAME stands for, which takes CAP_SYS_ADMIN to enter; empty is
// the one that this process runs in.
func In(path string) Namespace { return Namespace{path: path} }

// ID tells namespaces of one boot apart.
func (n Namespace) ID() (uint64, error) {
	path := n.path
	if path == "" {
		path = "/proc/self/ns/net"
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("reading the network namespace, %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("reading the network namespace, %s has no inode", path)
	}
	return stat.Ino, nil
}

// ErrChanging says that links or routes changed during each of several attempts to list them.
var ErrChanging = errors.New("they change faster than they can be listed")

// attempts to list before ErrChanging: the kernel marks a list that was changed underway, which is worth another try.
const attempts = 5

// Links lists all links.
func (n Namespace) Links() ([]Link, error) {
	var links []Link
	err := n.list(func(h *netlink.Handle) error {
		listed, err := h.LinkList()
		if err != nil {
			return err
		}
		links = make([]Link, 0, len(listed))
		for _, l := range listed {
			links = append(links, linkOf(l))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing links, %w", err)
	}
	return links, nil
}

// DefaultRoutes lists the routes to everywhere in the main table.
func (n Namespace) DefaultRoutes() ([]Route, error) {
	var routes []Route
	err := n.list(func(h *netlink.Handle) error {
		routes = nil
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
			err := h.RouteListFilteredIter(family, filter, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
				if route, ok := defaultRouteOf(r); ok && len(routes) < maxDefaultRoutes {
					routes = append(routes, route)
				}
				return true
			})
			// A kernel without IPv6 has no such routes.
			if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing routes, %w", err)
	}
	return routes, nil
}

// maxDefaultRoutes bounds what is kept of a table; nodes have one or two.
const maxDefaultRoutes = 256

// list opens a socket for each list: nothing stale is left of a look that went wrong, or of a namespace that was made
// anew below the same path.
func (n Namespace) list(get func(*netlink.Handle) error) error {
	handle, err := n.handle()
	if err != nil {
		return err
	}
	defer handle.Close()
	for range attempts {
		if err = get(handle); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return ErrChanging
}

func (n Namespace) handle() (*netlink.Handle, error) {
	if n.path == "" {
		return netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	ns, err := netns.GetFromPath(n.path)
	if err != nil {
		return nil, fmt.Errorf("opening network namespace %s, %w", n.path, err)
	}
	defer ns.Close() //nolint:errcheck // it was only read from
	return netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
}

func linkOf(l netlink.Link) Link {
	a := l.Attrs()
	kind := l.Type()
	if kind == "device" {
		kind = ""
	}
	return Link{
		Index: a.Index, Name: a.Name, Kind: kind, Encapsulation: a.EncapType, Flags: a.RawFlags,
		OperState: a.OperState.String(), Address: a.HardwareAddr.String(), Master: a.MasterIndex,
	}
}

const typeUnicast = "unicast"

// routeTypes that a route to everywhere may have.
var routeTypes = map[int]string{
	unix.RTN_UNICAST: typeUnicast, unix.RTN_UNREACHABLE: "unreachable", unix.RTN_BLACKHOLE: "blackhole", unix.RTN_PROHIBIT: "prohibit",
}

// defaultRouteOf gives a route to everywhere; false for any other.
func defaultRouteOf(r netlink.Route) (Route, bool) {
	kind, known := routeTypes[r.Type]
	if !known || r.Table != unix.RT_TABLE_MAIN || r.MPLSDst != nil || !everywhere(r.Dst) {
		return Route{}, false
	}
	route := Route{Family: IPv4, Metric: r.Priority, Type: kind, Advertised: r.Protocol == unix.RTPROT_RA}
	if r.Family == netlink.FAMILY_V6 {
		route.Family = IPv6
	}
	gateway := r.Gw
	if r.LinkIndex != 0 {
		route.Links = append(route.Links, r.LinkIndex)
	}
	for _, hop := range r.MultiPath {
		if !slices.Contains(route.Links, hop.LinkIndex) {
			route.Links = append(route.Links, hop.LinkIndex)
		}
		if gateway == nil {
			gateway = hop.Gw
		}
	}
	if gateway != nil {
		route.Gateway = gateway.String()
	}
	return route, true
}

func everywhere(destination *net.IPNet) bool {
	if destination == nil {
		return true
	}
	ones, _ := destination.Mask.Size()
	return ones == 0 && destination.IP.IsUnspecified()
}
