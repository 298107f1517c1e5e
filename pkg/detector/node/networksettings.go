package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// NetworkSettingsOptions say which settings the pods of the node cannot do without.
type NetworkSettingsOptions struct {
	// Interval between looks; default 1 min, our own choice.
	Interval metav1.Duration `json:"interval,omitempty"`
	// Sysctls are settings to watch besides our own, or in their place, each with the values that are right: "net.ipv4.
	// conf.eth0.rp_filter": ["0", "2"]. No values: it is not watched. Only settings of net. can be watched.
	Sysctls map[string][]string `json:"sysctls,omitempty"`
	// IgnoreRejectRules leaves the firewall unread, which takes CAP_NET_ADMIN.
	IgnoreRejectRules bool `json:"ignoreRejectRules,omitempty"`
	// AllowedChains are chains of the firewall, besides those of Kubernetes, its networks, container engines and
	// virtual machines, in which rules may reject: prefixes of names.
	AllowedChains []string `json:"allowedChains,omitempty"`
	// EFAThreshold is by how much an error counter of an Elastic Fabric Adapter may rise per interval; default 100, the
	// burst that the Amazon EKS Node Monitoring Agent lets pass.
	EFAThreshold uint64 `json:"efaThreshold,omitempty"`
	// NetworkNamespace is the file of the namespace whose firewall is read, as of the interfaces. The settings are
	// always those of the agent's own.
	NetworkNamespace string `json:"networkNamespace,omitempty"`
}

// NetworkSettings sees settings of the kernel that were right in this boot and no longer are, firewall rules that
// reject what pods need, and errors that Elastic Fabric Adapters count. Settings and adapters need no capability, only
// the node's network namespace; the firewall needs CAP_NET_ADMIN, as nfnetlink answers no reader without it.
type NetworkSettings struct {
	host     host.Host
	clock    clock.PassiveClock
	interval time.Duration
	settings []netSetting
	rules    *rejectRules
	efa      *efaCounters

	mu sync.Mutex
	// right are the settings that were right in this boot.
	right map[string]bool
}

// netSetting is a setting of the kernel and the values that are right for it.
type netSetting struct {
	name  string
	right []string
	why   string
}

// netSettings that networks of pods need. A setting is only a fault once it was right in this boot: whether it must be
// depends on the network plugin, and a plugin that needs it has set it before its first pod; what changed it since is
// most often a tool that loads the distribution's sysctl files again.
var netSettings = []netSetting{
	{"net.ipv4.ip_forward", []string{"1"}, "pods cannot be reached from outside of the node"},
	{"net.ipv6.conf.all.forwarding", []string{"1"}, "pods cannot be reached over IPv6 from outside of the node"},
	{"net.bridge.bridge-nf-call-iptables", []string{"1"}, "services do not answer pods of the same node"},
	{"net.bridge.bridge-nf-call-ip6tables", []string{"1"}, "services do not answer pods of the same node over IPv6"},
	// 0 is off and 2 loose: Cilium, Calico and the VPC CNI route packets in by another way than out.
	{"net.ipv4.conf.all.rp_filter", []string{"0", "2"}, "packets that come in by another way than they go out are dropped"},
}

const (
	netSysctlReason = "NetworkSysctl"
	// netSettingMost bounds what is read of a setting, in bytes.
	netSettingMost = 256
	// maxNetSettings bounds the memory and the findings.
	maxNetSettings = 64
)

// NewNetworkSettings gives an error where a setting of the options is not of the network.
func NewNetworkSettings(h host.Host, clk clock.PassiveClock, o NetworkSettingsOptions) (*NetworkSettings, error) {
	settings, err := netSettingsWith(o.Sysctls)
	if err != nil {
		return nil, err
	}
	n := &NetworkSettings{
		host: h, clock: clk, interval: netInterval(o.Interval, time.Minute), settings: settings, right: map[string]bool{},
	}
	if !o.IgnoreRejectRules {
		n.rules = newRejectRules(o.NetworkNamespace, o.AllowedChains)
	}
	n.efa = newEFACounters(h, n.interval, o.EFAThreshold)
	return n, nil
}

