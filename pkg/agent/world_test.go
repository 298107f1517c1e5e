package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// link is a detector of one link, which wakes when the link changes.
type link struct {
	mu    sync.Mutex
	down  bool
	wake  chan struct{}
	looks int
}

// newLink gives a link that is up; start makes its channel, which has to be of the bubble.
func newLink() *link { return &link{} }

func (*link) Spec() detector.Spec {
	return detector.Spec{Name: "link", Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}, Interval: time.Minute}
}

func (l *link) Look(context.Context) (tracking.Look, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks++
	var look tracking.Look
	if l.down {
		look.Faults = append(look.Faults, tracking.Fault{Reason: "InterfaceNotUp", Subject: "eth1", Message: "eth1 is down"})
	}
	return look, nil
}

func (l *link) Wake() <-chan struct{} { return l.wake }

func (l *link) set(down bool) {
	l.mu.Lock()
	l.down = down
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// scripted is a detector that does what a test says.
type scripted struct {
	name string
	look func(context.Context) (tracking.Look, error)
}

func (s *scripted) Spec() detector.Spec {
	return detector.Spec{Name: s.name, Categories: []v1alpha1.Category{v1alpha1.CategoryStorage}, Interval: time.Minute}
}

func (s *scripted) Look(ctx context.Context) (tracking.Look, error) { return s.look(ctx) }

// apiServer keeps what was applied, and fails as a test says.
type apiServer struct {
	mu      sync.Mutex
	fail    error
	slow    time.Duration
	tries   int
	applied []*v1alpha1.NodeHealth
	uid     types.UID
}

func (a *apiServer) NodeUID(context.Context, string) (types.UID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.uid, a.fail
}

func (a *apiServer) Apply(_ context.Context, health *v1alpha1.NodeHealth) error {
	time.Sleep(a.slow)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tries++
	if a.fail != nil {
		return a.fail
	}
	a.applied = append(a.applied, health)
	return nil
}

func (a *apiServer) setFail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = err
}

func (a *apiServer) writes() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.applied)
}

// newest gives the sources and findings that were written last.
func (a *apiServer) newest(t *testing.T) (sources, findings map[string]string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.NotEmpty(t, a.applied, "nothing was written")
	sources, findings = map[string]string{}, map[string]string{}
	last := a.applied[len(a.applied)-1]
	for _, s := range last.Sources {
		sources[s.Name] = string(s.State)
	}
	for _, f := range last.Findings {
		findings[f.Reason+" "+f.Subject] = string(f.Severity)
	}
	return sources, findings
}

// world is an agent in a bubble of its own time.
type world struct {
	agent *Agent
	api   *apiServer
	stop  func()
}

type worldOptions struct {
	detectors []detector.Detector
	config    string // file
	state     string // file
	bootID    string
	api       *apiServer
}

// inWorld runs a test in a bubble of its own time, in which an agent runs.
func inWorld(t *testing.T, o worldOptions, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, o)
		defer w.stop()
		synctest.Wait()
		test(t, w)
	})
}

func start(t *testing.T, o worldOptions) *world {
	t.Helper()
	root := t.TempDir()
	if o.bootID == "" {
		o.bootID = "boot-1"
	}
	if o.api == nil {
		o.api = &apiServer{uid: "node-uid"}
	}
	file := filepath.Join(root, "proc/sys/kernel/random/boot_id")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(o.bootID+"\n"), 0o600))
	a, err := newAgent(Options{NodeName: "node", Host: host.New(root), ConfigFile: o.config, StateFile: o.state}, clock.RealClock{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a.list = func(Config) ([]detector.Detector, error) { return o.detectors, nil }
	for _, d := range o.detectors {
		if l, ok := d.(*link); ok {
			l.wake = make(chan struct{}, 1)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.run(ctx, o.api) }()
	return &world{agent: a, api: o.api, stop: func() {
		cancel()
		require.NoError(t, <-done)
	}}
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var errAway = errors.New("the API server is away")

func healthy(context.Context) (tracking.Look, error) { return tracking.Look{}, nil }

func seen(reason string) (tracking.Look, error) {
	return tracking.Look{Faults: []tracking.Fault{{Reason: reason, Message: fmt.Sprint(reason, " stands")}}}, nil
}
