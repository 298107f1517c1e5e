package node

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/links"
)

const (
	netUnprivileged = "AUTOREPAIR_TEST_NET_UNPRIVILEGED"
	netNobody       = 65534
)

// What the chart gives: a user that is nobody and no capability at all, in the node's network namespace.
func TestNetworkWithoutCapabilities(t *testing.T) {
	if os.Getenv(netUnprivileged) != "" {
		t.Skip("this is the process without capabilities")
	}
	s := routed(t)
	s.add(s.defaultVia(0, links.IPv4, 0))
	s.iptables("-A INPUT -p tcp --dport 10250 -j REJECT")
	s.inside(func() { // the child is in the namespace of the thread that starts it
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNetworkAsNobody$", "-test.v")
		cmd.Env = append(os.Environ(), netUnprivileged+"=1", "TMPDIR=/tmp")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: netNobody, Gid: netNobody}}
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		var said []string
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said = append(said, lines.Text())
			if strings.HasSuffix(lines.Text(), "ready") {
				s.down("card0")
			}
		}
		require.NoError(t, cmd.Wait(), strings.Join(said, "\n"))
		t.Log(strings.Join(said, "\n"))
	})
}

// TestNetworkAsNobody is the other half of TestNetworkWithoutCapabilities.
func TestNetworkAsNobody(t *testing.T) {
	if os.Getenv(netUnprivileged) == "" {
		t.Skip("run by TestNetworkWithoutCapabilities")
	}
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	require.Contains(t, string(status), "CapEff:\t0000000000000000")
	require.Equal(t, netNobody, os.Geteuid())

	i := interfacesOf(t, InterfacesOptions{Include: []string{"card0"}})
	r := NewRoutes(clock.RealClock{}, RoutesOptions{})
	netStarted(t, i)
	netStarted(t, r)
	require.Empty(t, netFaults(netLook(t, i)))
	require.Empty(t, netFaults(netLook(t, r)))
	require.NotEmpty(t, i.Cursor())

	look, err := settingsOf(t, "", NetworkSettingsOptions{}).Look(t.Context())
	require.NoError(t, err)
	require.Contains(t, look.Degraded, "rules of the firewall cannot be read, which takes CAP_NET_ADMIN")
	require.Contains(t, look.Degraded, "operation not permitted")
	look = netLook(t, settingsOf(t, "", NetworkSettingsOptions{IgnoreRejectRules: true}))
	require.Empty(t, netFaults(look))

	values, err := ethtoolStats{}.Stats("card0")
	require.NoError(t, err)
	require.Contains(t, values, "peer_ifindex")
	runs, err := (&netProcess{host: host.New(""), name: "kthreadd"}).runs()
	require.NoError(t, err)
	require.True(t, runs, "processes of root have names that anybody may read")
	_, err = NewKubeProxy(host.New(""), KubeProxyOptions{}).Look(t.Context())
	require.ErrorIs(t, err, detector.ErrNotPresent)

	_, err = os.Stdout.WriteString("ready\n")
	require.NoError(t, err)
	netWoken(t, i, "a card that is taken down")
	netWoken(t, r, "a card that is taken down")
	require.Equal(t, []string{"InterfaceNotUp card0: card0 is administratively down"}, netFaults(netLook(t, i)))
	require.Equal(t, []string{"MissingDefaultRoutes ipv4: the default route of IPv4 is gone"}, netFaults(netLook(t, r)))
}
