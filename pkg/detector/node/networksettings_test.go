package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

func settingsOf(t testing.TB, root string, o NetworkSettingsOptions) *NetworkSettings {
	t.Helper()
	n, err := NewNetworkSettings(host.New(root), clock.RealClock{}, o)
	require.NoError(t, err)
	return n
}

// set a setting of the namespace.
func (s *netSpace) set(name, value string) {
	s.t.Helper()
	s.inside(func() {
		// /proc/sys/net is that of the thread that opens it.
		require.NoError(s.t, os.WriteFile(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")), []byte(value), 0o600))
	})
}

func (s *netSpace) look(d *NetworkSettings) (look tracking.Look) {
	s.t.Helper()
	s.inside(func() { look = netLook(s.t, d) })
	return look
}

func TestNetworkSysctl(t *testing.T) {
	const forward, forward6, filter = "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.rp_filter"
	for name, tc := range map[string]struct {
		// act where both families are forwarded and filtering by the way back is loose.
		act     func(s *netSpace)
		options NetworkSettingsOptions
		want    []string
	}{
		"nothing happens": {act: func(*netSpace) {}},
		"forwarding is turned off": {
			act:  func(s *netSpace) { s.set(forward, "0") },
			want: []string{"NetworkSysctl net.ipv4.ip_forward: net.ipv4.ip_forward is 0, not 1 as it was in this boot"},
		},
		"forwarding is turned off and on again": {act: func(s *netSpace) { s.set(forward, "0"); s.set(forward, "1") }},
		"forwarding of IPv6 is turned off": {
			act:  func(s *netSpace) { s.set(forward6, "0") },
			want: []string{"NetworkSysctl net.ipv6.conf.all.forwarding: net.ipv6.conf.all.forwarding is 0, not 1 as it was in this boot"},
		},
		"filtering by the way back becomes strict": {
			act:  func(s *netSpace) { s.set(filter, "1") },
			want: []string{"NetworkSysctl net.ipv4.conf.all.rp_filter: net.ipv4.conf.all.rp_filter is 1, not 0 or 2 as it was in this boot"},
		},
		"filtering by the way back is turned off": {act: func(s *netSpace) { s.set(filter, "0") }},
		"a setting that one has asked for": {
			act:     func(s *netSpace) { s.set("net.ipv4.conf.lo.rp_filter", "1") },
			options: NetworkSettingsOptions{Sysctls: map[string][]string{"net.ipv4.conf.lo.rp_filter": {"0"}}},
			want:    []string{"NetworkSysctl net.ipv4.conf.lo.rp_filter: net.ipv4.conf.lo.rp_filter is 1, not 0 as it was in this boot"},
		},
		"a setting that one does not care for": {
			act:     func(s *netSpace) { s.set(forward, "0") },
			options: NetworkSettingsOptions{Sysctls: map[string][]string{forward: nil}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newNetSpace(t)
			tc.options.NetworkNamespace = s.path
			d := settingsOf(t, "", tc.options)
			require.Empty(t, netFaults(s.look(d)), "nothing was right yet, so nothing is wrong")
			s.set(forward, "1")
			s.set(forward6, "1")
			s.set(filter, "2")
			require.Empty(t, netFaults(s.look(d)), "before")
			booted := restarted(d, settingsOf(t, "", tc.options), false)
			tc.act(s)
			require.ElementsMatch(t, tc.want, netFaults(s.look(d)))
			require.ElementsMatch(t, tc.want, netFaults(s.look(restarted(d, settingsOf(t, "", tc.options), true))), "restarted")
			require.Empty(t, netFaults(s.look(booted)), "another boot")
		})
	}
}

func TestNetworkSysctlOfAModuleThatIsUnloaded(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "proc/sys/net/bridge/bridge-nf-call-iptables")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o600))
	d := settingsOf(t, root, NetworkSettingsOptions{IgnoreRejectRules: true})
	require.Empty(t, netFaults(netLook(t, d)))
	require.NoError(t, os.RemoveAll(filepath.Dir(path)))
	require.Equal(t, []string{
		"NetworkSysctl net.bridge.bridge-nf-call-iptables: net.bridge.bridge-nf-call-iptables is gone: the module that has it was unloaded",
	}, netFaults(netLook(t, d)))
}

