package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// netSpace is a real network namespace of a test's own.
type netSpace struct {
	*netlink.Handle
	t    testing.TB
	path string
	ns   netns.NsHandle
}

var netSpaces atomic.Int64

// newNetSpace gives a namespace with lo up.
func newNetSpace(t testing.TB) *netSpace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root: run the tests as root")
	}
	name := fmt.Sprintf("autorepair-%d-%d", os.Getpid(), netSpaces.Add(1))
	ns, err := newNamedNetns(name)
	if err != nil {
		t.Skipf("this machine gives no network namespace (%v): run the tests as root, outside of a restricted container", err)
	}
	t.Cleanup(func() {
		_ = ns.Close()
		require.NoError(t, netns.DeleteNamed(name))
	})
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	require.NoError(t, err)
	t.Cleanup(handle.Close)
	s := &netSpace{Handle: handle, t: t, path: "/run/netns/" + name, ns: ns}
	s.up("lo")
	return s
}

func newNamedNetns(name string) (netns.NsHandle, error) {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		return 0, err
	}
	defer own.Close() //nolint:errcheck // it was only read from
	made, err := netns.NewNamed(name)
	if back := netns.Set(own); back != nil {
		return 0, back // the thread stays locked, so that nobody runs on it in the wrong namespace
	}
	runtime.UnlockOSThread()
	return made, err
}

// inside runs something in the namespace.
func (s *netSpace) inside(run func()) {
	s.t.Helper()
	runtime.LockOSThread()
	own, err := netns.Get()
	require.NoError(s.t, err)
	defer own.Close() //nolint:errcheck // it was only read from
	require.NoError(s.t, netns.Set(s.ns))
	run()
	require.NoError(s.t, netns.Set(own))
	runtime.UnlockOSThread()
}

func (s *netSpace) link(name string) netlink.Link {
	s.t.Helper()
	l, err := s.LinkByName(name)
	require.NoError(s.t, err, name)
	return l
}

func (s *netSpace) up(names ...string) {
	s.t.Helper()
	for _, name := range names {
		require.NoError(s.t, s.LinkSetUp(s.link(name)), name)
	}
}

func (s *netSpace) down(names ...string) {
	s.t.Helper()
	for _, name := range names {
		require.NoError(s.t, s.LinkSetDown(s.link(name)), name)
	}
}

func (s *netSpace) remove(name string) {
	s.t.Helper()
	require.NoError(s.t, s.LinkDel(s.link(name)))
}

// veth makes a pair, down.
func (s *netSpace) veth(name, peer string) {
	s.t.Helper()
	require.NoError(s.t, s.LinkAdd(&netlink.Veth{LinkAttrs: netAttrs(name), PeerName: peer}))
}

// try makes a link of a kind that the kernel may not have.
func (s *netSpace) try(l netlink.Link) bool {
	s.t.Helper()
	if err := s.LinkAdd(l); err != nil {
		s.t.Logf("this kernel makes no %s (%s): %v", l.Type(), l.Attrs().Name, err)
		return false
	}
	return true
}

func netAttrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func netLook(t testing.TB, d detector.Detector) tracking.Look {
	t.Helper()
	look, err := d.Look(t.Context())
	require.NoError(t, err)
	require.Empty(t, look.Degraded)
	return look
}

// netFaults are the faults of a look as "reason subject: message".
func netFaults(look tracking.Look) []string {
	faults := []string{}
	for _, f := range look.Faults {
		faults = append(faults, f.Reason+" "+f.Subject+": "+f.Message)
	}
	return faults
}

// restartable is a detector with a memory.
type restartable interface {
	detector.Detector
	detector.Resumer
}

// restarted gives a new detector the memory of another, by way of JSON as the agent's state file has it.
func restarted[D restartable](old, fresh D, sameBoot bool) D {
	cursor := old.Cursor()
	fresh.Resume(json.RawMessage(string(cursor)), sameBoot)
	return fresh
}

// netStarted starts a detector and waits until its events come.
func netStarted(t testing.TB, d interface {
	detector.Starter
	detector.Waker
}) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	d.Start(ctx)
	netWoken(t, d, "the beginning of a subscription")
	// Each follower of the detector wakes it as it begins.
	for {
		select {
		case <-d.Wake():
		case <-time.After(100 * time.Millisecond):
			return
		}
	}
}

// netWoken waits for a wake: the bound is a second, what it takes is milliseconds.
func netWoken(t testing.TB, d detector.Waker, by string) {
	t.Helper()
	select {
	case <-d.Wake():
	case <-time.After(time.Second):
		t.Fatalf("not woken within a second by %s", by)
	}
}

func netDrain(d detector.Waker) {
	select {
	case <-d.Wake():
	default:
	}
}

// nlSetOperState gives a request for IF_OPER_DORMANT, for which the library has no function.
func nlSetOperState(index int) func() error {
	return func() error {
		request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		message := nl.NewIfInfomsg(unix.AF_UNSPEC)
		message.Index = int32(index)
		request.AddData(message)
		request.AddData(nl.NewRtAttr(unix.IFLA_OPERSTATE, []byte{netlink.OperDormant}))
		_, err := request.Execute(unix.NETLINK_ROUTE, 0)
		return err
	}
}
