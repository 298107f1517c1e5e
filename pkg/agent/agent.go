// Package agent states, at every moment, the whole truth about the node that it runs on, in the NodeHealth of that
// node. It remedies nothing.
package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/node"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// Options of an agent.
type Options struct {
	// NodeName is the name of the Node, which the NodeHealth bears too.
	NodeName string
	// Host that it looks at.
	Host host.Host
	// ConfigFile may be empty: nothing but defaults.
	ConfigFile string
	// StateFile keeps open faults and cursors over restarts; empty: nothing is kept.
	StateFile string
	// LivenessSocket is the unix socket on which it says that it lives; empty: none.
	LivenessSocket string
	// MetricsBindAddress is that of /metrics; "0" or empty: none.
	MetricsBindAddress string
	// MetricsSecure keeps the metrics to this machine's loopback, or, with MetricsCertDir, to clients with a certificate.
	MetricsSecure bool
	// MetricsCertDir has tls.crt and tls.key, which it shows, and ca.crt, which clients' certificates must be signed by;
	// empty: no TLS.
	MetricsCertDir string
	Kubeconfig     string
	// Heartbeat is the longest time between two writes, a second at least; 0: HeartbeatInterval.
	Heartbeat time.Duration
}

const (
	configEvery = 5 * time.Second
	stateEvery  = 5 * time.Second
	// stateTimesEvery is how often a state is saved in which nothing but the times of standing faults has moved.
	stateTimesEvery = time.Minute
)

// Agent is a running agent.
type Agent struct {
	o       Options
	clock   clock.WithTicker
	log     *slog.Logger
	bootID  string
	board   *Board
	metrics *Metrics
	writer  *Writer
	// list gives the detectors of a configuration; tests give others.
	list func(Config) ([]detector.Detector, error)

	mu     sync.Mutex // guards what follows
	engine *engine
	// carried is the state of sources that are not in the engine now, so that switching a detector off and on again
	// does not forget.
	carried State
	config  []byte
	// saved is what is news in the state that was saved last, savedAt when that was.
	saved   []byte
	savedAt time.Time

	troubles troubles
}

// troubles of the agent itself; empty where there are none. They have a lock of their own, since a look reads them
// while a reload waits for that look to end.
type troubles struct {
	mu sync.Mutex
	// config says what is wrong with the configuration file, state why the state cannot be kept.
	config, state string
}

func (t *troubles) read() (config, state string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.config, t.state
}

func (t *troubles) setConfig(problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.config = problem
}

func (t *troubles) setState(problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state = problem
}

// Run looks and writes until ctx ends. An error says what keeps it from beginning; afterwards nothing does.
func Run(ctx context.Context, o Options, clk clock.WithTicker, log *slog.Logger) error {
	a, err := newAgent(o, clk, log)
	if err != nil {
		return err
	}
	api, err := NewAPIServer(o.Kubeconfig)
	if err != nil {
		return err
	}
	return a.run(ctx, api)
}

func newAgent(o Options, clk clock.WithTicker, log *slog.Logger) (*Agent, error) {
	if o.NodeName == "" {
		return nil, errors.New("the name of the Node is missing: give it with --node-name or in NODE_NAME")
	}
	if o.Heartbeat != 0 && o.Heartbeat < time.Second {
		return nil, fmt.Errorf("the heartbeat interval is %s: give a second at least", o.Heartbeat)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a := &Agent{o: o, clock: clk, log: log, board: NewBoard(), metrics: NewMetrics(registry)}
	a.list = func(config Config) ([]detector.Detector, error) {
		return node.All(o.Host, clk, config.Detectors, config.Catalogue)
	}
	var err error
	if a.bootID, err = o.Host.BootID(); err != nil {
		return nil, err //nolint:wrapcheck // says what it did
	}
	if a.config, err = readConfigFile(o.ConfigFile); err != nil {
		return nil, err
	}
	if o.StateFile != "" {
		state, err := ReadState(o.StateFile)
		if err != nil {
			log.Error("beginning without what was known before", "error", err)
		}
		a.carried = state
	}
	if err := a.serveMetrics(registry); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Agent) run(ctx context.Context, api truthStore) error {
	// What the engines were cannot change what is written: the writer outlives them.
	complete := make(chan struct{})
	a.writer = NewWriter(a.o.NodeName, a.bootID, a.clock, api, a.board, complete, a.metrics, a.log)
	a.writer.heartbeat = cmp.Or(a.o.Heartbeat, HeartbeatInterval)
	parts, err := a.parts(a.config)
	if err != nil {
		return err
	}
	engine := a.build(parts)
	a.engine = engine
	engine.start(ctx)
	go func() {
		select {
		case <-engine.complete:
			close(complete)
		case <-ctx.Done():
		}
	}()
	var running sync.WaitGroup
	if a.o.LivenessSocket != "" {
		running.Go(func() { NewLiveness(a.clock).Run(ctx, a.o.LivenessSocket, a.log) })
	}
	running.Go(func() { a.every(ctx, configEvery, func() { a.reload(ctx) }) })
	running.Go(func() { a.every(ctx, stateEvery, a.saveState) })
	running.Go(func() { a.writer.Run(ctx) })
	running.Wait()
	a.saveState()
	return nil
}

func (a *Agent) every(ctx context.Context, interval time.Duration, do func()) {
	ticker := a.clock.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			do()
		}
	}
}

