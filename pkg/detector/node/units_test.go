package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

var unitsNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// unitsDaemon is a dbus-daemon of the test, at the place of the system bus below root.
type unitsDaemon struct {
	root    string
	command *exec.Cmd
}

func unitsBusAt(t testing.TB, root string) *unitsDaemon {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("needs dbus-daemon: apt-get install dbus")
	}
	d := &unitsDaemon{root: root}
	socket := filepath.Join(root, unitsBus)
	require.NoError(t, os.MkdirAll(filepath.Dir(socket), 0o755))
	config := `<busconfig><listen>unix:path=` + socket + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_requested_reply="true"/>
<allow receive_requested_reply="true"/><allow send_destination="*"/></policy></busconfig>`
	require.NoError(t, os.WriteFile(filepath.Join(root, "bus.conf"), []byte(config), 0o600))
	d.start(t)
	t.Cleanup(d.stop)
	return d
}

func (d *unitsDaemon) start(t testing.TB) {
	t.Helper()
	_ = os.Remove(filepath.Join(d.root, unitsBus))
	d.command = exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--config-file="+filepath.Join(d.root, "bus.conf"))
	require.NoError(t, d.command.Start())
	require.Eventually(t, func() bool {
		conn, err := net.Dial("unix", filepath.Join(d.root, unitsBus))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
}

func (d *unitsDaemon) stop() {
	_ = d.command.Process.Signal(syscall.SIGCONT)
	_ = d.command.Process.Kill()
	_ = d.command.Wait()
}

// unitsFake is the part of systemd that is asked.
type unitsFake struct {
	mu       sync.Mutex
	units    []unitStatus
	restarts map[dbus.ObjectPath]any
	refuse   *dbus.Error
	conn     *dbus.Conn
}

// ListUnitsByPatterns of systemd's manager.
func (f *unitsFake) ListUnitsByPatterns(_, patterns []string) ([]unitStatus, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	var units []unitStatus
	for _, unit := range f.units {
		for _, p := range patterns {
			if unitMatches(p, unit.Name) {
				units = append(units, unit)
				break
			}
		}
	}
	return units, nil
}

// unitsProperty is the object of one unit.
type unitsProperty struct {
	fake *unitsFake
	path dbus.ObjectPath
}

// Get of the unit's properties.
func (p unitsProperty) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	p.fake.mu.Lock()
	defer p.fake.mu.Unlock()
	value, ok := p.fake.restarts[p.path]
	switch {
	case !ok:
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"gone"})
	case value == nil, iface != systemdService, name != "NRestarts":
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"unknown property"})
	default:
		return dbus.MakeVariant(value), nil
	}
}

func (f *unitsFake) set(name, active, sub string, restarts any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/unit/u%x", name))
	if f.restarts == nil {
		f.restarts = map[dbus.ObjectPath]any{}
	}
	if restarts != "gone" {
		f.restarts[path] = restarts
	}
	unit := unitStatus{Name: name, LoadState: "loaded", ActiveState: active, SubState: sub, Path: path, JobPath: "/"}
	for i := range f.units {
		if f.units[i].Name == name {
			f.units[i] = unit
			return
		}
	}
	f.units = append(f.units, unit)
	if f.conn != nil {
		_ = f.conn.Export(unitsProperty{fake: f, path: path}, path, "org.freedesktop.DBus.Properties")
	}
}

// serve on the bus until the connection that it gives is closed.
func (f *unitsFake) serve(t testing.TB, d *unitsDaemon) {
	t.Helper()
	conn, err := dbus.Connect("unix:path=" + filepath.Join(d.root, unitsBus))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	f.mu.Lock()
	f.conn = conn
	for _, unit := range f.units {
		require.NoError(t, conn.Export(unitsProperty{fake: f, path: unit.Path}, unit.Path, "org.freedesktop.DBus.Properties"))
	}
	f.mu.Unlock()
	require.NoError(t, conn.Export(f, systemdPath, systemdManager))
	_, err = conn.RequestName(systemdName, dbus.NameFlagDoNotQueue)
	require.NoError(t, err)
}

func unitsNew(t *testing.T, root string) *Units {
	t.Helper()
	u := NewUnits(host.New(root), clocktesting.NewFakePassiveClock(unitsNow), UnitsOptions{Timeout: metav1.Duration{Duration: 2 * time.Second}})
	t.Cleanup(u.drop)
	return u
}

func unitsLook(t *testing.T, u *Units) tracking.Look {
	t.Helper()
	look, err := u.Look(t.Context())
	require.NoError(t, err)
	return look
}

type unitsState struct {
	unit, active, sub string
	restarts          any
}

func TestUnitsSay(t *testing.T) {
	const kubelet, containerd = "kubelet.service", "containerd.service"
	restarted := func(reason, unit string, count int64, evidence string) tracking.Sighting {
		return tracking.Sighting{Reason: reason, Subject: unit, At: unitsNow, Count: count, Message: "systemd has restarted " + unit + ".", Evidence: evidence}
	}
	waits := tracking.Sighting{Reason: ReasonServiceFailedToStart, Subject: kubelet, At: unitsNow,
		Message: "kubelet.service has ended, and waits to be started again.", Evidence: "activating (auto-restart)"}
	failed := tracking.Fault{Reason: ReasonServiceFailedToStart, Subject: containerd,
		Message: "containerd.service has failed, and systemd does not start it again.", Evidence: []string{"failed (failed)"}}
	for name, tc := range map[string]struct {
		steps []unitsState // one a look
		want  tracking.Look
	}{
		"a service that runs does nothing": {
			steps: []unitsState{{kubelet, "active", "running", uint32(0)}, {kubelet, "active", "running", uint32(0)}}},
		"the first value is where counting begins": {
			steps: []unitsState{{kubelet, "active", "running", uint32(4711)}}},
		"a restart of the kubelet is one sighting": {
			steps: []unitsState{{kubelet, "active", "running", uint32(7)}, {kubelet, "active", "running", uint32(8)}},
			want:  tracking.Look{Sightings: []tracking.Sighting{restarted(ReasonKubeletRepeatedRestart, kubelet, 1, "NRestarts=8, active (running)")}}},
		"restarts between two looks are counted": {
			steps: []unitsState{{containerd, "active", "running", uint32(0)}, {containerd, "active", "running", uint32(3)}},
			want:  tracking.Look{Sightings: []tracking.Sighting{restarted(ReasonRuntimeRepeatedRestart, containerd, 3, "NRestarts=3, active (running)")}}},
		"a restart is told once": {
			steps: []unitsState{{kubelet, "active", "running", uint32(0)}, {kubelet, "active", "running", uint32(1)}, {kubelet, "active", "running", uint32(1)}}},
		"a counter that is set back does nothing": {
			steps: []unitsState{{kubelet, "active", "running", uint32(9)}, {kubelet, "active", "running", uint32(2)}}},
		"counting goes on from where it was set back": {
			steps: []unitsState{{kubelet, "active", "running", uint32(9)}, {kubelet, "active", "running", uint32(0)}, {kubelet, "active", "running", uint32(1)}},
			want:  tracking.Look{Sightings: []tracking.Sighting{restarted(ReasonKubeletRepeatedRestart, kubelet, 1, "NRestarts=1, active (running)")}}},
		"a service that has failed is a fault": {
			steps: []unitsState{{containerd, "failed", "failed", uint32(5)}},
			want:  tracking.Look{Faults: []tracking.Fault{failed}}},
		"one that is started again is none": {
			steps: []unitsState{{containerd, "failed", "failed", uint32(5)}, {containerd, "active", "running", uint32(0)}}},
		"one that was stopped by a person does nothing": {
			steps: []unitsState{{containerd, "inactive", "dead", uint32(0)}}},
		"one that starts for the first time does nothing": {
			steps: []unitsState{{kubelet, "activating", "start", uint32(0)}}},
		"waiting to be started again is a sighting": {
			steps: []unitsState{{kubelet, "activating", "auto-restart", uint32(0)}},
			want:  tracking.Look{Sightings: []tracking.Sighting{waits}}},
		"and is told once while it waits": {
			steps: []unitsState{{kubelet, "activating", "auto-restart", uint32(0)}, {kubelet, "activating", "auto-restart", uint32(0)}}},
		"and again after the next attempt": {
			steps: []unitsState{{kubelet, "activating", "auto-restart", uint32(0)}, {kubelet, "activating", "auto-restart", uint32(1)}},
			want: tracking.Look{Sightings: []tracking.Sighting{
				restarted(ReasonKubeletRepeatedRestart, kubelet, 1, "NRestarts=1, activating (auto-restart)"), waits}}},
		"a systemd that does not count says so": {
			steps: []unitsState{{kubelet, "active", "running", nil}},
			want:  tracking.Look{Degraded: "this systemd does not count restarts (before version 235)"}},
		"a unit that is unloaded meanwhile does nothing": {
			steps: []unitsState{{kubelet, "active", "running", "gone"}}},
	} {
		t.Run(name, func(t *testing.T) {
			root := serviceDir(t)
			daemon := unitsBusAt(t, root)
			fake := &unitsFake{}
			fake.set("sshd.service", "failed", "failed", uint32(0))
			fake.serve(t, daemon)
			u := unitsNew(t, root)
			var look tracking.Look
			for _, step := range tc.steps {
				fake.set(step.unit, step.active, step.sub, step.restarts)
				look = unitsLook(t, u)
			}
			assert.Equal(t, tc.want, look)
		})
	}
}

func TestUnitsThatAreNotThere(t *testing.T) {
	t.Run("a machine without a bus", func(t *testing.T) {
		_, err := unitsNew(t, serviceDir(t)).Look(t.Context())
		require.ErrorIs(t, err, detector.ErrNotPresent)
	})
	root := serviceDir(t)
	daemon := unitsBusAt(t, root)
	t.Run("a bus without systemd", func(t *testing.T) {
		_, err := unitsNew(t, root).Look(t.Context())
		require.ErrorIs(t, err, detector.ErrNotPresent)
	})
	fake := &unitsFake{}
	fake.set("sshd.service", "failed", "failed", uint32(0))
	fake.serve(t, daemon)
	t.Run("a systemd without one of the units", func(t *testing.T) {
		_, err := unitsNew(t, root).Look(t.Context())
		require.ErrorIs(t, err, detector.ErrNotPresent)
	})
	t.Run("a systemd that may not be asked", func(t *testing.T) {
		fake.mu.Lock()
		fake.refuse = dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"rejected"})
		fake.mu.Unlock()
		_, err := unitsNew(t, root).Look(t.Context())
		require.ErrorContains(t, err, "rejected")
		require.NotErrorIs(t, err, detector.ErrNotPresent)
	})
}

func TestUnitsWhoseBusGoesAndComesBack(t *testing.T) {
	root := serviceDir(t)
	daemon := unitsBusAt(t, root)
	fake := &unitsFake{}
	fake.set("kubelet.service", "active", "running", uint32(3))
	fake.serve(t, daemon)
	u := unitsNew(t, root)
	assert.Equal(t, tracking.Look{}, unitsLook(t, u))

	daemon.stop()
	require.NoError(t, os.RemoveAll(filepath.Join(root, unitsBus)))
	for range 2 {
		_, err := u.Look(t.Context())
		require.ErrorContains(t, err, "asking systemd")
		require.NotErrorIs(t, err, detector.ErrNotPresent, "it was there")
	}
	next := unitsNew(t, root)
	next.Resume(u.Cursor(), true)
	_, err := next.Look(t.Context())
	require.NotErrorIs(t, err, detector.ErrNotPresent)
	next.Resume(u.Cursor(), false)

	daemon.start(t)
	fake.serve(t, daemon)
	fake.set("kubelet.service", "active", "running", uint32(4))
	look := unitsLook(t, u)
	require.Len(t, look.Sightings, 1, "what happened while the bus was gone is counted")
	assert.EqualValues(t, 1, look.Sightings[0].Count)
}

func TestUnitsReturnWithTheContext(t *testing.T) {
	root := serviceDir(t)
	daemon := unitsBusAt(t, root)
	fake := &unitsFake{}
	fake.set("kubelet.service", "active", "running", uint32(3))
	fake.serve(t, daemon)
	connected, unconnected := unitsNew(t, root), unitsNew(t, root)
	assert.Equal(t, tracking.Look{}, unitsLook(t, connected))
	require.NoError(t, daemon.command.Process.Signal(syscall.SIGSTOP))
	for name, u := range map[string]*Units{"asking": connected, "connecting": unconnected} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			started := time.Now()
			_, err := u.Look(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Less(t, time.Since(started), 1500*time.Millisecond)
		})
	}
	require.NoError(t, daemon.command.Process.Signal(syscall.SIGCONT))
	assert.Equal(t, tracking.Look{}, unitsLook(t, connected))
}

func TestUnitsLeakNothing(t *testing.T) {
	root := serviceDir(t)
	daemon := unitsBusAt(t, root)
	fake := &unitsFake{}
	fake.set("kubelet.service", "active", "running", uint32(3))
	fake.set("containerd.service", "active", "running", uint32(3))
	fake.serve(t, daemon)
	u := unitsNew(t, root)
	serviceLeaks(t, func() { unitsLook(t, u) })
	daemon.stop()
	serviceLeaks(t, func() {
		_, err := u.Look(t.Context())
		require.Error(t, err)
	})
}

func TestUnitsOfSystemdItself(t *testing.T) {
	if target, err := os.Stat("/run/systemd/system"); err != nil || !target.IsDir() {
		t.Skip("needs a machine that systemd has booted")
	}
	u := NewUnits(host.New("/"), clocktesting.NewFakePassiveClock(unitsNow), UnitsOptions{Runtime: []string{"*.service"}})
	t.Cleanup(u.drop)
	assert.Empty(t, unitsLook(t, u).Degraded)
}

func BenchmarkUnitsLook(b *testing.B) {
	root := serviceDir(b)
	daemon := unitsBusAt(b, root)
	fake := &unitsFake{}
	fake.set("kubelet.service", "active", "running", uint32(3))
	fake.set("containerd.service", "active", "running", uint32(3))
	fake.serve(b, daemon)
	u := NewUnits(host.New(root), clocktesting.NewFakePassiveClock(unitsNow), UnitsOptions{})
	b.Cleanup(u.drop)
	b.ReportAllocs()
	for b.Loop() {
		_, err := u.Look(b.Context())
		require.NoError(b, err)
	}
}
