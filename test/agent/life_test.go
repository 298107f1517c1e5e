package agent

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// Not parallel, and so before all that are: the API server is everybody's.
func TestAfterAnOutageOfTheAPIServerTheNewestTruthIsWritten(t *testing.T) {
	s := begin(t, "outage")
	s.start()
	require.NoError(t, s.c.Part(s.ctx, "stop", "apiserver"))
	back := sync.OnceValue(func() error { return s.c.Part(context.WithoutCancel(s.ctx), "start", "apiserver") })
	defer back() //nolint:errcheck // asked for below, where it matters
	// A fault that comes and goes, one that is still unconfirmed when it goes, one that stays.
	s.do(s.machine.Down("eth1"))
	time.Sleep(12 * time.Second)
	s.do(s.machine.Up("eth1"))
	s.do(s.machine.SetCarrier(1, false))
	s.do(s.machine.Down("lo"))
	began := time.Now()
	time.Sleep(2 * time.Second)
	s.do(s.machine.SetCarrier(1, true))
	time.Sleep(10 * time.Second)
	require.NoError(t, s.agent.Healthz(s.ctx))
	require.NoError(t, back())
	controllerLives(s)
	f := s.finds("MissingLoopbackInterface", v1alpha1.SeverityFatal)
	require.WithinDuration(t, began, f.Since.Time, slack, "it began when it began, not when it could be written")
	sick := s.says(v1alpha1.CategoryNetworking, metav1.ConditionFalse)
	require.Equal(t, "MissingLoopbackInterface", sick.Reason)
	require.NotContains(t, sick.Message, "eth1")
	s.do(s.machine.Up("lo"))
	s.says(v1alpha1.CategoryNetworking, metav1.ConditionTrue)
	require.False(t, s.agent.Ended())
}

func TestAnAgentThatIsStartedAnewDoesNotDeclareABrokenNodeHealthy(t *testing.T) {
	t.Parallel()
	s := begin(t, "rebrok")
	s.start()
	s.do(s.machine.Down("eth1"))
	sick := s.says(v1alpha1.CategoryNetworking, metav1.ConditionFalse)
	since := s.finds("InterfaceNotUp", v1alpha1.SeverityFatal).Since
	s.kept()
	for range 2 {
		s.killAndStart()
	}
	for _, said := range s.record.since(v1alpha1.CategoryNetworking, sick.At) {
		require.Equal(t, metav1.ConditionFalse, said.Status, "%s: %s", said.Reason, said.Message)
	}
	require.Equal(t, 1, s.record.transitions(v1alpha1.CategoryNetworking, sick.At))
	require.Equal(t, since, s.finds("InterfaceNotUp", v1alpha1.SeverityFatal).Since)
	s.do(s.machine.Up("eth1"))
	s.says(v1alpha1.CategoryNetworking, metav1.ConditionTrue)
}

func TestAnAgentThatIsStartedAnewDoesNotDeclareAHealthyNodeBroken(t *testing.T) {
	t.Parallel()
	s := begin(t, "rewell")
	s.start()
	s.do(s.machine.Down("eth1"))
	s.says(v1alpha1.CategoryNetworking, metav1.ConditionFalse)
	s.kept()
	// The fault goes while nobody looks.
	s.agent.Kill()
	s.do(s.machine.Up("eth1"))
	s.run()
	well := s.says(v1alpha1.CategoryNetworking, metav1.ConditionTrue)
	for range 2 {
		s.killAndStart()
	}
	for _, said := range s.record.since(v1alpha1.CategoryNetworking, well.At) {
		require.Equal(t, metav1.ConditionTrue, said.Status, "%s: %s", said.Reason, said.Message)
	}
	require.Equal(t, 1, s.record.transitions(v1alpha1.CategoryNetworking, well.At))
}

// kept waits until the agent has had the time to keep what it knows.
func (s *scenario) kept() {
	written := time.Now()
	s.eventually("the agent has kept its state", func() error {
		info, err := os.Stat(s.agent.StateFile)
		if err != nil {
			return err
		}
		if info.ModTime().Before(written) && time.Since(written) < 6*time.Second {
			return errors.New("it is of before")
		}
		return nil
	})
}

// killAndStart waits until the agent that was started has written.
func (s *scenario) killAndStart() {
	s.Helper()
	s.agent.Kill()
	began := time.Now().Truncate(time.Second) // a heartbeat is in whole seconds
	s.run()
	s.eventually("the agent has written", func() error {
		for _, source := range s.health().Sources {
			if source.Name == "interfaces" && source.LastHeartbeat != nil && !source.LastHeartbeat.Time.Before(began) {
				return nil
			}
		}
		return errors.New("the last heartbeat is of before")
	})
}

// soon makes silence tell after six seconds.
func soon(o *cluster.AgentOptions) { o.Heartbeat = 2 * time.Second }

func TestAnAgentThatFallsSilentIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := begin(t, "silent")
	require.NoError(t, s.c.Create(s.ctx, cluster.RepairPolicy(s.name)))
	s.start(soon)
	s.agent.Kill()
	silent := s.says(v1alpha1.CategoryNetworking, metav1.ConditionUnknown)
	require.Equal(t, "SourceSilent", silent.Reason)
	s.holdsFor(8*time.Second, "silence alone repairs nothing", s.noRepair)
	s.run(soon)
	s.says(v1alpha1.CategoryNetworking, metav1.ConditionTrue)
}

