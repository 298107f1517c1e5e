// Package machine makes machines of our own for the tests, the demo and the benchmarks: network namespaces with cards,
// routes and processes in them, so that an agent meets the kernel as it does on a node, and faults are real.
package machine

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// maxName keeps the names of links within the kernel's 15 characters.
const maxName = 6

// Machine is a network namespace with eth0, over which it reaches us, and eth1, of which we hold the other end.
type Machine struct {
	name string
	ns   netns.NsHandle
	// inside configures the links of the machine.
	inside *netlink.Handle
	// outside is the address of our end of eth0, and what the machine's default route leads to.
	outside net.IP
	forward *Forwarder
}

// Missing says what keeps this machine from having machines of our own; empty where nothing does.
func Missing() string {
	if runtime.GOOS != "linux" {
		return "network namespaces need Linux"
	}
	if os.Geteuid() != 0 {
		return "network namespaces need root: run as root"
	}
	return ""
}

// New makes a machine whose network is up, and on which apiServer, a host and port of ours, is reached at APIServer.
// The name has at most six letters or digits; what an earlier run has left under it is removed.
func New(name, apiServer string) (m *Machine, err error) {
	if missing := Missing(); missing != "" {
		return nil, errors.New(missing)
	}
	if len(name) > maxName {
		return nil, fmt.Errorf("making machine %q, its name has more than %d characters", name, maxName)
	}
	m = &Machine{name: mark() + name, ns: netns.None()}
	if err := m.clear(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("making machine %q, %w", name, err), m.Remove())
			m = nil
		}
	}()
	if err := m.makeNamespace(); err != nil {
		return m, err
	}
	if m.inside, err = netlink.NewHandleAt(m.ns, unix.NETLINK_ROUTE); err != nil {
		return m, err
	}
	if err := m.makeLinks(); err != nil {
		return m, err
	}
	m.forward, err = Forward(net.JoinHostPort(m.outside.String(), "0"), apiServer)
	return m, err
}

// mark keeps apart the machines of two working trees on one computer.
func mark() string {
	dir, _ := os.Getwd()
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(dir))
	return fmt.Sprintf("ar%04x", hash.Sum32()&0xffff)
}

// APIServer is the host and port at which the machine reaches the API server.
func (m *Machine) APIServer() string { return m.forward.Address() }

// Forwarder is what carries the machine's requests to the API server.
func (m *Machine) Forwarder() *Forwarder { return m.forward }

// Namespace is the file of the network namespace.
func (m *Machine) Namespace() string { return "/run/netns/" + m.name }

// Remove ends the machine; processes in it are their starter's to end.
func (m *Machine) Remove() error {
	if m.forward != nil {
		m.forward.Close()
	}
	if m.inside != nil {
		m.inside.Close()
	}
	if m.ns.IsOpen() {
		_ = m.ns.Close()
	}
	return m.clear()
}

// clear removes what bears the names of the machine.
func (m *Machine) clear() error {
	for _, link := range []string{m.outer(0), m.outer(1)} {
		if err := deleteLink(link); err != nil {
			return fmt.Errorf("removing link %s, %w", link, err)
		}
	}
	if _, err := os.Stat(m.Namespace()); err != nil {
		return nil //nolint:nilerr // there is none
	}
	if err := netns.DeleteNamed(m.name); err != nil {
		return fmt.Errorf("removing network namespace %s, %w", m.name, err)
	}
	return nil
}

// outer is the name of our end of a card.
func (m *Machine) outer(card int) string { return fmt.Sprintf("%s-%d", m.name, card) }

func deleteLink(name string) error {
	link, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// makeNamespace on a thread of its own, since making one enters it.
func (m *Machine) makeNamespace() error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		m.ns, err = netns.NewNamed(m.name)
		done <- err
	}()
	return <-done
}

func (m *Machine) makeLinks() error {
	lo, err := m.inside.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := m.inside.LinkSetUp(lo); err != nil {
		return err
	}
	network, err := freeNetwork(m.name)
	if err != nil {
		return err
	}
	for card := range 2 {
		if err := m.MakeCard(card); err != nil {
			return err
		}
	}
	return m.address(network)
}

// MakeCard makes eth0 or eth1, up at both ends.
func (m *Machine) MakeCard(card int) error {
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: fmt.Sprintf("eth%d", card), PeerNamespace: netlink.NsFd(m.ns)}
	veth.Name = m.outer(card)
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("making eth%d, %w", card, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("taking up the other end of eth%d, %w", card, err)
	}
	return m.Up(fmt.Sprintf("eth%d", card))
}

