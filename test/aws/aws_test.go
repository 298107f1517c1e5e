package aws

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/ec2/instancestatus"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/ec2"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeaws"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

func TestAnImpairedVolumeIsAConditionUntilItIsWell(t *testing.T) {
	w := begin(t, "volume")
	w.says(metav1.ConditionTrue, "ec2")
	began := time.Now().Add(-ec2.Confirm + 15*time.Second).Truncate(time.Second)
	w.aws.Impair(fakeaws.Check{Instance: w.instance, Kind: "ebs", Name: "reachability", Since: began})
	found := w.finds(health.ReasonAttachedEBSStatusImpaired, v1alpha1.SeverityWarning)
	require.True(t, found.Since.Time.Equal(began), "it began when EC2 says so, not when we looked: %s, not %s", found.Since, began)
	w.says(metav1.ConditionFalse, "AttachedEBSStatusImpaired", "The attached EBS status of "+w.instance+" is impaired")
	w.aws.Impair()
	w.says(metav1.ConditionTrue, "ec2")
}

func TestAVolumeThatComesAndGoesHasToProveItselfAnew(t *testing.T) {
	w := begin(t, "flap")
	w.aws.Impair(fakeaws.Check{Instance: w.instance, Kind: "ebs", Name: "reachability", Since: time.Now().Add(-time.Hour)})
	w.says(metav1.ConditionFalse)
	w.aws.Impair()
	w.says(metav1.ConditionTrue)
	back := time.Now().Truncate(time.Second)
	w.aws.Impair(fakeaws.Check{Instance: w.instance, Kind: "ebs", Name: "reachability"}) // EC2 does not always say since when
	found := w.finds(health.ReasonAttachedEBSStatusImpaired, v1alpha1.SeverityWarning)
	require.False(t, found.Since.Time.Before(back), "it began when it came back, not %s", found.Since)
	w.says(metav1.ConditionTrue, "AttachedEBSStatusImpaired", "Warning")
}

func TestWhatKarpenterTakesItselfIsLeftToIt(t *testing.T) {
	w := begin(t, "left")
	long := time.Now().Add(-time.Hour)
	w.aws.Impair(
		fakeaws.Check{Instance: w.instance, Kind: "system", Name: "reachability", Since: long},
		fakeaws.Check{Instance: w.instance, Kind: "event", Name: "instance-stop", Since: long},
		fakeaws.Check{Instance: w.instance, Kind: "ebs", Name: "reachability", Since: long},
	)
	w.finds(health.ReasonAttachedEBSStatusImpaired, v1alpha1.SeverityFatal)
	got := &v1alpha1.NodeHealth{}
	require.NoError(t, shared.Client.Get(w.ctx, client.ObjectKey{Name: w.node}, got))
	require.Len(t, lo.Filter(got.Findings, func(f v1alpha1.Finding, _ int) bool { return f.Source == ec2.Source }), 1)
}

