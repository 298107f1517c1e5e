package instancestatus

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodehealth"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/ec2"
)

// FieldManager owns our entries in a NodeHealth.
const FieldManager = "autorepair.sh/ec2"

// Heartbeats: a healthy instance's is rare, so that 5,000 nodes cost the API server 6 writes a second; an impaired one's
// is as an agent's, so that a fault which nobody sees any more is soon not believed.
const (
	heartbeatHealthy  = 15 * time.Minute
	heartbeatImpaired = 5 * time.Minute
)

// standing is the NodeHealth of this Node; nil where there is none, or it is about an earlier Node of the same name.
func (c *Controller) standing(ctx context.Context, node *corev1.Node) (*v1alpha1.NodeHealth, error) {
	found := &v1alpha1.NodeHealth{}
	if err := c.kubeClient.Get(ctx, client.ObjectKeyFromObject(node), found); err != nil {
		return nil, client.IgnoreNotFound(err) //nolint:wrapcheck // the NodeHealth is named by the caller
	}
	if !nodehealth.SpeaksOf(found, node) {
		return nil, nil //nolint:nilnil // as documented
	}
	return found, nil
}

func ownFindings(standing *v1alpha1.NodeHealth) []v1alpha1.Finding {
	if standing == nil {
		return nil
	}
	return lo.Filter(standing.Findings, func(f v1alpha1.Finding, _ int) bool { return f.Source == ec2.Source })
}

func ownSource(standing *v1alpha1.NodeHealth) *v1alpha1.Source {
	for i := range standing.Sources {
		if standing.Sources[i].Name == ec2.Source {
			return &standing.Sources[i]
		}
	}
	return nil
}

// unchanged says that our entries stand as they should, but for the heartbeat.
func unchanged(standing *v1alpha1.NodeHealth, source v1alpha1.Source, findings []v1alpha1.Finding) bool {
	own := ownSource(standing)
	return own != nil && own.State == source.State && own.Message == source.Message && equality.Semantic.DeepEqual(ownFindings(standing), findings)
}

// beats says that it is time for a heartbeat: up to a fifth early, by the name of the Node, so that they do not all come
// at once.
func beats(standing *v1alpha1.NodeHealth, node string, now time.Time) bool {
	own := ownSource(standing)
	if own == nil || own.LastHeartbeat == nil || own.HeartbeatInterval == nil {
		return true
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(node))
	early := own.HeartbeatInterval.Duration / 5 * time.Duration(hash.Sum32()%100) / 100
	return !now.Before(own.LastHeartbeat.Add(own.HeartbeatInterval.Duration - early))
}

func withHeartbeat(source v1alpha1.Source, findings []v1alpha1.Finding, now time.Time) v1alpha1.Source {
	interval := lo.Ternary(len(findings) > 0, heartbeatImpaired, heartbeatHealthy)
	source.LastHeartbeat, source.HeartbeatInterval = new(metav1.NewTime(now.UTC().Truncate(time.Second))), &metav1.Duration{Duration: interval}
	return source
}

// apply writes the whole of what we own in the NodeHealth of a Node.
func (c *Controller) apply(ctx context.Context, node *corev1.Node, source v1alpha1.Source, findings []v1alpha1.Finding) error {
	object, err := nodehealth.Applied(node, []v1alpha1.Source{source}, findings)
	if err != nil {
		return err //nolint:wrapcheck // says all there is to say
	}
	if err := c.kubeClient.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying nodehealth %s, %w", node.Name, err)
	}
	return nil
}
