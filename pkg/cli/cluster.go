package cli

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
)

// Cluster is the cluster that a command speaks of.
type Cluster struct {
	client.WithWatch
	// Server is its address, for messages; empty where there is none.
	Server string
	// config to connect anew; nil where the cluster is not a real one.
	config *rest.Config
}

// Connect gives the client of the cluster that the flags name. Nothing is asked of the cluster yet.
func (o *Options) Connect() (*Cluster, error) { return o.connect(o) }

func connect(o *Options) (*Cluster, error) {
	config, err := o.Config.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("reading which cluster is meant, %w", err)
	}
	return NewCluster(config)
}

// NewCluster makes the client of a cluster. It asks for lists in parallel and never twice, so it has no limit of its own
// on how fast it may ask; the API server's fairness has.
func NewCluster(config *rest.Config) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	types := scheme.New()
	kube, err := client.NewWithWatch(config, client.Options{Scheme: types, Mapper: mapper(types)})
	if err != nil {
		return nil, fmt.Errorf("connecting to %s, %w", config.Host, err)
	}
	return &Cluster{WithWatch: kube, Server: config.Host, config: config}, nil
}

// mapper knows the resources of our kinds without asking the API server, which would be a request for each group. A
// kind that the cluster lacks then shows when it is listed.
func mapper(types *runtime.Scheme) meta.RESTMapper {
	out := meta.NewDefaultRESTMapper(nil)
	for kind := range types.AllKnownTypes() {
		scope := meta.RESTScopeNamespace
		if clusterScoped[kind.GroupKind()] {
			scope = meta.RESTScopeRoot
		}
		out.Add(kind, scope)
	}
	return out
}

// clusterScoped are those of our kinds that are in no namespace.
var clusterScoped = map[schema.GroupKind]bool{
	{Kind: "Node"}: true,
	{Group: "authentication.k8s.io", Kind: "SelfSubjectReview"}:       true,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: true,
	{Group: "karpenter.sh", Kind: "NodePool"}:                         true,
	{Group: "karpenter.sh", Kind: "NodeClaim"}:                        true,
	{Group: "autorepair.sh", Kind: "NodeHealth"}:                      true,
	{Group: "autorepair.sh", Kind: "NodeRepair"}:                      true,
	{Group: "autorepair.sh", Kind: "RepairPause"}:                     true,
	{Group: "autorepair.sh", Kind: "RepairPolicy"}:                    true,
}