func TestAllIsTakenOnceKarpenterMayNot(t *testing.T) {
	w := begin(t, "all", "--take=InstanceStatusImpaired,SystemStatusImpaired,ScheduledMaintenance")
	long, due := time.Now().Add(-time.Hour), time.Date(2030, 1, 31, 18, 0, 0, 0, time.UTC)
	w.aws.Impair(
		fakeaws.Check{Instance: w.instance, Kind: "instance", Name: "reachability", Since: long},
		fakeaws.Check{Instance: w.instance, Kind: "system", Name: "reachability", Since: long},
		fakeaws.Check{Instance: w.instance, Kind: "event", Name: "instance-retirement", Since: due, Description: "The instance is running on degraded hardware"},
		fakeaws.Check{Instance: w.instance, Kind: "event", Name: "system-reboot", Since: long, Description: "[Completed] Scheduled reboot"},
	)
	w.finds(health.ReasonInstanceStatusImpaired, v1alpha1.SeverityFatal)
	w.finds(health.ReasonSystemStatusImpaired, v1alpha1.SeverityFatal)
	found := w.finds(health.ReasonScheduledMaintenance, v1alpha1.SeverityWarning)
	require.Equal(t, "instance-retirement", found.Subject, "an event that is over is none")
	require.Contains(t, found.Message, "not before 2030-01-31T18:00:00Z")

	// Karpenter has ended an instance for its status: both act.
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "unhealthy"},
		InvolvedObject: corev1.ObjectReference{Kind: "NodeClaim", Name: "gone"},
		Reason:         "InstanceUnhealthy", LastTimestamp: metav1.Now(),
	}
	require.NoError(t, shared.Create(w.ctx, event))
	t.Cleanup(func() { _ = shared.Client.Delete(t.Context(), event) })
	w.eventually("the NodeHealth says that both act", func() error {
		got := &v1alpha1.NodeHealth{}
		if err := shared.Client.Get(w.ctx, client.ObjectKey{Name: w.node}, got); err != nil {
			return err
		}
		source, _ := lo.Find(got.Sources, func(s v1alpha1.Source) bool { return s.Name == ec2.Source })
		for _, words := range []string{"Karpenter itself deletes instances", "as it did with NodeClaim gone", "take ec2:DescribeInstanceStatus from Karpenter's role"} {
			if source.State != v1alpha1.SourceDegraded || !strings.Contains(source.Message, words) {
				return fmt.Errorf("it says %s: %s", source.State, source.Message)
			}
		}
		return nil
	})
	w.says(metav1.ConditionFalse, "InstanceStatusImpaired", "SystemStatusImpaired") // what it found holds
}

func TestAPermissionThatIsMissingIsSaidAndIsNoOutage(t *testing.T) {
	w := begin(t, "denied")
	long := time.Now().Add(-time.Hour)
	w.aws.Impair(fakeaws.Check{Instance: w.instance, Kind: "ebs", Name: "reachability", Since: long})
	w.says(metav1.ConditionFalse)
	w.aws.Fail(ec2.Permission, "UnauthorizedOperation")
	w.says(metav1.ConditionUnknown, "AWS denies ec2:DescribeInstanceStatus: add it to the role")
	w.aws.Fail(ec2.Permission, "")
	w.says(metav1.ConditionFalse, "AttachedEBSStatusImpaired")
	require.False(t, w.program.Ended(), "it goes on asking")
}

func TestThrottlingChangesNothing(t *testing.T) {
	w := begin(t, "slow")
	w.aws.Impair(fakeaws.Check{Instance: w.instance, Kind: "ebs", Name: "reachability", Since: time.Now().Add(-time.Hour)})
	before := w.finds(health.ReasonAttachedEBSStatusImpaired, v1alpha1.SeverityFatal)
	w.aws.Fail(ec2.Permission, "RequestLimitExceeded")
	asked := w.aws.Calls()[ec2.Permission]
	w.eventually("it has asked in vain, more than once", func() error {
		if now := w.aws.Calls()[ec2.Permission]; now < asked+3 {
			return fmt.Errorf("%d times", now-asked)
		}
		return nil
	})
	require.Equal(t, before, w.finds(health.ReasonAttachedEBSStatusImpaired, v1alpha1.SeverityFatal))
	w.aws.Fail(ec2.Permission, "")
	w.aws.Impair()
	w.says(metav1.ConditionTrue)
}

func TestInstancesOfOthersAreNobodysNodes(t *testing.T) {
	w := begin(t, "many")
	long := time.Now().Add(-time.Hour)
	var checks []fakeaws.Check
	for i := range 5000 {
		checks = append(checks, fakeaws.Check{Instance: fmt.Sprintf("i-0%016x", i), Kind: "ebs", Name: "reachability", Since: long})
	}
	// Ours is on the last of six pages.
	w.aws.Impair(append(checks, fakeaws.Check{Instance: w.instance, Kind: "ebs", Name: "reachability", Since: long})...)
	w.finds(health.ReasonAttachedEBSStatusImpaired, v1alpha1.SeverityFatal)
	healths := &v1alpha1.NodeHealthList{}
	require.NoError(t, shared.Client.List(w.ctx, healths))
	for _, h := range healths.Items {
		require.Contains(t, h.Name, "ip-", "only our Nodes have a NodeHealth")
	}
}

