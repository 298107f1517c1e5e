package cli

import (
	"context"
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"

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
	// PodsOf is the name of a Node or NodeClaim whose pods are wanted although it is not sick.
	PodsOf string
	// Karpenter: its version and settings.
	Karpenter bool
	// Controller: whether ours is at work.
	Controller bool
}

// Load reads the fleet from the cluster, all lists at once. What cannot be read is a Gap; an error means that nothing
// can be said at all: the cluster does not answer, or Karpenter's or our kinds are not there.
func (o *Options) Load(ctx context.Context, cluster *Cluster, wanted Wanted) (*Fleet, error) {
	return o.load(ctx, cluster.Server, cluster, wanted)
}

func (o *Options) load(ctx context.Context, server string, reader client.Reader, wanted Wanted) (*Fleet, error) {
	fleet := &Fleet{unread: map[string]error{}}
	reads := fleet.reads()
	if wanted.Pods {
		reads = append(reads, listed("poddisruptionbudgets.policy", &policyv1.PodDisruptionBudgetList{}, func(l *policyv1.PodDisruptionBudgetList) { fleet.Budgets = l.Items }))
	}
	if wanted.Karpenter {
		reads = append(reads, read{resource: "deployments.apps", do: func(ctx context.Context, reader client.Reader) error { return discover(ctx, reader, fleet) }})
	}
	var lease *coordinationv1.Lease
	if wanted.Controller {
		keep := func(found *coordinationv1.Lease) { lease = found }
		reads = append(reads, read{resource: "leases.coordination.k8s.io", list: &coordinationv1.LeaseList{}, quiet: true,
			do: func(ctx context.Context, reader client.Reader) error { return readLease(ctx, reader, keep) }})
	}
	if err := fleet.readAll(ctx, server, reader, reads); err != nil {
		return nil, err
	}
	if wanted.Pods {
		also := ""
		if machine, err := fleet.Find(wanted.PodsOf); err == nil {
			also = machine.NodeName()
		}
		pods := read{resource: "pods", do: func(ctx context.Context, reader client.Reader) error { return fleet.readPods(ctx, reader, also) }}
		if err := fleet.readAll(ctx, server, reader, []read{pods}); err != nil {
			return nil, err
		}
	}
	fleet.Now = o.Clock.Now()
	fleet.Controller = controllerState(lease, fleet.Now)
	return fleet, nil
}

// read is one read of many.
type read struct {
	resource string
	// list is of the type that is listed; nil where it is not one list.
	list client.ObjectList
	do   func(context.Context, client.Reader) error
	// quiet reads are not missed where they are refused.
	quiet bool
}

// reads are what every command wants.
func (f *Fleet) reads() []read {
	return []read{
		listed("nodeclaims.karpenter.sh", &karpv1.NodeClaimList{}, func(l *karpv1.NodeClaimList) { f.NodeClaims = l.Items }),
		listed("nodepools.karpenter.sh", &karpv1.NodePoolList{}, func(l *karpv1.NodePoolList) { f.NodePools = l.Items }),
		listed("nodes", &corev1.NodeList{}, func(l *corev1.NodeList) { f.Nodes = l.Items }),
		listed("nodehealths.autorepair.sh", &v1alpha1.NodeHealthList{}, func(l *v1alpha1.NodeHealthList) { f.Health = l.Items }),
		listed("noderepairs.autorepair.sh", &v1alpha1.NodeRepairList{}, func(l *v1alpha1.NodeRepairList) { f.Repairs = l.Items }),
		listed("repairpolicies.autorepair.sh", &v1alpha1.RepairPolicyList{}, func(l *v1alpha1.RepairPolicyList) { f.Policies = l.Items }),
		listed("repairpauses.autorepair.sh", &v1alpha1.RepairPauseList{}, func(l *v1alpha1.RepairPauseList) { f.Pauses = l.Items }),
	}
}

func listed[L client.ObjectList](resource string, list L, keep func(L)) read {
	return read{resource: resource, list: list, do: func(ctx context.Context, reader client.Reader) error {
		return listAll(ctx, reader, list, keep)
	}}
}

// readAll does all reads at once. The gaps are in the order of the reads.
func (f *Fleet) readAll(ctx context.Context, server string, reader client.Reader, reads []read) error {
	errs := make([]error, len(reads))
	var group errgroup.Group
	for i, r := range reads {
		group.Go(func() error {
			errs[i] = r.do(ctx, reader)
			return nil
		})
	}
	_ = group.Wait()
	for i, r := range reads {
		gap, err := gapOf(server, r.resource, errs[i])
		if err != nil {
			return err
		}
		if gap == nil {
			continue
		}
		f.unread[fmt.Sprintf("%T", r.list)] = errs[i]
		if !r.quiet {
			f.Gaps = append(f.Gaps, *gap)
		}
	}
	return nil
}

// cached lets the API server answer from its cache, as it answers controllers: the newest that it has seen, without a
// read of its store. The options that it makes are those of one list: the client writes into them.
type cached struct{}

// ApplyToList asks for any version.
func (cached) ApplyToList(options *client.ListOptions) {
	options.Raw = &metav1.ListOptions{ResourceVersion: "0"}
}

var fromCache cached

func listAll[L client.ObjectList](ctx context.Context, reader client.Reader, list L, keep func(L)) error {
	if err := reader.List(ctx, list, fromCache); err != nil {
		return err //nolint:wrapcheck // gapOf says what was listed
	}
	keep(list)
	return nil
}

// discover finds out which Karpenter the cluster runs. Where that does not show, as where it runs outside of the cluster,
// it is taken not to repair nodes itself: our controller may have been told so, and says on the NodeClaims if it was not.
func discover(ctx context.Context, reader client.Reader, fleet *Fleet) error {
	fleet.KarpenterAssumed = true
	found, _, err := snapshot.NewDiscovery(reader, snapshot.Overrides{}).Discover(ctx)
	if err != nil {
		return err //nolint:wrapcheck // gapOf says what was read
	}
	fleet.Karpenter, fleet.KarpenterAssumed = found.Karpenter, found.OwnRepairAssumed
	if found.OwnRepairAssumed {
		fleet.Karpenter.OwnRepair = false
	}
	return nil
}

// manySick is the number of sick nodes from which one list of all pods is cheaper than a list for each node.
const manySick = 50

// readPods reads the pods of all nodes with a Fatal finding, and of one more, if it is named.
func (f *Fleet) readPods(ctx context.Context, reader client.Reader, also string) error {
	sick := sets.New[string]()
	if also != "" {
		sick.Insert(also)
	}
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

// loadRepairs reads the NodeRepairs and nothing else.
func (o *Options) loadRepairs(ctx context.Context, cluster *Cluster) (*Fleet, error) {
	fleet := &Fleet{unread: map[string]error{}}
	repairs := listed("noderepairs.autorepair.sh", &v1alpha1.NodeRepairList{}, func(l *v1alpha1.NodeRepairList) { fleet.Repairs = l.Items })
	if err := fleet.readAll(ctx, cluster.Server, cluster, []read{repairs}); err != nil {
		return nil, err
	}
	fleet.Now = o.Clock.Now()
	return fleet, nil
}
