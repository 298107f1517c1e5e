package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// Reasons of the source systemd-units. The source systemd-log states them too, from what systemd writes of the same
// events, and neither stands back for the other: a finding belongs to its source, so that no restart is counted twice in
// one, each source has to reach the catalogue's numbers by itself, and one is enough for a repair. Where both can see,
// people find both with the same subject; where one cannot (no bus in the container, no journal), nothing is missed.
const (
	ReasonKubeletRepeatedRestart = "KubeletRepeatedRestart"
	ReasonRuntimeRepeatedRestart = "RuntimeRepeatedRestart"
	ReasonServiceFailedToStart   = "ServiceFailedToStart"
)

const (
	// unitsInterval is longer than that of others: a counter that is read late has lost nothing.
	unitsInterval = 15 * time.Second
	unitsTimeout  = 5 * time.Second
	// unitsMost bounds the units that are looked at, should a pattern match more than was meant.
	unitsMost = 32

	unitsBus     = "run/dbus/system_bus_socket"
	unitsPrivate = "run/systemd/private"

	systemdName    = "org.freedesktop.systemd1"
	systemdPath    = dbus.ObjectPath("/org/freedesktop/systemd1")
	systemdManager = "org.freedesktop.systemd1.Manager"
	systemdService = "org.freedesktop.systemd1.Service"
)

var (
	// unitsKubelet are the units of the kubelet: of packages and images, of the snap of EKS, and of k3s.
	unitsKubelet = []string{"kubelet.service", "snap.kubelet-eks.daemon.service", "k3s.service", "k3s-agent.service"}
	unitsRuntime = []string{"containerd.service", "crio.service", "cri-docker.service", "docker.service"}
)

// UnitsOptions of the detector of systemd's units.
type UnitsOptions struct {
	// Kubelet are the units, or patterns with *, whose restarts are the kubelet's. Empty: kubelet.service, and those of
	// the snap of EKS and of k3s.
	Kubelet []string `json:"kubelet,omitempty"`
	// Runtime are those whose restarts are the container runtime's. Empty: those of containerd, CRI-O, cri-dockerd and
	// Docker.
	Runtime []string `json:"runtime,omitempty"`
	// Timeout of one look; 0: 5 s (our own choice).
	Timeout metav1.Duration `json:"timeout,omitempty"`
	// Interval between looks; 0: 15 s.
	Interval metav1.Duration `json:"interval,omitempty"`
}

// Units asks systemd, over D-Bus, how often it has restarted the services that a node stands on, and which of them do
// not start.
type Units struct {
	host    host.Host
	clock   clock.PassiveClock
	options UnitsOptions
	memory  unitsMemory
	conn    *dbus.Conn
	seen    map[string]unitSeen
}

// unitsMemory is what a look leaves for those after it in the same boot.
type unitsMemory struct {
	// Spoke says that systemd has answered, so that its silence is not its absence.
	Spoke bool `json:"spoke,omitempty"`
}

// unitSeen is what the look before saw of a unit.
type unitSeen struct {
	restarts uint32
	// failing says that the unit waited to be started again, and that this has been told.
	failing bool
}

// unitStatus is an entry of systemd's ListUnitsByPatterns.
type unitStatus struct {
	Name        string
	Description string
	LoadState   string
	ActiveState string
	SubState    string
	Following   string
	Path        dbus.ObjectPath
	JobID       uint32
	JobType     string
	JobPath     dbus.ObjectPath
}

// NewUnits makes the detector; it does not connect yet.
func NewUnits(h host.Host, clk clock.PassiveClock, o UnitsOptions) *Units {
	if len(o.Kubelet) == 0 {
		o.Kubelet = unitsKubelet
	}
	if len(o.Runtime) == 0 {
		o.Runtime = unitsRuntime
	}
	if o.Timeout.Duration <= 0 {
		o.Timeout.Duration = unitsTimeout
	}
	if o.Interval.Duration <= 0 {
		o.Interval.Duration = unitsInterval
	}
	return &Units{host: h, clock: clk, options: o, seen: map[string]unitSeen{}}
}

// Spec of the source systemd-units.
func (u *Units) Spec() detector.Spec {
	return detector.Spec{
		Name:       "systemd-units",
		Categories: []v1alpha1.Category{v1alpha1.CategoryContainerRuntime},
		Interval:   u.options.Interval.Duration,
	}
}

// Cursor says whether systemd has answered in this boot. The counters are not in it: of restarts while nobody looked
// the time is not known, and many over a day are not many in twenty minutes.
func (u *Units) Cursor() json.RawMessage {
	return serviceCursor(u.memory)
}

// Resume with what an earlier run in the same boot has seen.
func (u *Units) Resume(cursor json.RawMessage, sameBoot bool) {
	var memory unitsMemory
	if sameBoot && json.Unmarshal(cursor, &memory) == nil {
		u.memory = memory
	}
}

// Look asks for all units at once, then for the restarts of each. Without systemd, or without one of the units, it is
// ErrNotPresent.
func (u *Units) Look(ctx context.Context) (tracking.Look, error) {
	ctx, cancel := context.WithTimeout(ctx, u.options.Timeout.Duration)
	defer cancel()
	units, err := u.list(ctx)
	if err != nil {
		return tracking.Look{}, u.unseen(err)
	}
	u.memory.Spoke = true
	if len(units) == 0 {
		return tracking.Look{}, detector.ErrNotPresent
	}
	var look tracking.Look
	seen := make(map[string]unitSeen, len(units))
	for _, unit := range units {
		restarts, err := u.restarts(ctx, unit.Path)
		switch {
		case unitsError(err, "org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.systemd1.NoSuchUnit"):
			continue // unloaded since it was listed
		case unitsError(err, "org.freedesktop.DBus.Error.UnknownProperty"):
			look.Degraded = "this systemd does not count restarts (before version 235)"
		case err != nil:
			return tracking.Look{}, u.unseen(err)
		}
		seen[unit.Name] = u.judge(&look, unit, restarts)
	}
	u.seen = seen
	return look, nil
}

