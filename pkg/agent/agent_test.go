package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

func TestTheFirstTruthIsWrittenAtOnce(t *testing.T) {
	l := newLink()
	l.down = true
	inWorld(t, worldOptions{detectors: []detector.Detector{l}}, func(t *testing.T, w *world) {
		pass(100 * time.Millisecond)
		sources, findings := w.api.newest(t)
		require.Equal(t, map[string]string{"agent": "Active", "link": "Active"}, sources)
		require.Equal(t, map[string]string{"InterfaceNotUp eth1": "Warning"}, findings)
		written := w.api.applied[0]
		require.Equal(t, "node", written.Name)
		require.Equal(t, "boot-1", written.BootID)
		require.EqualValues(t, "node-uid", written.OwnerReferences[0].UID)
		require.Equal(t, HeartbeatInterval, written.Sources[0].HeartbeatInterval.Duration)
	})
}

func TestAFaultIsWrittenAtOnceConfirmedAndGone(t *testing.T) {
	l := newLink()
	inWorld(t, worldOptions{detectors: []detector.Detector{l}}, func(t *testing.T, w *world) {
		pass(30 * time.Second)
		l.set(true)
		pass(500 * time.Millisecond)
		_, findings := w.api.newest(t)
		require.Equal(t, "Warning", findings["InterfaceNotUp eth1"])
		pass(10 * time.Second)
		_, findings = w.api.newest(t)
		require.Equal(t, "Fatal", findings["InterfaceNotUp eth1"])
		pass(time.Hour)
		l.set(false)
		pass(500 * time.Millisecond)
		_, findings = w.api.newest(t)
		require.Empty(t, findings)
	})
}

func TestAtRestOnlyHeartbeatsAreWritten(t *testing.T) {
	for name, down := range map[string]bool{"on a healthy node": false, "while a fault stands": true} {
		t.Run(name, func(t *testing.T) {
			l := newLink()
			l.down = down
			inWorld(t, worldOptions{detectors: []detector.Detector{l}}, func(t *testing.T, w *world) {
				pass(time.Minute)
				before := w.api.writes()
				pass(time.Hour)
				require.InDelta(t, 13.5, w.api.writes()-before, 2, "writes in an hour")
				require.Less(t, l.looks, 100)
			})
		})
	}
}

func TestFlickeringIsNotFeltByTheAPIServer(t *testing.T) {
	l := newLink()
	inWorld(t, worldOptions{detectors: []detector.Detector{l}}, func(t *testing.T, w *world) {
		for i := range 3000 {
			l.set(i%2 == 0)
			pass(100 * time.Millisecond)
		}
		require.LessOrEqual(t, w.api.writes(), 6+150, "one write in two seconds, and five at once")
		pass(3 * time.Second)
		_, findings := w.api.newest(t)
		require.Empty(t, findings, "the newest truth wins")
	})
}

func TestADetectorThatHangsHoldsUpNobodyElse(t *testing.T) {
	l := newLink()
	var hang atomic.Bool
	var block chan struct{}
	hanging := &scripted{name: "hanging", look: func(context.Context) (tracking.Look, error) {
		if hang.Load() {
			<-block
		}
		return seen("NVMeControllerFailure")
	}}
	inWorld(t, worldOptions{detectors: []detector.Detector{l, hanging}}, func(t *testing.T, w *world) {
		pass(time.Second)
		block = make(chan struct{})
		hang.Store(true)
		pass(2 * time.Minute)
		l.set(true)
		pass(8 * time.Minute)
		sources, findings := w.api.newest(t)
		require.Equal(t, "Unavailable", sources["hanging"])
		require.Equal(t, "Active", sources["link"])
		require.Equal(t, "Fatal", findings["InterfaceNotUp eth1"])
		require.Equal(t, "Fatal", findings["NVMeControllerFailure "], "what was known stays known; the source says that it cannot see")
		hang.Store(false)
		block <- struct{}{}
		pass(time.Second)
		sources, _ = w.api.newest(t)
		require.Equal(t, "Active", sources["hanging"])
	})
}