func TestNetworkSysctlThatCannotBeRead(t *testing.T) {
	root := t.TempDir()
	for _, s := range netSettings { // a folder in the place of each
		require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/sys", strings.ReplaceAll(s.name, ".", "/")), 0o755))
	}
	_, err := settingsOf(t, root, NetworkSettingsOptions{IgnoreRejectRules: true}).Look(t.Context())
	require.ErrorContains(t, err, "reading net.ipv4.ip_forward")
}

func TestNetworkSettingsRejectsOptions(t *testing.T) {
	for name, want := range map[string]string{
		"kernel.panic":               `"kernel.panic" is not of the form`,
		"net.ipv4/../../kernel":      `is not of the form`,
		"net...ip_forward":           `is not of the form`,
		"/proc/sys/net/ipv4/forward": `is not of the form`,
	} {
		_, err := NewNetworkSettings(host.New(""), clock.RealClock{}, NetworkSettingsOptions{Sysctls: map[string][]string{name: {"1"}}})
		require.ErrorContains(t, err, want, name)
	}
	many := map[string][]string{}
	for n := range maxNetSettings {
		many[fmt.Sprintf("net.n%d", n)] = []string{"1"}
	}
	_, err := NewNetworkSettings(host.New(""), clock.RealClock{}, NetworkSettingsOptions{Sysctls: many})
	require.ErrorContains(t, err, "are more than 64")
}

func TestNetworkSettingsResumesOnlyWhatIsItsOwn(t *testing.T) {
	for _, cursor := range []string{"", "null", "{", "[]", `{"net.ipv4.ip_forward":"1"}`, `{"kernel.panic":true}`} {
		d := settingsOf(t, t.TempDir(), NetworkSettingsOptions{IgnoreRejectRules: true})
		d.Resume([]byte(cursor), true)
		require.Empty(t, netFaults(netLook(t, d)), cursor)
	}
}

// command runs a program of the machine in the namespace.
func (s *netSpace) command(input string, words ...string) {
	s.t.Helper()
	if _, err := exec.LookPath(words[0]); err != nil {
		s.t.Skipf("no %s on this machine: apt-get install nftables iptables", words[0])
	}
	s.inside(func() {
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		require.NoError(s.t, err, "%s: %s", words, out)
	})
}

func (s *netSpace) nft(script string) { s.t.Helper(); s.command(script, "nft", "-f", "-") }

func (s *netSpace) iptables(rules ...string) {
	s.t.Helper()
	for _, r := range rules {
		s.command("", append([]string{"iptables-nft"}, strings.Fields(r)...)...)
	}
}

