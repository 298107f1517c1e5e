package cli

import (
	"context"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// Wanted says what of a cluster a command needs beside the NodePools, NodeClaims, Nodes and our own kinds.
type Wanted struct {
	// Pods of the sick nodes, and PodDisruptionBudgets: what a decision needs, and a summary does not.
	Pods bool
	// Karpenter: its version and settings.
	Karpenter bool
}

// Load reads the fleet from the cluster, all lists at once. What cannot be read is a Gap; an error means that nothing
// can be said at all: the cluster does not answer, or Karpenter's or our kinds are not there.
func (o *Options) Load(ctx context.Context, cluster *Cluster, wanted Wanted) (*Fleet, error) {
	fleet := &Fleet{}
	reads := []read{
		{"nodeclaims.karpenter.sh", func(ctx context.Context) error {
			return listAll(ctx, cluster, &karpv1.NodeClaimList{}, func(l *karpv1.NodeClaimList) { fleet.NodeClaims = l.Items })
		}},
		{"nodepools.karpenter.sh", func(ctx context.Context) error {
			return listAll(ctx, cluster, &karpv1.NodePoolList{}, func(l *karpv1.NodePoolList) { fleet.NodePools = l.Items })
		}},
		{"nodes", func(ctx context.Context) error {
			return listAll(ctx, cluster, &corev1.NodeList{}, func(l *corev1.NodeList) { fleet.Nodes = l.Items })
		}},
		{"nodehealths.autorepair.sh", func(ctx context.Context) error {
			return listAll(ctx, cluster, &v1alpha1.NodeHealthList{}, func(l *v1alpha1.NodeHealthList) { fleet.Health = l.Items })
		}},
		{"noderepairs.autorepair.sh", func(ctx context.Context) error {
			return listAll(ctx, cluster, &v1alpha1.NodeRepairList{}, func(l *v1alpha1.NodeRepairList) { fleet.Repairs = l.Items })
		}},
		{"repairpolicies.autorepair.sh", func(ctx context.Context) error {
			return listAll(ctx, cluster, &v1alpha1.RepairPolicyList{}, func(l *v1alpha1.RepairPolicyList) { fleet.Policies = l.Items })
		}},
		{"repairpauses.autorepair.sh", func(ctx context.Context) error {
			return listAll(ctx, cluster, &v1alpha1.RepairPauseList{}, func(l *v1alpha1.RepairPauseList) { fleet.Pauses = l.Items })
		}},
	}
	if wanted.Pods {
		reads = append(reads, read{"poddisruptionbudgets.policy", func(ctx context.Context) error {
			return listAll(ctx, cluster, &policyv1.PodDisruptionBudgetList{}, func(l *policyv1.PodDisruptionBudgetList) { fleet.Budgets = l.Items })
		}})
	}
	if wanted.Karpenter {
		reads = append(reads, read{"deployments.apps", func(ctx context.Context) error { return discover(ctx, cluster, fleet) }})
	}
	gaps, err := readAll(ctx, cluster.Server, reads)
	if err != nil {
		return nil, err
	}
	if wanted.Pods {
		more, err := readAll(ctx, cluster.Server, []read{{"pods", func(ctx context.Context) error { return fleet.readPods(ctx, cluster) }}})
		if err != nil {
			return nil, err
		}
		gaps = append(gaps, more...)
	}
	fleet.Gaps, fleet.Now = gaps, o.Clock.Now()
	return fleet, nil
}

// read is one list of many.
type read struct {
	resource string
	do       func(context.Context) error
}

// readAll does all reads at once. The gaps are in the order of the reads.
func readAll(ctx context.Context, server string, reads []read) ([]Gap, error) {
	errs := make([]error, len(reads))
	var group errgroup.Group
	for i, r := range reads {
		group.Go(func() error {
			errs[i] = r.do(ctx)
			return nil
		})
	}
	_ = group.Wait()
	var gaps []Gap
	for i, err := range errs {
		gap, err := gapOf(server, reads[i].resource, err)
		if err != nil {
			return nil, err
		}
		if gap != nil {
			gaps = append(gaps, *gap)
		}
	}
	return gaps, nil
}

// fromCache lets the API server answer from its cache, as it answers controllers: the newest that it has seen, without a
// read of its store.
var fromCache = &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}}

func listAll[L client.ObjectList](ctx context.Context, reader client.Reader, list L, keep func(L)) error {
	if err := reader.List(ctx, list, fromCache); err != nil {
		return err //nolint:wrapcheck // gapOf says what was listed
	}
	keep(list)
	return nil
}

// discover finds out which Karpenter the cluster runs.
func discover(ctx context.Context, reader client.Reader, fleet *Fleet) error {
	discovery := snapshot.NewDiscovery(reader, snapshot.Overrides{})
	fleet.Karpenter = discovery.Karpenter()
	found, _, err := discovery.Discover(ctx)
	if err != nil {
		return err //nolint:wrapcheck // gapOf says what was read
	}
	fleet.Karpenter = found.Karpenter
	return nil
}

// manySick is the number of sick nodes from which one list of all pods is cheaper than a list for each node.
const manySick = 50

// readPods reads the pods of all nodes with a Fatal finding.
func (f *Fleet) readPods(ctx context.Context, reader client.Reader) error {
	sick := sets.New[string]()
	for i := range f.Health {
		for _, finding := range f.Health[i].Findings {
			if finding.Severity == v1alpha1.SeverityFatal {
				sick.Insert(f.Health[i].Name)
			}
		}
	}
	if len(sick) > manySick {
		return listAll(ctx, reader, &corev1.PodList{}, func(l *corev1.PodList) {
			for _, pod := range l.Items {
				if sick.Has(pod.Spec.NodeName) {
					f.Pods = append(f.Pods, pod)
				}
			}
		})
	}
	names := sets.List(sick)
	pods := make([][]corev1.Pod, len(names))
	group, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		group.Go(func() error {
			list := &corev1.PodList{}
			if err := reader.List(ctx, list, client.MatchingFields{"spec.nodeName": name}); err != nil {
				return err //nolint:wrapcheck // gapOf says what was listed
			}
			pods[i] = list.Items
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err //nolint:wrapcheck // gapOf says what was listed
	}
	for _, of := range pods {
		f.Pods = append(f.Pods, of...)
	}
	return nil
}
