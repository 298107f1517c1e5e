// Package aws proves, with the real program, the SDK's real wiring and a real API server, that what only AWS knows
// becomes findings and pauses. EC2 and ARC are an endpoint on loopback.
package aws

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	awsv1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeaws"
	"github.com/autorepair-sh/karpenter-autorepair/test/rights"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

const clusterARN = "arn:aws:eks:us-east-1:111122223333:cluster/mine"

// patience is how long an expected thing may take; generous, since the computer may be slow.
const patience = 90 * time.Second

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	// Nobody launches or deletes anything here: the NodeClaims are the tests'.
	os.Exit(suite.Run(m, cluster.Options{Name: "aws", Karpenter: "none"}, func(ctx context.Context, c *cluster.Cluster) (func(), error) {
		shared = c
		if err := c.Create(ctx, fakeaws.NodeClassCRD()); err != nil {
			return nil, err
		}
		controller, err := c.StartController(ctx)
		if err != nil {
			return nil, err
		}
		return func() { _ = controller.Stop() }, nil
	}, func(ctx context.Context, c *cluster.Cluster) error {
		return rights.CheckUnused(ctx, c, cluster.AWSServiceAccount, map[string]string{
			"create nodehealths.autorepair.sh": "the controller has made them before; it may be slower, or not run",
			"patch events in autorepair":       "told only where a lease changes hands twice within minutes",
		})
	}))
}

// world is an AWS, a program that asks it, and a NodeClaim with its Node.
type world struct {
	*testing.T
	ctx      context.Context
	aws      *fakeaws.AWS
	program  *cluster.Program
	node     string
	instance string
}

// begin makes a node in zone use1-az1, which is us-east-1a here, and starts the program.
func begin(t *testing.T, name string, args ...string) *world {
	t.Helper()
	suite.Need(t)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	w := &world{T: t, ctx: ctx, aws: fakeaws.New(), node: "ip-" + name, instance: fmt.Sprintf("i-%017x", len(name)*1000003+int(name[0]))}
	t.Cleanup(func() { w.aws.Close(); cancel() })
	w.make(w.node, w.instance)
	w.start(args...)
	return w
}

// make makes a Node and its NodeClaim.
func (w *world) make(node, instance string) {
	w.Helper()
	provider := "aws:///us-east-1a/" + instance
	labels := map[string]string{
		karpv1.NodePoolLabelKey: "pool", karpv1.NodeInitializedLabelKey: "true",
		corev1.LabelTopologyZone: "us-east-1a", awsv1.LabelTopologyZoneID: "use1-az1",
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: labels}, Spec: corev1.NodeSpec{ProviderID: provider}}
	claim := &karpv1.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "claim-" + node, Labels: labels},
		Spec: karpv1.NodeClaimSpec{
			NodeClassRef: &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"},
			Requirements: []karpv1.NodeSelectorRequirementWithMinValues{{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}}},
		},
	}
	require.NoError(w, shared.Create(w.ctx, n, claim))
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for _, object := range []client.Object{claim, n} {
			if err := shared.Client.Delete(ctx, object); client.IgnoreNotFound(err) != nil {
				w.Error(err)
			}
		}
	})
	require.NoError(w, shared.SetNodeCondition(w.ctx, node, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}))
	claim.Status.ProviderID, claim.Status.NodeName = provider, node
	require.NoError(w, shared.Client.Status().Update(w.ctx, claim))
}

func (w *world) start(args ...string) {
	w.Helper()
	var err error
	w.program, err = shared.StartControllerAWS(w.ctx, w.aws.Env(), append([]string{"--interval=10s"}, args...)...)
	require.NoError(w, err)
	w.Cleanup(func() {
		if w.Failed() {
			text, _ := os.ReadFile(w.program.Log)
			w.Logf("the program's log:\n%s", text[max(0, len(text)-3000):])
		}
		if err := w.program.Stop(); err != nil {
			w.Error(err)
		}
	})
}

func (w *world) eventually(what string, check func() error) {
	w.Helper()
	suite.Within(w.ctx, w, patience, what, check)
}

// finds waits for a finding about the node, of a severity.
func (w *world) finds(reason string, severity v1alpha1.Severity) v1alpha1.Finding {
	w.Helper()
	var found v1alpha1.Finding
	w.eventually(fmt.Sprintf("the NodeHealth has %s (%s)", reason, severity), func() error {
		health := &v1alpha1.NodeHealth{}
		if err := shared.Client.Get(w.ctx, client.ObjectKey{Name: w.node}, health); err != nil {
			return err
		}
		for _, f := range health.Findings {
			if f.Reason == reason && f.Severity == severity {
				found = f
				return nil
			}
		}
		return fmt.Errorf("it has %+v", health.Findings)
	})
	return found
}

// says waits until the NodeClaim's condition InstanceReady is so, with these words in its message.
func (w *world) says(status metav1.ConditionStatus, words ...string) {
	w.Helper()
	w.condition("autorepair.sh/InstanceReady", status, words...)
}

func (w *world) condition(kind string, status metav1.ConditionStatus, words ...string) {
	w.Helper()
	w.eventually(fmt.Sprintf("the NodeClaim says that %s is %s with %q", kind, status, words), func() error {
		claim := &karpv1.NodeClaim{}
		if err := shared.Client.Get(w.ctx, client.ObjectKey{Name: "claim-" + w.node}, claim); err != nil {
			return err
		}
		for _, c := range claim.Status.Conditions {
			if c.Type != kind {
				continue
			}
			for _, word := range words {
				if !strings.Contains(c.Reason+" "+c.Message, word) {
					return fmt.Errorf("it says %s %s: %s", c.Status, c.Reason, c.Message)
				}
			}
			if string(c.Status) == string(status) {
				return nil
			}
			return fmt.Errorf("it says %s %s: %s", c.Status, c.Reason, c.Message)
		}
		return errors.New("it says nothing of it")
	})
}