// judge adds what is wrong with the unit to the look, and gives what to compare the next look with.
func (u *Units) judge(look *tracking.Look, unit unitStatus, restarts uint32) unitSeen {
	before, known := u.seen[unit.Name]
	now := unitSeen{restarts: restarts}
	state := unit.ActiveState + " (" + unit.SubState + ")"
	// The first value is where counting begins; a smaller one is that of a counter set back by systemctl.
	if known && restarts > before.restarts {
		look.Sightings = append(look.Sightings, tracking.Sighting{
			Reason: u.reason(unit.Name), Subject: unit.Name, At: u.clock.Now(), Count: int64(restarts - before.restarts),
			Message:  "systemd has restarted " + unit.Name + ".",
			Evidence: fmt.Sprintf("NRestarts=%d, %s", restarts, state),
		})
	}
	switch {
	case unit.ActiveState == "failed":
		look.Faults = append(look.Faults, tracking.Fault{
			Reason: ReasonServiceFailedToStart, Subject: unit.Name,
			Message: unit.Name + " has failed, and systemd does not start it again.", Evidence: []string{state},
		})
	case strings.HasPrefix(unit.SubState, "auto-restart"):
		now.failing = true
		if !before.failing || restarts != before.restarts {
			look.Sightings = append(look.Sightings, tracking.Sighting{
				Reason: ReasonServiceFailedToStart, Subject: unit.Name, At: u.clock.Now(),
				Message: unit.Name + " has ended, and waits to be started again.", Evidence: state,
			})
		}
	}
	return now
}

// reason of the restarts of a unit: the kubelet's where it is one of its names, else the runtime's.
func (u *Units) reason(name string) string {
	if slices.ContainsFunc(u.options.Kubelet, func(pattern string) bool { return unitMatches(pattern, name) }) {
		return ReasonKubeletRepeatedRestart
	}
	return ReasonRuntimeRepeatedRestart
}

// unitMatches as systemd does: a pattern is a shell's.
func unitMatches(pattern, name string) bool {
	matches, err := path.Match(pattern, name)
	return err == nil && matches
}

// list gives the units that are loaded, in the order of their names.
func (u *Units) list(ctx context.Context) ([]unitStatus, error) {
	if u.conn == nil || !u.conn.Connected() {
		u.drop()
		conn, err := u.connect(ctx)
		if err != nil {
			return nil, err
		}
		u.conn = conn
	}
	var units []unitStatus
	// Listing by pattern loads no unit, as listing by name would.
	err := u.conn.Object(systemdName, systemdPath).CallWithContext(ctx, systemdManager+".ListUnitsByPatterns", dbus.FlagNoAutoStart,
		[]string{}, slices.Concat(u.options.Kubelet, u.options.Runtime)).Store(&units)
	if err != nil {
		return nil, err
	}
	units = slices.DeleteFunc(units, func(unit unitStatus) bool { return unit.LoadState == "not-found" || unit.LoadState == "masked" })
	slices.SortFunc(units, func(a, b unitStatus) int { return strings.Compare(a.Name, b.Name) })
	return units[:min(len(units), unitsMost)], nil
}

func (u *Units) restarts(ctx context.Context, unit dbus.ObjectPath) (uint32, error) {
	var value dbus.Variant
	err := u.conn.Object(systemdName, unit).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart,
		systemdService, "NRestarts").Store(&value)
	if err != nil {
		return 0, err
	}
	restarts, ok := value.Value().(uint32)
	if !ok {
		return 0, fmt.Errorf("reading NRestarts of %s, of type %s", unit, value.Signature())
	}
	return restarts, nil
}

// connect to the bus or, on a machine without one, to systemd itself, which only root may.
func (u *Units) connect(ctx context.Context) (*dbus.Conn, error) {
	conn, err := unitsConnect(ctx, u.host.Path(unitsBus), (*dbus.Conn).Hello)
	if !errors.Is(err, fs.ErrNotExist) || os.Geteuid() != 0 {
		return conn, err
	}
	return unitsConnect(ctx, u.host.Path(unitsPrivate), func(*dbus.Conn) error { return nil })
}

// unitsConnect ends with ctx, which the library's own ways to connect do not.
func unitsConnect(ctx context.Context, at string, hello func(*dbus.Conn) error) (*dbus.Conn, error) {
	socket, err := (&net.Dialer{}).DialContext(ctx, "unix", at)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	conn, err := dbus.NewConn(socket)
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	if err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err == nil {
		err = hello(conn)
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (u *Units) drop() {
	if u.conn != nil {
		_ = u.conn.Close()
		u.conn = nil
	}
}

// unseen says what it means that systemd could not be asked.
func (u *Units) unseen(err error) error {
	var said dbus.Error
	if !errors.As(err, &said) {
		u.drop()
	}
	absent := errors.Is(err, fs.ErrNotExist) ||
		unitsError(err, "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner")
	if absent && !u.memory.Spoke {
		return detector.ErrNotPresent
	}
	return fmt.Errorf("asking systemd, %w", err)
}

// unitsError says that the answer was an error with one of the names.
func unitsError(err error, names ...string) bool {
	var said dbus.Error
	return errors.As(err, &said) && slices.Contains(names, said.Name)
}