func netSettingsWith(own map[string][]string) ([]netSetting, error) {
	settings := slices.Clone(netSettings)
	for name, right := range own {
		if !strings.HasPrefix(name, "net.") || strings.Contains(name, "/") || strings.Contains(name, "..") {
			return nil, fmt.Errorf(`reading sysctls of the network settings, %q is not of the form "net.ipv4.ip_forward"`, name)
		}
		settings = slices.DeleteFunc(settings, func(s netSetting) bool { return s.name == name })
		if len(right) > 0 {
			settings = append(settings, netSetting{name: name, right: right})
		}
	}
	if len(settings) > maxNetSettings {
		return nil, fmt.Errorf("reading sysctls of the network settings, %d are more than %d", len(settings), maxNetSettings)
	}
	slices.SortFunc(settings, func(a, b netSetting) int { return strings.Compare(a.name, b.name) })
	return settings, nil
}

// Spec of the source network-settings.
func (n *NetworkSettings) Spec() detector.Spec {
	return detector.Spec{Name: "network-settings", Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}, Interval: n.interval}
}

// Cursor keeps which settings were right in this boot.
func (n *NetworkSettings) Cursor() json.RawMessage {
	n.mu.Lock()
	defer n.mu.Unlock()
	cursor, err := json.Marshal(n.right)
	if err != nil {
		return nil
	}
	return cursor
}

// Resume takes up the memory of before, if it is of the same boot.
func (n *NetworkSettings) Resume(cursor json.RawMessage, sameBoot bool) {
	var right map[string]bool
	if !sameBoot || json.Unmarshal(cursor, &right) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.settings {
		if right[s.name] {
			n.right[s.name] = true
		}
	}
}

// Look reads the settings, the firewall and the counters of adapters. That the firewall or an adapter cannot be read
// is told as Degraded; that no setting can, as an error.
func (n *NetworkSettings) Look(context.Context) (tracking.Look, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var look tracking.Look
	var unseen []error
	read := 0
	for _, s := range n.settings {
		fault, err := n.judge(s)
		if err != nil {
			unseen = append(unseen, err)
			continue
		}
		read++
		look.Faults = append(look.Faults, fault...)
	}
	if read == 0 && len(unseen) > 0 {
		return tracking.Look{}, errors.Join(unseen...)
	}
	if n.rules != nil {
		faults, err := n.rules.look()
		if err != nil {
			unseen = append(unseen, fmt.Errorf("rules of the firewall cannot be read, which takes CAP_NET_ADMIN: %w", err))
		}
		look.Faults = append(look.Faults, faults...)
	}
	sightings, err := n.efa.look(n.clock.Now())
	if err != nil {
		unseen = append(unseen, err)
	}
	look.Sightings = sightings
	if err := errors.Join(unseen...); err != nil {
		look.Degraded = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return look, nil
}

func (n *NetworkSettings) judge(s netSetting) ([]tracking.Fault, error) {
	value, err := n.read(s.name)
	there := !errors.Is(err, fs.ErrNotExist)
	if err != nil && there {
		return nil, fmt.Errorf("reading %s, %w", s.name, err)
	}
	switch {
	case there && slices.Contains(s.right, value):
		n.right[s.name] = true
		return nil, nil
	case !n.right[s.name]:
		return nil, nil
	}
	fault := tracking.Fault{Reason: netSysctlReason, Subject: s.name, Message: s.name + " is gone: the module that has it was unloaded"}
	if there {
		fault.Message = fmt.Sprintf("%s is %s, not %s as it was in this boot", s.name, value, strings.Join(s.right, " or "))
	}
	if s.why != "" {
		fault.Evidence = []string{s.why}
	}
	return []tracking.Fault{fault}, nil
}

// read a setting: of /proc/sys/net the kernel shows those of the network namespace of who reads.
func (n *NetworkSettings) read(name string) (string, error) {
	text, err := readNetFile(n.host.Path("proc/sys", strings.ReplaceAll(name, ".", "/")), netSettingMost)
	if err != nil {
		return "", err
	}
	return strings.Join(strings.Fields(text), " "), nil
}

// readNetFile reads the beginning of a small file.
func readNetFile(path string, most int) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // it was only read from
	buffer := make([]byte, most)
	length, err := file.Read(buffer)
	if err != nil && length == 0 && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.ToValidUTF8(string(buffer[:length]), ""), nil
}