func TestRepairsWaitInAZoneThatIsShiftedAwayFrom(t *testing.T) {
	w := begin(t, "shift", "--cluster-arn="+clusterARN)
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	w.aws.Shift(
		fakeaws.Shift{ZoneID: "use1-az1", Comment: "power", Until: until},
		fakeaws.Shift{ZoneID: "use1-az6", Until: until}, // the cluster has nothing there
	)
	pause := &v1alpha1.RepairPause{}
	w.eventually("there is a RepairPause for the zone", func() error {
		return shared.Client.Get(w.ctx, client.ObjectKey{Name: "zonal-shift-use1-az1"}, pause)
	})
	require.Equal(t, v1alpha1.RepairPauseSpec{
		Zones: []string{"us-east-1a"}, Until: until.UTC().Format(time.RFC3339), Reason: "ARC zonal shift away from use1-az1: power",
	}, pause.Spec)

	policy := cluster.RepairPolicy("pool")
	require.NoError(t, shared.Create(w.ctx, policy))
	t.Cleanup(func() { _ = shared.Client.Delete(t.Context(), policy) })
	w.aws.Impair(fakeaws.Check{Instance: w.instance, Kind: "ebs", Name: "reachability", Since: time.Now().Add(-time.Hour)})
	w.condition("autorepair.sh/RepairBlocked", metav1.ConditionTrue, `repairs in zone us-east-1a are stopped by RepairPause "zonal-shift-use1-az1" until `)

	w.aws.Shift()
	w.eventually("the RepairPause is gone with the shift", func() error {
		pauses := &v1alpha1.RepairPauseList{}
		if err := shared.Client.List(w.ctx, pauses); err != nil {
			return err
		}
		if len(pauses.Items) > 0 {
			return fmt.Errorf("there is %s", pauses.Items[0].Name)
		}
		return nil
	})
	w.aws.Shift(fakeaws.Shift{ZoneID: "use1-az1"}) // an autoshift has no end
	w.eventually("there is a RepairPause for the autoshift, which ends by itself", func() error {
		if err := shared.Client.Get(w.ctx, client.ObjectKey{Name: "zonal-shift-use1-az1"}, pause); err != nil {
			return err
		}
		if pause.Spec.Until == "" {
			return fmt.Errorf("it has no end")
		}
		return nil
	})
	w.aws.Shift()
	w.eventually("it is gone too", func() error {
		if err := shared.Client.Get(w.ctx, client.ObjectKey{Name: "zonal-shift-use1-az1"}, pause); client.IgnoreNotFound(err) == nil && err != nil {
			return nil
		}
		return fmt.Errorf("it is there")
	})
	require.Equal(t, permitted(t), slices.Sorted(maps.Keys(w.aws.Calls())), "the IAM policy allows the calls that were made, and no more")
}

// permitted are the actions of the IAM policy.
func permitted(t *testing.T) []string {
	t.Helper()
	text, err := ec2.Policy(clusterARN)
	require.NoError(t, err)
	var policy struct{ Statement []ec2.Statement }
	require.NoError(t, json.Unmarshal(text, &policy))
	actions := lo.FlatMap(policy.Statement, func(s ec2.Statement, _ int) []string { return s.Action })
	slices.Sort(actions)
	return actions
}

// An agent that was taken over may not make a volume look impaired, nor take away what says so.
func TestTheAdmissionPolicyKnowsWhatSpeaksForAWS(t *testing.T) {
	suite.Need(t)
	rendered, err := cluster.RenderChart(t.Context())
	require.NoError(t, err)
	policy, found := lo.Find(rendered, func(o *unstructured.Unstructured) bool { return o.GetKind() == "ValidatingAdmissionPolicy" })
	require.True(t, found)
	text := fmt.Sprint(policy.Object)
	require.Contains(t, text, "'"+ec2.Source+"'")
	require.Contains(t, text, "'"+instancestatus.FieldManager+"'")
}