func TestUnexpectedRejectRule(t *testing.T) {
	for name, tc := range map[string]struct {
		act     func(s *netSpace)
		allowed []string
		want    []string
	}{
		"no firewall": {act: func(*netSpace) {}},
		"iptables rejects what comes in": {
			act:  func(s *netSpace) { s.iptables("-A INPUT -p tcp --dport 10250 -j REJECT") },
			want: []string{"UnexpectedRejectRule ip filter INPUT: a rule in chain ip filter INPUT rejects packets"},
		},
		"iptables rejects what pods send": {
			act: func(s *netSpace) { s.iptables("-A FORWARD -j REJECT", "-A FORWARD -p udp -j REJECT") },
			want: []string{
				"UnexpectedRejectRule ip filter FORWARD: 2 rules in chain ip filter FORWARD reject packets",
			},
		},
		"iptables rejects in a chain of somebody else": {
			act: func(s *netSpace) {
				s.iptables("-N AGENT", "-N AGENT-DEEPER", "-A OUTPUT -j AGENT", "-A AGENT -j AGENT-DEEPER", "-A AGENT-DEEPER -j REJECT")
			},
			want: []string{"UnexpectedRejectRule ip filter AGENT-DEEPER: a rule in chain ip filter AGENT-DEEPER rejects packets"},
		},
		"iptables rejects in a chain that no packet comes to": {
			act: func(s *netSpace) { s.iptables("-N AGENT", "-A AGENT -j REJECT") },
		},
		"iptables accepts and drops": {
			act: func(s *netSpace) { s.iptables("-A INPUT -p tcp -j ACCEPT", "-A FORWARD -p udp -j DROP") },
		},
		"iptables rejects for services without endpoints": {
			act: func(s *netSpace) {
				s.iptables("-N KUBE-SERVICES", "-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES",
					"-A KUBE-SERVICES -p tcp -d 10.96.0.1 --dport 443 -j REJECT --reject-with icmp-port-unreachable")
			},
		},
		"iptables rejects for a network policy": {
			act: func(s *netSpace) {
				s.iptables("-N cali-FORWARD", "-A FORWARD -j cali-FORWARD", "-A cali-FORWARD -j REJECT")
			},
		},
		"iptables rejects in a chain that is allowed": {
			act:     func(s *netSpace) { s.iptables("-N AGENT", "-A INPUT -j AGENT", "-A AGENT -j REJECT") },
			allowed: []string{"AGENT"},
		},
		"nft rejects what comes in": {
			act: func(s *netSpace) {
				s.nft("table inet guard {\n chain in {\n type filter hook input priority 0;\n ct state new goto more\n }\n chain more {\n reject with icmpx admin-prohibited\n }\n}\n")
			},
			want: []string{"UnexpectedRejectRule inet guard more: a rule in chain inet guard more rejects packets"},
		},
		"nft rejects IPv6": {
			act: func(s *netSpace) {
				s.nft("table ip6 filter {\n chain in {\n type filter hook input priority 0;\n tcp dport 10250 reject with tcp reset\n }\n}\n")
			},
			want: []string{"UnexpectedRejectRule ip6 filter in: a rule in chain ip6 filter in rejects packets"},
		},
		"nft rejects for kube-proxy": {
			act: func(s *netSpace) {
				s.nft("table ip kube-proxy {\n chain filter-forward {\n type filter hook forward priority -110;\n reject\n }\n}\n")
			},
		},
		"a chain that others jump to counts packets": {
			act: func(s *netSpace) {
				s.nft("table inet guard {\n chain a {\n type filter hook input priority 0;\n jump b\n }\n chain b {\n counter\n }\n chain c {\n jump b\n }\n}\n")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newNetSpace(t)
			d := settingsOf(t, "", NetworkSettingsOptions{NetworkNamespace: s.path, AllowedChains: tc.allowed})
			require.Empty(t, netFaults(s.look(d)), "before")
			tc.act(s)
			require.ElementsMatch(t, tc.want, netFaults(s.look(d)))
			s.command("flush ruleset\n", "nft", "-f", "-")
			require.Empty(t, netFaults(s.look(d)), "taken away")
		})
	}
}

func TestUnexpectedRejectRuleSaysThatItCannotSee(t *testing.T) {
	d := settingsOf(t, "", NetworkSettingsOptions{NetworkNamespace: "/run/netns/autorepair-not-there"})
	look, err := d.Look(t.Context())
	require.NoError(t, err)
	require.Contains(t, look.Degraded, "rules of the firewall cannot be read, which takes CAP_NET_ADMIN: opening network namespace")
}

// recordEFA writes what sysfs has of a fabric adapter.
func recordEFA(t testing.TB, root, device, driver string, counters map[string]string) {
	t.Helper()
	folder := filepath.Join(root, "sys/class/infiniband", device)
	counts := filepath.Join(folder, "ports/1/hw_counters")
	require.NoError(t, os.MkdirAll(counts, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "device"), 0o755))
	_ = os.Remove(filepath.Join(folder, "device/driver"))
	require.NoError(t, os.Symlink("../../../bus/pci/drivers/"+driver, filepath.Join(folder, "device/driver")))
	for name, value := range counters {
		require.NoError(t, os.WriteFile(filepath.Join(counts, name), []byte(value), 0o600))
	}
}