func TestADetectorThatPanicsIsBlindAndTriedAgain(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	panicking := &scripted{name: "panicking", look: func(context.Context) (tracking.Look, error) {
		if broken.Load() {
			panic("index out of range")
		}
		return tracking.Look{}, nil
	}}
	inWorld(t, worldOptions{detectors: []detector.Detector{panicking, newLink()}}, func(t *testing.T, w *world) {
		pass(time.Second)
		sources, _ := w.api.newest(t)
		require.Equal(t, map[string]string{"agent": "Active", "link": "Active", "panicking": "Unavailable"}, sources)
		broken.Store(false)
		pass(2 * time.Minute)
		sources, _ = w.api.newest(t)
		require.Equal(t, "Active", sources["panicking"])
	})
}

func TestWhatIsNotOnThisNodeHasNoSource(t *testing.T) {
	absent := &scripted{name: "absent", look: func(context.Context) (tracking.Look, error) { return tracking.Look{}, detector.ErrNotPresent }}
	inWorld(t, worldOptions{detectors: []detector.Detector{absent, newLink()}}, func(t *testing.T, w *world) {
		pass(time.Second)
		sources, _ := w.api.newest(t)
		require.Equal(t, map[string]string{"agent": "Active", "link": "Active"}, sources)
	})
}

func TestAfterAnOutageTheNewestTruthIsWritten(t *testing.T) {
	l := newLink()
	inWorld(t, worldOptions{detectors: []detector.Detector{l}}, func(t *testing.T, w *world) {
		pass(time.Second)
		before := w.api.writes()
		w.api.setFail(errAway)
		for range 10 {
			l.set(true)
			pass(30 * time.Second)
			l.set(false)
			pass(30 * time.Second)
		}
		require.Less(t, w.api.tries-before, 45, "tries have growing pauses")
		l.set(true)
		pass(20 * time.Second)
		w.api.setFail(nil)
		pass(time.Minute)
		require.LessOrEqual(t, w.api.writes()-before, 3, "what came and went meanwhile is no news")
		for _, written := range w.api.applied[before:] {
			require.Equal(t, "InterfaceNotUp", written.Findings[len(written.Findings)-1].Reason)
		}
		_, findings := w.api.newest(t)
		require.Equal(t, map[string]string{"InterfaceNotUp eth1": "Fatal"}, findings)
	})
}

func TestAnAgentWaitsForItsNode(t *testing.T) {
	api := &apiServer{uid: "node-uid", fail: apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, "node")}
	inWorld(t, worldOptions{detectors: []detector.Detector{newLink()}, api: api}, func(t *testing.T, w *world) {
		pass(5 * time.Minute)
		require.Zero(t, w.api.writes())
		w.api.setFail(nil)
		pass(time.Minute)
		require.NotZero(t, w.api.writes())
	})
}

func TestANodeThatWasMadeAnewOwnsTheNodeHealth(t *testing.T) {
	inWorld(t, worldOptions{detectors: []detector.Detector{newLink()}}, func(t *testing.T, w *world) {
		pass(time.Second)
		w.api.mu.Lock()
		w.api.uid = "another"
		w.api.mu.Unlock()
		pass(6 * time.Minute)
		require.EqualValues(t, "another", w.api.applied[w.api.writes()-1].OwnerReferences[0].UID)
	})
}

