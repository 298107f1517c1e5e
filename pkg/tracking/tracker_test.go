package tracking

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// catalogue is the project's, with what a test changes.
type catalogue struct {
	changed map[string]health.Reason
	off     string
}

func (c catalogue) Reason(name string) (health.Reason, bool) {
	if r, ok := c.changed[name]; ok {
		return r, true
	}
	return health.Lookup(name)
}

func (c catalogue) Off(name string) bool { return name == c.off }

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is a moment of a test, as seconds since it began.
func at(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

func fault(reason, subject string) Look {
	return Look{Faults: []Fault{{Reason: reason, Subject: subject, Message: "m"}}}
}

func seen(reason, subject string, times ...int) Look {
	var look Look
	for _, second := range times {
		look.Sightings = append(look.Sightings, Sighting{Reason: reason, Subject: subject, At: at(second), Message: "m"})
	}
	return look
}

// brief is what a finding comes to: reason, subject, severity, seconds since the test began, count.
func brief(findings []v1alpha1.Finding) []string {
	out := []string{}
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s %s %s @%.0f x%d", f.Reason, f.Subject, f.Severity, f.Since.Sub(began).Seconds(), f.Count))
	}
	return out
}

type step struct {
	second int
	look   Look
	want   []string
}

func TestCourses(t *testing.T) {
	always := func(second int, look Look, want ...string) step {
		return step{second, look, append([]string{}, want...)}
	}
	for name, steps := range map[string][]step{
		"a link that stays down is a warning at once and fatal once confirmed, and gone when it is back": {
			always(0, fault("InterfaceNotUp", "eth1"), "InterfaceNotUp eth1 Warning @0 x1"),
			always(9, fault("InterfaceNotUp", "eth1"), "InterfaceNotUp eth1 Warning @0 x1"),
			always(10, fault("InterfaceNotUp", "eth1"), "InterfaceNotUp eth1 Fatal @0 x1"),
			always(100, fault("InterfaceNotUp", "eth1"), "InterfaceNotUp eth1 Fatal @0 x1"),
			always(101, Look{}),
		},
		"a link that flaps must be confirmed anew": {
			always(0, fault("InterfaceNotUp", "eth1"), "InterfaceNotUp eth1 Warning @0 x1"),
			always(8, Look{}),
			always(9, fault("InterfaceNotUp", "eth1"), "InterfaceNotUp eth1 Warning @9 x1"),
			always(18, fault("InterfaceNotUp", "eth1"), "InterfaceNotUp eth1 Warning @9 x1"),
			always(19, fault("InterfaceNotUp", "eth1"), "InterfaceNotUp eth1 Fatal @9 x1"),
		},
		"a second link does not move the start of the first": {
			always(0, fault("InterfaceNotUp", "eth1"), "InterfaceNotUp eth1 Warning @0 x1"),
			always(10, Look{Faults: []Fault{{Reason: "InterfaceNotUp", Subject: "eth1"}, {Reason: "InterfaceNotUp", Subject: "eth2"}}},
				"InterfaceNotUp eth1 Fatal @0 x1", "InterfaceNotUp eth2 Warning @10 x1"),
		},
		"looks that an event brought forward do not confirm": {
			always(0, fault("XFSSmallAverageClusterSize", "/"), "XFSSmallAverageClusterSize / Warning @0 x1"),
			always(2, fault("XFSSmallAverageClusterSize", "/"), "XFSSmallAverageClusterSize / Warning @0 x1"),
			always(4, fault("XFSSmallAverageClusterSize", "/"), "XFSSmallAverageClusterSize / Warning @0 x1"),
			always(70, fault("XFSSmallAverageClusterSize", "/"), "XFSSmallAverageClusterSize / Fatal @0 x1"),
		},
		"a warning that needs two looks is not shown after one": {
			always(0, fault("ExcessiveZombieProcesses", "")),
			always(60, fault("ExcessiveZombieProcesses", ""), "ExcessiveZombieProcesses  Warning @0 x1"),
			always(61, Look{}),
		},
		"one line that needs three is a warning, three are fatal, and quiet ends it": {
			always(1, seen("IPAMDNotReady", "", 1), "IPAMDNotReady  Warning @1 x1"),
			always(20, seen("IPAMDNotReady", "", 15, 20), "IPAMDNotReady  Fatal @1 x3"),
			always(139, Look{}, "IPAMDNotReady  Fatal @1 x3"),
			always(140, Look{}),
		},
		"a success between the lines makes them count anew": {
			always(1, seen("IPAMDNotReady", "", 0, 1), "IPAMDNotReady  Warning @0 x2"),
			always(2, Look{Sightings: []Sighting{{Reason: "IPAMDNotReady", At: at(2), Recovered: true}}}),
			always(3, seen("IPAMDNotReady", "", 3), "IPAMDNotReady  Warning @3 x1"),
		},
		"lines too far from each other do not add up": {
			always(0, seen("SoftLockup", "", 0), "SoftLockup  Warning @0 x1"),
			always(400, seen("SoftLockup", "", 400), "SoftLockup  Warning @0 x2"),
			always(800, seen("SoftLockup", "", 800), "SoftLockup  Warning @0 x3"),
			always(810, seen("SoftLockup", "", 805, 810), "SoftLockup  Fatal @0 x5"),
			always(1709, Look{}, "SoftLockup  Fatal @0 x5"),
			always(1710, Look{}),
		},
		"a flood is one finding with its count": {
			always(0, Look{Sightings: []Sighting{{Reason: "OOMKilling", Subject: "java", At: at(0), Count: 999_999}}}, "OOMKilling java Warning @0 x999999"),
			always(1, seen("OOMKilling", "java", 1), "OOMKilling java Warning @0 x1000000"),
		},
		"old lines, read again after a start, end as they would have ended": {
			always(5000, seen("SoftLockup", "", 10, 20, 30)),
			always(5000, seen("NvidiaXID79Error", "0000:01:00", 10), "NvidiaXID79Error 0000:01:00 Fatal @10 x1"),
		},
		"of old lines only the last episode counts": {
			always(5010, seen("SoftLockup", "", 10, 20, 30, 5000), "SoftLockup  Warning @5000 x1"),
		},
		"a hardware fault stays for the boot": {
			always(0, seen("NvidiaXID79Error", "0000:01:00", 0), "NvidiaXID79Error 0000:01:00 Fatal @0 x1"),
			always(1_000_000, Look{}, "NvidiaXID79Error 0000:01:00 Fatal @0 x1"),
		},
		"a line does not confirm what must stand for a time": {
			always(0, seen("FilesystemReadOnly", "sda1", 0, 5, 20), "FilesystemReadOnly sda1 Warning @0 x3"),
			always(10, Look{Sightings: []Sighting{{Reason: "FilesystemReadOnly", Subject: "sda1", At: at(10), Recovered: true}}}),
		},
		"what the detector knows to be of a volume never becomes fatal": {
			always(0, Look{Sightings: []Sighting{{Reason: "BlockDeviceIOError", Subject: "sdb", At: at(0), Count: 1000, Severity: v1alpha1.SeverityWarning}}}, "BlockDeviceIOError sdb Warning @0 x1000"),
			always(1, Look{Sightings: []Sighting{{Reason: "BlockDeviceIOError", Subject: "sda", At: at(1), Count: 10}}}, "BlockDeviceIOError sda Fatal @1 x10", "BlockDeviceIOError sdb Warning @0 x1000"),
		},
		"a line from the future counts as of now": {
			always(0, seen("OOMKilling", "", 3600), "OOMKilling  Warning @0 x1"),
			always(600, Look{}),
		},
		"a clock that was set back does not keep a finding for ever": {
			always(3600, seen("OOMKilling", "", 3600), "OOMKilling  Warning @3600 x1"),
			always(0, Look{}, "OOMKilling  Warning @3600 x1"),
			always(600, Look{}),
		},
		"a fault that must have been gone for a time stays that long": {
			always(0, Look{Faults: []Fault{{Reason: "ForkFailedOutOfPIDs", ConfirmAfter: new(30 * time.Second)}}}, "ForkFailedOutOfPIDs  Warning @0 x1"),
			always(30, Look{Faults: []Fault{{Reason: "ForkFailedOutOfPIDs", ConfirmAfter: new(30 * time.Second)}}}, "ForkFailedOutOfPIDs  Fatal @0 x1"),
			always(149, Look{}, "ForkFailedOutOfPIDs  Fatal @0 x1"),
			always(150, Look{}),
		},
		"a fault with a start of its own keeps it": {
			always(100, Look{Faults: []Fault{{Reason: "APIServerUnreachable", Since: at(39)}}}, "APIServerUnreachable  Warning @39 x1"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := New("test", time.Minute, catalogue{})
			for _, s := range steps {
				require.NoError(t, tracker.Update(s.look, at(s.second)))
				require.Equal(t, s.want, brief(tracker.Findings(at(s.second))), "at second %d", s.second)
				// A restart at any moment changes nothing.
				text, err := json.Marshal(tracker.State())
				require.NoError(t, err)
				var state []Entry
				require.NoError(t, json.Unmarshal(text, &state))
				tracker = New("test", time.Minute, catalogue{})
				tracker.Restore(state, at(s.second))
				require.Equal(t, s.want, brief(tracker.Findings(at(s.second))), "restarted at second %d", s.second)
			}
		})
	}
}