// address gives eth0 the second and us the first address of a network of two, and leads the default route over us.
func (m *Machine) address(network net.IP) error {
	at := func(last byte) *netlink.Addr {
		ip := net.IPv4(network[0], network[1], network[2], network[3]+last).To4()
		return &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(30, 32)}}
	}
	outer, err := netlink.LinkByName(m.outer(0))
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(outer, at(1)); err != nil {
		return err
	}
	m.outside = at(1).IP
	eth0, err := m.inside.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := m.inside.AddrAdd(eth0, at(2)); err != nil {
		return err
	}
	return m.AddDefaultRoute()
}

// freeNetwork gives a network of four addresses that no link of ours has: from 198.18.0.0/15, which RFC 2544 keeps for
// benchmarks and no network routes.
func freeNetwork(name string) (net.IP, error) {
	taken := map[string]bool{}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("listing addresses, %w", err)
	}
	for _, a := range addresses {
		taken[a.IP.Mask(net.CIDRMask(30, 32)).String()] = true
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name))
	const networks = 1 << 15
	for i := range uint32(networks) {
		n := (hash.Sum32() + i) % networks
		network := net.IPv4(198, 18+byte(n>>14), byte(n>>6), byte(n<<2)).To4()
		if !taken[network.String()] {
			return network, nil
		}
	}
	return nil, errors.New("finding a network, all of 198.18.0.0/15 is taken")
}

// Up takes a link of the machine up: ip link set NAME up.
func (m *Machine) Up(name string) error { return m.change(name, m.inside.LinkSetUp) }

// Down takes a link of the machine down: ip link set NAME down.
func (m *Machine) Down(name string) error { return m.change(name, m.inside.LinkSetDown) }

// Delete removes a link of the machine, and with it our end.
func (m *Machine) Delete(name string) error { return m.change(name, m.inside.LinkDel) }

func (m *Machine) change(name string, do func(netlink.Link) error) error {
	link, err := m.inside.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding %s, %w", name, err)
	}
	if err := do(link); err != nil {
		return fmt.Errorf("changing %s, %w", name, err)
	}
	return nil
}

// SetCarrier gives a card carrier or takes it away, as pulling its cable does, by our end.
func (m *Machine) SetCarrier(card int, carrier bool) error {
	outer, err := netlink.LinkByName(m.outer(card))
	if err != nil {
		return fmt.Errorf("finding the other end of eth%d, %w", card, err)
	}
	set := netlink.LinkSetDown
	if carrier {
		set = netlink.LinkSetUp
	}
	if err := set(outer); err != nil {
		return fmt.Errorf("changing the other end of eth%d, %w", card, err)
	}
	return nil
}

// AddDefaultRoute leads the default route over eth0 to us.
func (m *Machine) AddDefaultRoute() error {
	route, err := m.defaultRoute()
	if err != nil {
		return err
	}
	if err := m.inside.RouteAdd(route); err != nil {
		return fmt.Errorf("adding the default route, %w", err)
	}
	return nil
}

// DeleteDefaultRoute takes it away; we are still reached, being a neighbour.
func (m *Machine) DeleteDefaultRoute() error {
	route, err := m.defaultRoute()
	if err != nil {
		return err
	}
	if err := m.inside.RouteDel(route); err != nil {
		return fmt.Errorf("removing the default route, %w", err)
	}
	return nil
}

func (m *Machine) defaultRoute() (*netlink.Route, error) {
	eth0, err := m.inside.LinkByName("eth0")
	if err != nil {
		return nil, fmt.Errorf("finding eth0, %w", err)
	}
	everywhere := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	return &netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: everywhere, Gw: m.outside}, nil
}

// Start starts a process on the machine: in its network, with a /sys that shows it. wait gives what the process ended
// with. Where it has a Pdeathsig that is heeded until the process ends, because its thread is kept until then.
func (m *Machine) Start(cmd *exec.Cmd) (wait func() error, err error) {
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := m.enter(); err != nil {
			started <- err
			return
		}
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s on machine %s, %w", strings.Join(cmd.Args, " "), m.name, err)
	}
	return func() error { return <-ended }, nil
}

// enter takes the calling thread into the machine.
func (m *Machine) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace, %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to ourselves, %w", err)
	}
	if err := netns.Set(m.ns); err != nil {
		return fmt.Errorf("entering the network namespace, %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting the machine's /sys, %w", err)
	}
	return nil
}
