package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/links"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// InterfacesOptions say which network interfaces count.
type InterfacesOptions struct {
	// Interval between looks where no event comes; default 30 s, our own choice: events bring a change at once.
	Interval metav1.Duration `json:"interval,omitempty"`
	// Include are regular expressions of whole names of interfaces that count although no device backs them, such as
	// bonds: "bond[0-9]+". One that was up and has been deleted counts as gone until the next boot or until it is back.
	Include []string `json:"include,omitempty"`
	// Exclude are regular expressions of whole names of interfaces that never count; it wins over Include.
	Exclude []string `json:"exclude,omitempty"`
	// NetworkNamespace is the file of the namespace to look at, for example /run/netns/NAME, which takes CAP_SYS_ADMIN;
	// default: the one that the agent runs in, which is the node's with hostNetwork. In another namespace only
	// interfaces that Include matches count, as /sys tells of the agent's own alone.
	NetworkNamespace string `json:"networkNamespace,omitempty"`
}

// Interfaces sees network cards that were up in this boot and no longer are, and a lost loopback. It needs no
// capability, only the node's network namespace and /sys/class/net of it.
type Interfaces struct {
	host             host.Host
	clock            clock.WithTicker
	interval         time.Duration
	include, exclude *regexp.Regexp
	space            links.Namespace
	wake             netWake
	following        netFollowing

	mu    sync.Mutex
	cards []*ifaceCard
	last  *tracking.Look
}

// ifaceCard is what is remembered of an interface that counts.
type ifaceCard struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	// Included by configuration, rather than backed by a device.
	Included bool `json:"included,omitempty"`
	// Up and Running say that it has been so in this boot.
	Up      bool `json:"up,omitempty"`
	Running bool `json:"running,omitempty"`
	// Carried are the families whose default route it was the last to carry.
	Carried []string `json:"carried,omitempty"`
	// Reason of the fault that stands, and when it began.
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

// maxIfaceCards bounds the memory and the findings; the largest instances have some 60 cards.
const maxIfaceCards = 128

// Reasons of Interfaces.
const (
	ifaceNotUp      = "InterfaceNotUp"
	ifaceNotRunning = "InterfaceNotRunning"
	ifaceNoLoopback = "MissingLoopbackInterface"
)

// NewInterfaces gives an error where an expression of the options does not compile.
func NewInterfaces(h host.Host, clk clock.WithTicker, o InterfacesOptions) (*Interfaces, error) {
	include, err := ifaceNames("include", o.Include)
	if err != nil {
		return nil, err
	}
	exclude, err := ifaceNames("exclude", o.Exclude)
	if err != nil {
		return nil, err
	}
	return &Interfaces{
		host: h, clock: clk, interval: netInterval(o.Interval, 30*time.Second), include: include, exclude: exclude,
		space: links.In(o.NetworkNamespace), wake: newNetWake(),
	}, nil
}

// ifaceNames joins expressions to one that matches whole names; nil where there are none.
func ifaceNames(option string, expressions []string) (*regexp.Regexp, error) {
	if len(expressions) == 0 {
		return nil, nil
	}
	// Each is compiled alone too, so that the error names it and no half of one pairs with half of another.
	for i, e := range expressions {
		if _, err := regexp.Compile(e); err != nil {
			return nil, fmt.Errorf("reading %s[%d] of the interfaces, %w", option, i, err)
		}
	}
	return regexp.Compile(`\A(?:(?:` + strings.Join(expressions, `)|(?:`) + `))\z`)
}

// Spec of the source interfaces.
func (i *Interfaces) Spec() detector.Spec {
	return detector.Spec{Name: "interfaces", Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}, Interval: i.interval}
}

// Start follows the changes of links.
func (i *Interfaces) Start(ctx context.Context) {
	go i.space.FollowLinks(ctx, i.clock, func(l links.Link) {
		if i.concerns(l) {
			i.wake.raise()
		}
	}, func(err error) {
		i.following.set(err)
		i.wake.raise()
	})
}

// concerns keeps pods that come and go, each with a veth, from waking the detector.
func (i *Interfaces) concerns(l links.Link) bool {
	return l.Kind == "" || i.matched(l.Name)
}

// Wake holds a value after a change of a link that may count.
func (i *Interfaces) Wake() <-chan struct{} { return i.wake }

// Cursor keeps which cards have been up in this boot.
func (i *Interfaces) Cursor() json.RawMessage {
	i.mu.Lock()
	defer i.mu.Unlock()
	return netRemember(i.space, i.cards)
}