func TestAReasonThatIsSwitchedOffIsNotThere(t *testing.T) {
	tracker := New("test", time.Minute, catalogue{off: "InterfaceNotUp"})
	require.NoError(t, tracker.Update(fault("InterfaceNotUp", "eth1"), at(0)))
	require.Empty(t, tracker.Findings(at(60)))
}

func TestAReasonThatNobodyKnowsIsAnErrorAndLosesNothingElse(t *testing.T) {
	tracker := New("test", time.Minute, catalogue{})
	look := seen("OOMKilling", "", 0)
	look.Sightings = append(look.Sightings, Sighting{Reason: "Nonsense"})
	require.ErrorContains(t, tracker.Update(look, at(0)), "Nonsense")
	require.Len(t, tracker.Findings(at(0)), 1)
}

func TestAChangedSeverityIsTheOneThatCounts(t *testing.T) {
	r, _ := health.Lookup("InterfaceNotUp")
	r.Severity = v1alpha1.SeverityWarning
	tracker := New("test", time.Minute, catalogue{changed: map[string]health.Reason{"InterfaceNotUp": r}})
	require.NoError(t, tracker.Update(fault("InterfaceNotUp", "eth1"), at(0)))
	require.NoError(t, tracker.Update(fault("InterfaceNotUp", "eth1"), at(60)))
	require.Equal(t, []string{"InterfaceNotUp eth1 Warning @0 x1"}, brief(tracker.Findings(at(60))))
}