// A restart, be it a kill: what stands never seems gone, and its start does not move.
func TestARestartForgetsNothing(t *testing.T) {
	state := filepath.Join(t.TempDir(), "agent.json")
	l := newLink()
	api := &apiServer{uid: "node-uid"}
	synctest.Test(t, func(t *testing.T) {
		o := worldOptions{detectors: []detector.Detector{l}, state: state, api: api}
		w := start(t, o)
		l.set(true)
		pass(time.Minute)
		kept, err := os.ReadFile(state)
		require.NoError(t, err)
		since := api.applied[api.writes()-1].Findings[0].Since
		w.stop()
		require.NoError(t, os.WriteFile(state, kept, 0o600)) // as a kill would have left it
		before := api.writes()
		pass(time.Minute)
		w = start(t, o)
		defer w.stop()
		pass(time.Minute)
		require.Greater(t, api.writes(), before)
		for _, written := range api.applied[before:] {
			require.Len(t, written.Findings, 1)
			require.Equal(t, v1alpha1.SeverityFatal, written.Findings[0].Severity)
			require.Equal(t, since, written.Findings[0].Since)
		}
	})
}

func TestANewBootBeginsAnew(t *testing.T) {
	state := filepath.Join(t.TempDir(), "agent.json")
	broken := &scripted{name: "broken", look: func(context.Context) (tracking.Look, error) {
		return tracking.Look{Sightings: []tracking.Sighting{{Reason: "NvidiaXID79Error", Subject: "0000:01:00"}}}, nil
	}}
	quiet := &scripted{name: "broken", look: healthy}
	api := &apiServer{uid: "node-uid"}
	synctest.Test(t, func(t *testing.T) {
		w := start(t, worldOptions{detectors: []detector.Detector{broken}, state: state, api: api})
		pass(10 * time.Second)
		w.stop()
		w = start(t, worldOptions{detectors: []detector.Detector{quiet}, state: state, api: api})
		pass(10 * time.Second)
		_, findings := api.newest(t)
		require.Equal(t, map[string]string{"NvidiaXID79Error 0000:01:00": "Fatal"}, findings, "the same boot: nothing has cured it")
		w.stop()
		w = start(t, worldOptions{detectors: []detector.Detector{quiet}, state: state, api: api, bootID: "boot-2"})
		defer w.stop()
		pass(10 * time.Second)
		_, findings = api.newest(t)
		require.Empty(t, findings)
		require.Equal(t, "boot-2", api.applied[api.writes()-1].BootID)
	})
}

func TestAFaultThatStandsDoesNotWearTheDisk(t *testing.T) {
	state := filepath.Join(t.TempDir(), "agent.json")
	l := newLink()
	l.down = true
	busy := &scripted{name: "busy", look: func(context.Context) (tracking.Look, error) { return seen("ClockUnsynchronized") }}
	inWorld(t, worldOptions{detectors: []detector.Detector{l, busy}, state: state}, func(t *testing.T, w *world) {
		pass(15 * time.Minute)
		written := map[string]bool{}
		for range 60 {
			text, err := os.ReadFile(state)
			require.NoError(t, err)
			written[string(text)] = true
			pass(5 * time.Second)
		}
		require.LessOrEqual(t, len(written), 7, "states kept in five minutes")
	})
}

func TestAStateThatCannotBeKeptIsToldAndTheAgentGoesOn(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "no-folder")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	l := newLink()
	inWorld(t, worldOptions{detectors: []detector.Detector{l}, state: filepath.Join(file, "agent.json")}, func(t *testing.T, w *world) {
		pass(time.Minute)
		sources, _ := w.api.newest(t)
		require.Equal(t, "Degraded", sources["agent"])
		l.set(true)
		pass(11 * time.Second)
		_, findings := w.api.newest(t)
		require.Equal(t, "Fatal", findings["InterfaceNotUp eth1"])
		require.NoError(t, os.Remove(file)) // room again
		pass(time.Minute)
		sources, _ = w.api.newest(t)
		require.Equal(t, "Active", sources["agent"])
	})
}

