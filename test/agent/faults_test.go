package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// slack is what a computer with much to do may add to any time.
const slack = 10 * time.Second

func TestAFaultOfTheNetworkBecomesAConditionAndGoesAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		machine, reason, subject string
		breaks, heals            func(s *scenario) error
	}{
		"the second interface is taken down": {
			machine: "down", reason: "InterfaceNotUp", subject: "eth1",
			breaks: func(s *scenario) error { return s.machine.Down("eth1") },
			heals:  func(s *scenario) error { return s.machine.Up("eth1") },
		},
		"the second interface loses its carrier": {
			machine: "nocar", reason: "InterfaceNotRunning", subject: "eth1",
			breaks: func(s *scenario) error { return s.machine.SetCarrier(1, false) },
			heals:  func(s *scenario) error { return s.machine.SetCarrier(1, true) },
		},
		"the second interface is deleted": {
			machine: "delete", reason: "InterfaceNotUp", subject: "eth1",
			breaks: func(s *scenario) error { return s.machine.Delete("eth1") },
			heals:  func(s *scenario) error { return s.machine.MakeCard(1) },
		},
		"the loopback is taken down": {
			machine: "lodown", reason: "MissingLoopbackInterface", subject: "lo",
			breaks: func(s *scenario) error { return s.machine.Down("lo") },
			heals:  func(s *scenario) error { return s.machine.Up("lo") },
		},
		"the default route is removed": {
			machine: "route", reason: "MissingDefaultRoutes", subject: "ipv4",
			breaks: func(s *scenario) error { return s.machine.DeleteDefaultRoute() },
			heals:  func(s *scenario) error { return s.machine.AddDefaultRoute() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t, tc.machine)
			s.start()
			reason, known := health.Lookup(tc.reason)
			require.True(t, known)
			confirm := reason.Confirm.For

			broke := time.Now()
			s.do(tc.breaks(s))
			first := s.finds(tc.reason, v1alpha1.SeverityWarning)
			require.Less(t, time.Since(broke), slack, "a fault is shown at once")
			require.Equal(t, tc.subject, first.Subject)
			require.Equal(t, metav1.ConditionTrue, s.record.now(v1alpha1.CategoryNetworking).Status, "what is not confirmed makes no condition False")

			sick := s.says(v1alpha1.CategoryNetworking, metav1.ConditionFalse)
			require.Equal(t, tc.reason, sick.Reason)
			require.GreaterOrEqual(t, sick.At.Sub(broke), confirm-time.Second, "it was to be confirmed for %s; its start is cut to seconds", confirm)
			require.Less(t, sick.At.Sub(broke), confirm+slack)
			require.WithinDuration(t, broke, s.finds(tc.reason, v1alpha1.SeverityFatal).Since.Time, slack)
			require.NoError(t, s.agent.Healthz(s.ctx), "the agent lives on")

			time.Sleep(2 * time.Second) // transitions are written in whole seconds
			healed := time.Now()
			s.do(tc.heals(s))
			well := s.says(v1alpha1.CategoryNetworking, metav1.ConditionTrue)
			require.Less(t, well.At.Sub(healed), slack, "a fault that has gone is gone at once")
			require.Nil(t, s.finding(tc.reason))
			require.Equal(t, []metav1.ConditionStatus{"True", "False", "True"}, s.record.states(v1alpha1.CategoryNetworking, broke))
			require.Equal(t, 3, s.record.transitions(v1alpha1.CategoryNetworking, broke), "the last transition moves once for each of the two changes")
			require.False(t, s.agent.Ended())
		})
	}
}

func TestAnInterfaceThatIsBackInTimeIsNoFault(t *testing.T) {
	t.Parallel()
	s := begin(t, "blink")
	s.start()
	broke := time.Now()
	for range 3 {
		s.do(s.machine.Down("eth1"))
		time.Sleep(3 * time.Second)
		s.do(s.machine.Up("eth1"))
		time.Sleep(time.Second)
	}
	s.eventually("the finding is gone", func() error {
		if f := s.finding("InterfaceNotUp"); f != nil {
			return errFound(f)
		}
		return nil
	})
	s.holdsFor(2*time.Second, "the NodeClaim was never False", func() error {
		for _, said := range s.record.since(v1alpha1.CategoryNetworking, broke) {
			if said.Status != metav1.ConditionTrue {
				return errSaid(said)
			}
		}
		return nil
	})
}