func TestSubjectsAreBounded(t *testing.T) {
	tracker := New("test", time.Minute, catalogue{})
	var look Look
	for i := range 1000 {
		look.Sightings = append(look.Sightings, Sighting{Reason: "AppCrash", Subject: fmt.Sprint("program", i), At: at(0)})
	}
	require.NoError(t, tracker.Update(look, at(0)))
	findings := tracker.Findings(at(0))
	require.Len(t, findings, maxSubjects+1)
	require.Equal(t, Others, findings[0].Subject)
	require.EqualValues(t, 1000-maxSubjects, findings[0].Count)
}

func TestEvidenceKeepsTheFirstAndTheNewest(t *testing.T) {
	tracker := New("test", time.Minute, catalogue{})
	for i := range 20 {
		require.NoError(t, tracker.Update(Look{Sightings: []Sighting{{Reason: "AppCrash", At: at(i), Evidence: fmt.Sprint("line ", i)}}}, at(i)))
	}
	require.Equal(t, []string{"line 0", "line 16", "line 17", "line 18", "line 19"}, tracker.Findings(at(20))[0].Evidence)
}

func TestWhatIsNotConfirmedSaysWhatItTakes(t *testing.T) {
	for name, tc := range map[string]struct {
		look Look
		want string
	}{
		"standing for a time":   {look: fault("InterfaceNotUp", "eth1"), want: "m (not confirmed yet: becomes Fatal once it has stood for 10s)"},
		"seen several times":    {look: seen("IPAMDNotReady", "", 0), want: "m (not confirmed yet: becomes Fatal once it was seen 3 times in 2m0s)"},
		"at several looks":      {look: fault("NvidiaNVLinkError", "0"), want: "m (not confirmed yet: becomes Fatal once it was seen 2 times)"},
		"nothing to wait for":   {look: seen("NvidiaXID79Error", "", 0), want: "m"},
		"a warning stays as is": {look: seen("OOMKilling", "", 0), want: "m"},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := New("test", time.Minute, catalogue{})
			require.NoError(t, tracker.Update(tc.look, at(0)))
			require.Equal(t, tc.want, tracker.Findings(at(0))[0].Message)
		})
	}
}

