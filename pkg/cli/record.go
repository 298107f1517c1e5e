package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/recording"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// record writes what decisions about the cluster rest on into a file that only its owner reads.
func (o *Options) record(ctx context.Context, path string) error {
	cluster, err := o.Connect()
	if err != nil {
		return err
	}
	fleet, err := o.Load(ctx, cluster, Wanted{Pods: true, Controller: true})
	if err != nil {
		return err
	}
	p := &picture{Fleet: fleet}
	if err := p.enough(); err != nil {
		return err
	}
	karpenter, err := p.karpenterObjects(ctx, cluster)
	if err != nil {
		return err
	}
	objects := append(p.objects(), karpenter...)
	o.tell(p)
	if path == stdin {
		return recording.Write(o.Out, objects) //nolint:wrapcheck // says what was written
	}
	if err := writeRecording(path, objects); err != nil {
		return err
	}
	fmt.Fprintf(o.ErrOut, "%d objects are recorded in %s; to look at them as they stand now:\n  %s simulate -f %s --now %s\n",
		len(objects), path, commandName, path, stamp(fleet.Now))
	return nil
}

func writeRecording(path string, objects []client.Object) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // says the path
	}
	return errors.Join(recording.Write(file, objects), file.Close())
}

// objects of the fleet, in the order in which they are written.
func (p *picture) objects() []client.Object {
	var out []client.Object
	out = append(out, pointers(p.NodePools)...)
	out = append(out, pointers(p.NodeClaims)...)
	out = append(out, pointers(p.Nodes)...)
	out = append(out, pointers(p.Health)...)
	out = append(out, pointers(p.Policies)...)
	out = append(out, pointers(p.Pauses)...)
	out = append(out, pointers(p.Repairs)...)
	out = append(out, pointers(p.Budgets)...)
	out = append(out, pointers(p.Pods)...)
	if c := p.Controller; c != nil {
		out = append(out, c.lease())
	}
	return out
}

// pointers gives the objects of a list of an API.
func pointers[T any, O interface {
	*T
	client.Object
}](items []T) []client.Object {
	out := make([]client.Object, 0, len(items))
	for i := range items {
		out = append(out, O(&items[i]))
	}
	return out
}

// lease is that by which the state is told.
func (c *ControllerState) lease() client.Object {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: v1alpha1.LeaseName}}
	if c.Holder != "" {
		lease.Spec.HolderIdentity = &c.Holder
	}
	if !c.Renewed.IsZero() {
		lease.Spec.RenewTime = &metav1.MicroTime{Time: c.Renewed.Time}
	}
	return lease
}

// karpenterObjects are those by which the Karpenter of the cluster is known. What may not be read is a gap.
func (p *picture) karpenterObjects(ctx context.Context, cluster *Cluster) ([]client.Object, error) {
	deployments := &appsv1.DeploymentList{}
	err := cluster.List(ctx, deployments, snapshot.KarpenterLabel)
	if err := p.gap(cluster, "deployments.apps", err); err != nil {
		return nil, err
	}
	out := pointers(deployments.Items)
	for _, name := range snapshot.KarpenterDefinitions {
		definition := &apiextensionsv1.CustomResourceDefinition{}
		err := cluster.Get(ctx, client.ObjectKey{Name: name}, definition)
		if err == nil {
			out = append(out, definition)
			continue
		}
		if err := p.gap(cluster, "customresourcedefinitions.apiextensions.k8s.io", err); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// gap notes what could not be read; an error means that nothing can be said at all.
func (p *picture) gap(cluster *Cluster, resource string, err error) error {
	gap, err := gapOf(cluster.Server, resource, err)
	if gap != nil {
		p.Gaps = append(p.Gaps, *gap)
	}
	return err
}