func TestEFAErrorMetric(t *testing.T) {
	for name, tc := range map[string]struct {
		counter, driver string
		values          []string
		want            []string
	}{
		"a first sample, however high":  {counter: "rdma_read_wr_err", driver: "efa", values: []string{"18446744073709551615\n"}},
		"a counter that stands still":   {counter: "rdma_read_wr_err", driver: "efa", values: []string{"7000\n", "7000\n"}},
		"a counter that creeps":         {counter: "rdma_read_wr_err", driver: "efa", values: []string{"0\n", "100\n"}},
		"a counter that was reset":      {counter: "rdma_read_wr_err", driver: "efa", values: []string{"9000\n", "500\n"}},
		"packets that were sent again":  {counter: "retrans_pkts", driver: "efa", values: []string{"0\n", "9000000\n"}},
		"another driver's counter":      {counter: "rdma_read_wr_err", driver: "mlx5_core", values: []string{"0\n", "9000\n"}},
		"reads that fail":               {counter: "rdma_read_wr_err", driver: "efa", values: []string{"5\n", "106\n"}, want: []string{"rdma_read_wr_err of port 1 rose by 101 to 106"}},
		"writes that fail":              {counter: "rdma_write_wr_err", driver: "efa", values: []string{"0\n", "101\n"}, want: []string{"rdma_write_wr_err of port 1 rose by 101 to 101"}},
		"another end that is silent":    {counter: "unresponsive_remote_events", driver: "efa", values: []string{"0\n", "101\n"}, want: []string{"unresponsive_remote_events of port 1 rose by 101 to 101"}},
		"connections that are impaired": {counter: "impaired_remote_conn_events", driver: "efa", values: []string{"0\n", "101\n"}, want: []string{"impaired_remote_conn_events of port 1 rose by 101 to 101"}},
		"ways that time out":            {counter: "retrans_timeout_events", driver: "efa", values: []string{"0\n", "101\n"}, want: []string{"retrans_timeout_events of port 1 rose by 101 to 101"}},
		"packets that are dropped":      {counter: "rx_drops", driver: "efa", values: []string{"0\n", "101\n"}, want: []string{"rx_drops of port 1 rose by 101 to 101"}},
	} {
		t.Run(name, func(t *testing.T) {
			root, clk := t.TempDir(), clocktesting.NewFakePassiveClock(time.Now())
			n, err := NewNetworkSettings(host.New(root), clk, NetworkSettingsOptions{IgnoreRejectRules: true})
			require.NoError(t, err)
			var got []string
			for _, value := range tc.values {
				recordEFA(t, root, "efa_0", tc.driver, map[string]string{tc.counter: value})
				got = nil
				for _, s := range netLook(t, n).Sightings {
					require.Equal(t, "EFAErrorMetric efa_0/1", s.Reason+" "+s.Subject)
					got = append(got, s.Evidence)
				}
				clk.SetTime(clk.Now().Add(time.Minute))
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestEFACounterThatCannotBeRead(t *testing.T) {
	root := t.TempDir()
	n := settingsOf(t, root, NetworkSettingsOptions{IgnoreRejectRules: true})
	recordEFA(t, root, "efa_0", "efa", map[string]string{"rx_drops": "many"})
	look, err := n.Look(t.Context())
	require.NoError(t, err)
	require.Contains(t, look.Degraded, "reading rx_drops of efa_0")
}

// Whatever sysfs or a driver says, it is a number or told as unreadable.
func FuzzEFACounter(f *testing.F) {
	for _, seed := range []string{"0\n", "18446744073709551615\n", "18446744073709551616\n", "-1", "", "0x10", " 7 ", "1e3", "\x00\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		root := t.TempDir()
		e := newEFACounters(host.New(root), time.Minute, 0)
		recordEFA(t, root, "efa_0", "efa", map[string]string{"rx_drops": text})
		sightings, err := e.look(time.Now())
		require.Empty(t, sightings, "a first sample")
		if err == nil {
			require.Len(t, e.counters.before, 1)
		}
	})
}