func TestNextIsWhenSomethingMayChangeByItself(t *testing.T) {
	tracker := New("test", time.Minute, catalogue{})
	require.Zero(t, tracker.Next(at(0)))
	require.NoError(t, tracker.Update(fault("InterfaceNotUp", "eth1"), at(0)))
	require.Equal(t, at(10), tracker.Next(at(1)))
	require.Equal(t, at(11), tracker.Next(at(11)), "never in the past")
	require.NoError(t, tracker.Update(fault("InterfaceNotUp", "eth1"), at(11)))
	require.Zero(t, tracker.Next(at(11)), "only a look can tell when it has gone")
	require.NoError(t, tracker.Update(seen("OOMKilling", "", 20), at(20)))
	require.Equal(t, at(620), tracker.Next(at(20)))
}

// The times of a State are those of the wall's clock: after a restart, or after the clock was set before it, they do not
// say how long something has stood.
func TestAStepOfTheClockConfirmsNothing(t *testing.T) {
	for name, tc := range map[string]struct{ stood, restored, since int }{
		"the clock is set forward while no agent runs":        {stood: 4, restored: 3600},
		"the clock was set forward before the agent ended":    {stood: 4, restored: 3604, since: -3600},
		"the clock is set back while no agent runs":           {stood: 4, restored: -3600},
		"no agent ran for a while, and the clock is the same": {stood: 4, restored: 60},
	} {
		t.Run(name, func(t *testing.T) {
			before := New("test", time.Minute, catalogue{})
			require.NoError(t, before.Update(fault("InterfaceNotUp", "eth1"), at(0)))
			require.NoError(t, before.Update(fault("InterfaceNotUp", "eth1"), at(tc.stood)))
			state := before.State()
			state[0].StandsSince = at(tc.since)
			tracker := New("test", time.Minute, catalogue{})
			tracker.Restore(state, at(tc.restored))
			severity := func(second int) v1alpha1.Severity {
				require.NoError(t, tracker.Update(fault("InterfaceNotUp", "eth1"), at(second)))
				return tracker.Findings(at(second))[0].Severity
			}
			require.Equal(t, v1alpha1.SeverityWarning, severity(tc.restored))
			require.Equal(t, v1alpha1.SeverityWarning, severity(tc.restored+10-tc.stood-1))
			require.Equal(t, v1alpha1.SeverityFatal, severity(tc.restored+10-tc.stood))
		})
	}
}