// Resume takes up the memory of before, if it is of the same boot and the same network namespace.
func (i *Interfaces) Resume(cursor json.RawMessage, sameBoot bool) {
	cards, ok := netRecall[[]*ifaceCard](i.space, cursor, sameBoot)
	if !ok || len(cards) > maxIfaceCards {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cards = nil
	for _, c := range cards {
		if c != nil {
			c.Included = c.Included && i.matched(c.Name) // the configuration may have changed meanwhile
			i.cards = append(i.cards, c)
		}
	}
}

// Look lists the links and compares them with what has been.
func (i *Interfaces) Look(context.Context) (tracking.Look, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	present, err := i.space.Links()
	var routes []links.Route
	if err == nil {
		routes, err = i.space.DefaultRoutes()
	}
	switch {
	case errors.Is(err, links.ErrChanging) && i.last != nil:
		// A storm of other links hides nothing for long; its last event wakes us again.
		look := *i.last
		look.Degraded = err.Error()
		return look, nil
	case err != nil:
		return tracking.Look{}, err
	}
	look := tracking.Look{Degraded: i.following.degraded("links", i.interval)}
	if _, err := os.Stat(i.host.Path("sys/class/net")); err != nil {
		look.Degraded = fmt.Sprintf("network cards cannot be told from other interfaces: %v", err)
	}
	if !i.remember(present) {
		look.Degraded = fmt.Sprintf("more than %d interfaces count, only the first %d are looked at", maxIfaceCards, maxIfaceCards)
	}
	i.carry(routes)
	look.Faults = append(i.judge(present), ifaceLoopback(present)...)
	i.last = &look
	return look, nil
}

// remember brings the memory up to what is present; false where there are more than it holds.
func (i *Interfaces) remember(present []links.Link) (all bool) {
	byIndex, byName := make(map[int]links.Link, len(present)), make(map[string]links.Link, len(present))
	for _, l := range present {
		byIndex[l.Index], byName[l.Name] = l, l
	}
	known := make(map[int]bool, len(i.cards))
	kept := i.cards[:0]
	for _, c := range i.cards {
		if i.keep(c, byIndex, byName) {
			kept, known[c.Index] = append(kept, c), true
		}
	}
	clear(i.cards[len(kept):])
	i.cards = kept
	for _, l := range present {
		if known[l.Index] || !i.counts(l, byIndex) {
			continue
		}
		if len(i.cards) == maxIfaceCards {
			return false
		}
		i.cards = append(i.cards, &ifaceCard{Name: l.Name, Index: l.Index, Included: i.matched(l.Name)})
	}
	return true
}

// keep follows a card that was renamed or replaced by another of its name, and says whether it still counts.
//
// A card that is gone counts only where it was asked for by configuration or was the last to carry a default route:
// the VPC CNI detaches network cards (ENIs) of its own accord when pods leave, and device plugins move cards into pods.
func (i *Interfaces) keep(c *ifaceCard, byIndex map[int]links.Link, byName map[string]links.Link) bool {
	if l, present := byIndex[c.Index]; present {
		c.Name = l.Name
		return i.counts(l, byIndex) || (c.Included && !i.excluded(l.Name))
	}
	if c.Included = c.Included && i.matched(c.Name); i.excluded(c.Name) || !c.Up || (!c.Included && len(c.Carried) == 0) {
		return false
	}
	// A card of the same name takes the place of one that must not be lost; as a new one it has never been up, which
	// would hide that the old one was.
	if l, replaced := byName[c.Name]; replaced && (i.counts(l, byIndex) || c.Included) {
		c.Index = l.Index
	}
	return true
}

// counts says whether the state of a link is the state of the node.
func (i *Interfaces) counts(l links.Link, byIndex map[int]links.Link) bool {
	switch {
	case i.excluded(l.Name) || l.Loopback():
		return false
	case i.matched(l.Name):
		return true
	case l.Kind != "" || l.Encapsulation != "ether":
		// Bridges, veth, dummies, tunnels, bonds; InfiniBand and CAN, which nothing of the node's network runs on.
		return false
	case l.Slave() || byIndex[l.Master].Kind == "bond" || byIndex[l.Master].Kind == "team":
		// What they are part of lives on with one of them lost.
		return false
	}
	return i.backedByDevice(l.Name)
}

// backedByDevice: /sys/class/net/NAME/device leads to the PCI, virtio or other device. A virtual function whose
// physical function this machine owns too (device/physfn) is not the node's but there to be given to pods; it is up or
// down as they please. On EC2 and Azure the physical function is with the hypervisor.
func (i *Interfaces) backedByDevice(name string) bool {
	device := i.host.Path("sys/class/net", name, "device")
	if _, err := os.Stat(device); err != nil {
		return false
	}
	_, err := os.Lstat(filepath.Join(device, "physfn"))
	return err != nil
}

func (i *Interfaces) excluded(name string) bool {
	return i.exclude != nil && i.exclude.MatchString(name)
}

// matched by configuration.
func (i *Interfaces) matched(name string) bool {
	return i.include != nil && i.include.MatchString(name) && !i.excluded(name)
}

// carry notes which card carries the default route of each family. It stays with the card that carried it last until
// another link does: the kernel takes routes away together with a card, before we look.
func (i *Interfaces) carry(routes []links.Route) {
	for family, best := range netBestRoutes(routes) {
		if !best.Usable() || len(best.Links) == 0 {
			continue
		}
		for _, c := range i.cards {
			carries := slices.Contains(best.Links, c.Index)
			c.Carried = netMember(c.Carried, family, carries)
		}
	}
}

func (i *Interfaces) judge(present []links.Link) []tracking.Fault {
	byIndex := make(map[int]links.Link, len(present))
	for _, l := range present {
		byIndex[l.Index] = l
	}
	var faults []tracking.Fault
	kept := i.cards[:0]
	for _, c := range i.cards {
		l, there := byIndex[c.Index]
		if !there && !c.Included && len(c.Carried) == 0 {
			continue // what it carried goes another way now
		}
		kept = append(kept, c)
		c.Up = c.Up || (there && l.Up())
		c.Running = c.Running || (there && l.Up() && l.Carrier() && !heldBack(l))
		reason, message := c.fault(l, there)
		if reason != c.Reason {
			c.Reason, c.Since = reason, i.clock.Now()
		}
		if reason != "" {
			faults = append(faults, tracking.Fault{
				Reason: reason, Subject: c.Name, Message: message, Since: c.Since, Evidence: i.evidence(c, l, there),
			})
		}
	}
	clear(i.cards[len(kept):])
	i.cards = kept
	return faults
}

// fault of a card by what it is now and what it has been; empty where there is none.
func (c *ifaceCard) fault(l links.Link, there bool) (reason, message string) {
	switch {
	case !there:
		return ifaceNotUp, c.Name + " is gone"
	case !l.Up() && c.Up:
		return ifaceNotUp, c.Name + " is administratively down"
	case l.Up() && !l.Carrier() && c.Running:
		return ifaceNotRunning, c.Name + " is up but has no carrier"
	// The kernel works out the other states a moment after the carrier, so that a card with carrier may be "down".
	case l.Up() && heldBack(l) && c.Running:
		return ifaceNotRunning, fmt.Sprintf("%s is up and has carrier but its state is %s", c.Name, l.OperState)
	}
	return "", ""
}

// heldBack: it waits to be let in (802.1X), or is tested.
func heldBack(l links.Link) bool { return l.OperState == "dormant" || l.OperState == "testing" }

func (i *Interfaces) evidence(c *ifaceCard, l links.Link, there bool) []string {
	changed := "last change " + c.Since.UTC().Format(time.RFC3339)
	if !there {
		return []string{fmt.Sprintf("no link with index %d", c.Index), changed}
	}
	evidence := []string{fmt.Sprintf("flags %s, operational state %s", l.FlagNames(), l.OperState)}
	if driver, err := os.Readlink(i.host.Path("sys/class/net", l.Name, "device/driver")); err == nil {
		evidence = append(evidence, "driver "+filepath.Base(driver))
	} else if l.Kind != "" {
		evidence = append(evidence, "kind "+l.Kind)
	}
	if l.Address != "" {
		evidence = append(evidence, "address "+l.Address)
	}
	return append(evidence, changed)
}

// ifaceLoopback needs no memory: every network namespace has a loopback, and a node's is up.
func ifaceLoopback(present []links.Link) []tracking.Fault {
	for _, l := range present {
		if !l.Loopback() {
			continue
		}
		if l.Up() {
			return nil
		}
		return []tracking.Fault{{
			Reason: ifaceNoLoopback, Subject: l.Name, Message: l.Name + " is down",
			Evidence: []string{fmt.Sprintf("flags %s, operational state %s", l.FlagNames(), l.OperState)},
		}}
	}
	return []tracking.Fault{{Reason: ifaceNoLoopback, Subject: "lo", Message: "there is no loopback interface"}}
}
