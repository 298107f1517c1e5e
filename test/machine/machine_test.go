package machine

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// server says hello to whoever comes.
func server(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}
	}()
	return listener.Addr().String()
}

func newMachine(t *testing.T, name string) *Machine {
	t.Helper()
	if missing := Missing(); missing != "" {
		t.Skip("SKIPPED: " + missing)
	}
	m, err := New(name, server(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Remove()) })
	return m
}

// output of a program on the machine.
func output(t *testing.T, m *Machine, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	wait, err := m.Start(cmd)
	require.NoError(t, err)
	require.NoError(t, wait(), out.String())
	return out.String()
}

func TestAMachineHasCardsOfItsOwnAndReachesTheAPIServer(t *testing.T) {
	m := newMachine(t, "own")
	require.Equal(t, "eth0\neth1\nlo\n", output(t, m, "ls", "/sys/class/net"))
	for name, text := range map[string]string{"eth0": "1", "eth1": "1"} {
		require.Equal(t, text+"\n", output(t, m, "cat", "/sys/class/net/"+name+"/carrier"))
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("SKIPPED: needs bash, which opens TCP connections")
	}
	host, port, err := net.SplitHostPort(m.APIServer())
	require.NoError(t, err)
	require.Equal(t, "hello", output(t, m, bash, "-c", "cat </dev/tcp/"+host+"/"+port))
	require.NoError(t, m.DeleteDefaultRoute())
	require.Equal(t, "hello", output(t, m, bash, "-c", "cat </dev/tcp/"+host+"/"+port), "also without a default route")
	require.NoError(t, m.AddDefaultRoute())
}

func TestFaultsOfAMachineAreTheKernels(t *testing.T) {
	m := newMachine(t, "faults")
	carrier := func() string { return output(t, m, "cat", "/sys/class/net/eth1/carrier") }
	require.NoError(t, m.SetCarrier(1, false))
	require.Equal(t, "0\n", carrier())
	require.NoError(t, m.SetCarrier(1, true))
	require.Equal(t, "1\n", carrier())
	require.NoError(t, m.Down("eth1"))
	require.Equal(t, "down\n", output(t, m, "cat", "/sys/class/net/eth1/operstate"))
	require.NoError(t, m.Up("eth1"))
	require.NoError(t, m.Delete("eth1"))
	require.Equal(t, "eth0\nlo\n", output(t, m, "ls", "/sys/class/net"))
	require.NoError(t, m.MakeCard(1))
	require.Equal(t, "1\n", carrier())
}

func TestNothingIsLeftOfAMachine(t *testing.T) {
	m := newMachine(t, "left")
	// As after a crash: made again under the same name.
	again, err := New("left", "127.0.0.1:1")
	require.NoError(t, err)
	require.NoError(t, again.Remove())
	_, err = os.Stat(m.Namespace())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = netlink.LinkByName(m.outer(0))
	require.ErrorAs(t, err, &netlink.LinkNotFoundError{})
}

func TestAForwarderMayBeSlow(t *testing.T) {
	f, err := Forward("127.0.0.1:0", server(t))
	require.NoError(t, err)
	defer f.Close()
	f.SetDelay(300 * time.Millisecond)
	began := time.Now()
	c, err := net.Dial("tcp", f.Address())
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // only read
	got := make([]byte, 5)
	_, err = c.Read(got)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
}