func TestAStateThatNobodyUnderstandsIsLeftBehind(t *testing.T) {
	state := filepath.Join(t.TempDir(), "agent.json")
	require.NoError(t, os.WriteFile(state, []byte(`{"bootID": 7`), 0o600))
	inWorld(t, worldOptions{detectors: []detector.Detector{newLink()}, state: state}, func(t *testing.T, w *world) {
		pass(10 * time.Second)
		require.NotZero(t, w.api.writes())
		kept, err := ReadState(state)
		require.NoError(t, err)
		require.Equal(t, "boot-1", kept.BootID)
	})
}

func TestAConfigurationIsTakenInWithoutARestart(t *testing.T) {
	config := filepath.Join(t.TempDir(), "agent.yaml")
	require.NoError(t, os.WriteFile(config, []byte("reasons: {}\n"), 0o600))
	l := newLink()
	l.down = true
	inWorld(t, worldOptions{detectors: []detector.Detector{l}, config: config}, func(t *testing.T, w *world) {
		pass(time.Minute)
		since := w.api.applied[w.api.writes()-1].Findings[0].Since

		require.NoError(t, os.WriteFile(config, []byte("reasons:\n  InterfaceNotUp:\n    severity: Terrible\n"), 0o600))
		pass(30 * time.Second)
		sources, findings := w.api.newest(t)
		require.Equal(t, "Degraded", sources["agent"])
		require.Equal(t, "Fatal", findings["InterfaceNotUp eth1"], "the configuration before stays in force")
		last := w.api.applied[w.api.writes()-1]
		require.Contains(t, last.Sources[0].Message, `line 3: reasons.InterfaceNotUp.severity: "Terrible": write Fatal or Warning`)

		require.NoError(t, os.WriteFile(config, []byte("reasons:\n  InterfaceNotUp:\n    confirm: 5m\n"), 0o600))
		pass(30 * time.Second)
		sources, findings = w.api.newest(t)
		require.Equal(t, "Active", sources["agent"])
		require.Equal(t, "Fatal", findings["InterfaceNotUp eth1"], "an episode that was confirmed stays so")
		require.Equal(t, since, w.api.applied[w.api.writes()-1].Findings[0].Since)

		require.NoError(t, os.WriteFile(config, []byte("reasons:\n  InterfaceNotUp:\n    disabled: true\n"), 0o600))
		pass(30 * time.Second)
		_, findings = w.api.newest(t)
		require.Empty(t, findings)
	})
}

func TestAnAgentDoesNotBeginWithAConfigurationThatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct{ config, want string }{
		"a reason that nobody knows":  {"reasons:\n  Nonsense: {disabled: true}\n", "line 2: reasons.Nonsense: is no reason"},
		"a setting that nobody knows": {"reasons: {}\ndetectors:\n  colour: red\n", "line 3: detectors.colour: there is no such setting"},
		"a value of the wrong kind":   {"detectors:\n  disabled: 7\n", "line 2: detectors.disabled: a number stands where a []string should"},
		"a number without quotes":     {"reasons:\n  OOMKilling: {disabled: true}\n  SoftLockup:\n    confirm: 1\n", "line 4: reasons.confirm: a number stands where a string should: for a text write it in quotes"},
		"a detector that is none":     {"detectors:\n  disabled:\n  - nonsense\n", `line 3: detectors.disabled[0]: "nonsense" is no detector: write one of`},
		"an expression that is none":  {"detectors:\n  interfaces:\n    include: ['(']\n", "line 2: detectors.interfaces: "},
		"no YAML":                     {"reasons: [\n", "line 1"},
		"a rule without its sample":   {"rules:\n- reason: DiskOnFire\n  category: Storage\n  stream: kmsg\n  pattern: x\n", "line 2: rules[0].sample"},
		"a name that stands twice":    {"reasons:\n  OOMKilling: {disabled: true}\n  OOMKilling: {disabled: false}\n", "OOMKilling"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConfig([]byte(tc.config))
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestAnEmptyConfigurationIsTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", strings.Repeat("\n", 3)} {
		_, err := ParseConfig([]byte(text))
		require.NoError(t, err)
	}
}