// engineParts are what a configuration says an engine is made of.
type engineParts struct {
	detectors []detector.Detector
	catalogue tracking.Catalogue
}

func (a *Agent) parts(text []byte) (engineParts, error) {
	config, err := ParseConfig(text)
	if err != nil {
		return engineParts{}, err
	}
	detectors, err := a.list(config)
	if err != nil {
		return engineParts{}, err
	}
	return engineParts{detectors: append(detectors, &self{agent: a}), catalogue: config.Catalogue}, nil
}

// build makes an engine with the state that is carried.
func (a *Agent) build(parts engineParts) *engine {
	return newEngine(engineOptions{engineParts: parts, clock: a.clock, board: a.board, metrics: a.metrics, log: a.log}, a.carried, a.bootID)
}

// reload takes in the configuration file if it has changed: as a whole, or, where it holds a mistake, not at all.
func (a *Agent) reload(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	text, err := readConfigFile(a.o.ConfigFile)
	if err == nil && string(text) == string(a.config) {
		a.reject(nil)
		return
	}
	var parts engineParts
	if err == nil {
		parts, err = a.parts(text)
	}
	if err != nil {
		a.reject(err)
		return
	}
	a.engine.stop()
	a.carry()
	before := a.engine.names()
	engine := a.build(parts)
	a.engine, a.config = engine, text
	a.reject(nil)
	for name := range before {
		if !engine.names()[name] {
			a.board.Remove(name)
			a.metrics.forget(name)
		}
	}
	a.log.Info("took in a new configuration")
	engine.start(ctx)
}

// reject remembers what is wrong with the configuration file, nil: nothing.
func (a *Agent) reject(err error) {
	problem, _ := a.troubles.read()
	switch {
	case err == nil && problem != "":
		a.log.Info("the configuration file is in force again")
		a.troubles.setConfig("")
		a.metrics.config.WithLabelValues().Set(0)
	case err != nil && err.Error() != problem:
		a.log.Error("rejecting the configuration; the one before stays in force", "error", err)
		a.troubles.setConfig(err.Error())
		a.metrics.config.WithLabelValues().Set(1)
	}
}

// carry takes the state out of the engine.
func (a *Agent) carry() {
	state := a.engine.state(a.bootID)
	if a.carried.BootID == a.bootID {
		merged := maps.Clone(a.carried.Sources)
		maps.Copy(merged, state.Sources)
		state.Sources = merged
	}
	a.carried = state
}

func (a *Agent) saveState() {
	if a.o.StateFile == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.carry()
	news, err := json.Marshal(a.carried.lasting())
	if err == nil && string(news) == string(a.saved) && a.clock.Since(a.savedAt) < stateTimesEvery {
		return
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(a.carried)
	}
	if err == nil {
		err = writeState(a.o.StateFile, text)
	}
	if err == nil {
		a.saved, a.savedAt = news, a.clock.Now()
		a.troubles.setState("")
		return
	}
	a.metrics.stateError.WithLabelValues().Inc()
	if _, problem := a.troubles.read(); problem == "" {
		a.log.Error("keeping the state; the agent goes on, and begins anew after a restart", "error", err)
	}
	a.troubles.setState(err.Error())
}

// self is the detector that looks at the agent: whether the API server takes what it writes, and whether it works with
// the configuration that stands in its file.
type self struct {
	agent *Agent
}

// SourceAgent is the source of what the agent says of itself.
const SourceAgent = "agent"

// Spec of the agent's own source.
func (*self) Spec() detector.Spec {
	return detector.Spec{Name: SourceAgent, Categories: []v1alpha1.Category{v1alpha1.CategoryKubelet}, Interval: 10 * time.Second}
}

func (s *self) Look(context.Context) (tracking.Look, error) {
	var look tracking.Look
	if since, failure := s.agent.writer.Failing(); !since.IsZero() {
		look.Faults = append(look.Faults, tracking.Fault{Reason: "APIServerUnreachable", Message: failure, Since: since})
	}
	switch config, state := s.agent.troubles.read(); {
	case config != "":
		look.Degraded = "the configuration file is rejected and the one before is in force: " + config
	case state != "":
		look.Degraded = "open faults are not kept for the time after a restart: " + state
	}
	return look, nil
}