func TestAFaultThatNobodySeesAnyMoreIsNotRepaired(t *testing.T) {
	t.Parallel()
	s := begin(t, "unseen")
	late := func(p *v1alpha1.RepairPolicy) { p.Spec.Rules[0].Tolerate = metav1.Duration{Duration: 25 * time.Second} }
	require.NoError(t, s.c.Create(s.ctx, cluster.RepairPolicy(s.name, late)))
	s.start(soon)
	s.do(s.machine.Down("eth1"))
	s.says(v1alpha1.CategoryNetworking, metav1.ConditionFalse)
	s.agent.Kill()
	unseen := s.says(v1alpha1.CategoryNetworking, metav1.ConditionUnknown)
	require.Contains(t, unseen.Message, "last known: InterfaceNotUp eth1", "what it was is not forgotten")
	s.holdsFor(15*time.Second, "it is not repaired", s.noRepair)
}

func TestWritersOfOneNodeHealthLoseNothingOfEachOther(t *testing.T) {
	t.Parallel()
	s := begin(t, "three")
	s.start()
	third := v1alpha1.NodeHealth{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "NodeHealth"}}
	third.Name = s.node
	write := func(n int) error {
		third.Sources = []v1alpha1.Source{{Name: "third", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryStorage}}}
		third.Findings = []v1alpha1.Finding{{
			Source: "third", Reason: "ThirdOpinion", Category: v1alpha1.CategoryStorage, Severity: v1alpha1.SeverityWarning,
			Since: metav1.NewTime(time.Now().Truncate(time.Second)), Count: int64(n) + 1,
		}}
		return s.c.Client.Patch(s.ctx, third.DeepCopy(), client.Apply, client.FieldOwner("third"), client.ForceOwnership) //nolint:staticcheck // as other tools do
	}
	require.NoError(t, write(0))
	s.do(s.machine.Down("eth1"))
	require.NoError(t, s.c.Break(s.ctx, s.node))
	s.eventually("all three have written", func() error { return s.complete("InterfaceNotUp", cluster.Fault.Reason, "ThirdOpinion") })

	var writers sync.WaitGroup
	writers.Go(func() {
		for n := range 40 {
			s.NoError(write(n))
		}
	})
	writers.Go(func() {
		for n := range 20 {
			fault := cluster.Fault
			fault.Message = fmt.Sprintf("told for the %dth time", n)
			s.NoError(s.c.SetNodeCondition(s.ctx, s.node, fault))
		}
	})
	writers.Go(func() {
		for range 3 { // another reason of the same card, and back
			s.NoError(errors.Join(s.machine.Up("eth1"), s.machine.SetCarrier(1, false)))
			time.Sleep(300 * time.Millisecond)
			s.NoError(errors.Join(s.machine.SetCarrier(1, true), s.machine.Down("eth1")))
			time.Sleep(300 * time.Millisecond)
		}
	})
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for writing := true; writing; {
		select {
		case <-done:
			writing = false
		default:
			require.NoError(t, s.complete(cluster.Fault.Reason, "ThirdOpinion"))
		}
	}
	s.eventually("the truth of all three stands", func() error { return s.complete("InterfaceNotUp", cluster.Fault.Reason, "ThirdOpinion") })
	require.NoError(t, s.c.Heal(s.ctx, s.node))
	s.do(s.machine.Up("eth1"))
	s.eventually("what two take back is gone, what the third said stands", func() error {
		if f := s.finding("InterfaceNotUp"); f != nil {
			return errFound(f)
		}
		if f := s.finding(cluster.Fault.Reason); f != nil {
			return errFound(f)
		}
		return s.complete("ThirdOpinion")
	})
}

// complete says whether the NodeHealth has the sources of the agent, the controller and the third, each once, and a
// finding of each reason.
func (s *scenario) complete(reasons ...string) error {
	var sources, found []string
	h := s.health()
	for _, source := range h.Sources {
		sources = append(sources, source.Name)
	}
	for _, f := range h.Findings {
		found = append(found, f.Reason)
	}
	for _, want := range []string{"interfaces", "node-conditions", "third"} {
		if !slices.Contains(sources, want) {
			return fmt.Errorf("source %s is missing among %v", want, sources)
		}
	}
	if unique := slices.Compact(slices.Sorted(slices.Values(sources))); len(unique) != len(sources) {
		return fmt.Errorf("a source is there twice: %v", sources)
	}
	for _, want := range reasons {
		if !slices.Contains(found, want) {
			return fmt.Errorf("finding %s is missing among %v", want, found)
		}
	}
	return nil
}

func TestAnAPIServerThatAnswersLateIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := begin(t, "late")
	const late = 30 * time.Second
	s.run(func(o *cluster.AgentOptions) {
		o.Machine = nil // it looks at this computer; what it sees does not matter here
		o.APIServer, o.CA = slowAPIServer(t, s.c.Config, late)
	})
	pid := s.agent.PID()
	began := time.Now()
	s.holdsFor(late, "the agent lives while it waits", func() error { return s.agent.Healthz(s.ctx) })
	s.within(3*time.Minute, "the NodeHealth is written", func() error {
		if err := s.agent.Healthz(s.ctx); err != nil {
			return err
		}
		if len(s.health().Sources) == 0 || s.record.now(v1alpha1.CategoryStorage).Status == "" {
			return errors.New("it is not")
		}
		return nil
	})
	require.GreaterOrEqual(t, time.Since(began), late)
	require.Equal(t, pid, s.agent.PID())
	require.False(t, s.agent.Ended())
}

// slowAPIServer is a way to the API server on which each answer takes its time.
func slowAPIServer(t *testing.T, config *rest.Config, late time.Duration) (address string, ca []byte) {
	t.Helper()
	anonymous := rest.AnonymousClientConfig(config)
	transport, err := rest.TransportFor(anonymous)
	require.NoError(t, err)
	to, err := url.Parse(config.Host)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport = transport
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(late):
			proxy.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}
