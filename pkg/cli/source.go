package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// source says where a command that thinks as the controller does gets its fleet from, and what the controller is told by
// its flags.
type source struct {
	files     []string
	recursive bool
	now       string

	karpenterVersion, karpenterNodeRepair string
	rebootProviders                       []string
}

// assumedKarpenter is taken where files tell nothing of the Karpenter beside: the oldest that is known to leave our nodes
// to us and to reboot.
var assumedKarpenter = decision.Karpenter{Version: "1.15.0", HonoursDoNotRepair: true, RebootSupported: true}

func (s *source) addFlags(flags *pflag.FlagSet) {
	flags.StringSliceVarP(&s.files, "filename", "f", nil, "files or directories (of .yaml, .yml and .json) to look at instead of the cluster; - for standard input")
	flags.BoolVarP(&s.recursive, "recursive", "R", false, "look into the directories of directories too")
	flags.StringVar(&s.now, "now", "", "the time at which to look, for example 2030-01-31T18:00:00Z (default: the clock)")
	flags.StringVar(&s.karpenterVersion, "karpenter-version", "", "version of Karpenter, as the controller's flag of that name (default: by its Deployment)")
	flags.StringVar(&s.karpenterNodeRepair, "karpenter-node-repair", "auto", "whether Karpenter's feature gate NodeRepair is on, as the controller's flag of that name: true, false or auto")
	flags.StringSliceVar(&s.rebootProviders, "reboot-providers", nil, "API groups of the node classes whose provider reboots, as the controller's flag of that name")
}

// overrides are what the flags say about Karpenter.
func (s *source) overrides() (snapshot.Overrides, error) {
	return snapshot.ReadOverrides(s.karpenterVersion, cmp.Or(s.karpenterNodeRepair, "auto"), s.rebootProviders) //nolint:wrapcheck // says all there is to say
}

// at reads --now.
func (o *Options) at(now string) (time.Time, error) {
	if now == "" {
		return o.Clock.Now(), nil
	}
	at, err := time.Parse(time.RFC3339, now)
	if err != nil {
		return time.Time{}, fmt.Errorf("--now=%q is no time: write for example 2030-01-31T18:00:00Z", now)
	}
	return at, nil
}

// picture is a fleet, the objects that tell of its Karpenter, and what there is to know about how it was got.
type picture struct {
	*Fleet
	warnings []string
}

// look gets the fleet from the files, or else from the cluster.
func (o *Options) look(ctx context.Context, s *source) (*picture, error) {
	overrides, err := s.overrides()
	if err != nil {
		return nil, err
	}
	now, err := o.at(s.now)
	if err != nil {
		return nil, err
	}
	if len(s.files) > 0 {
		return o.lookAtFiles(ctx, s, overrides, now)
	}
	cluster, err := o.Connect()
	if err != nil {
		return nil, err
	}
	fleet, err := o.Load(ctx, cluster, Wanted{Pods: true, Controller: true})
	if err != nil {
		return nil, err
	}
	if s.now != "" {
		fleet.Now = now
	}
	p := &picture{Fleet: fleet}
	p.RebootProviders = overrides.RebootProviders
	return p, p.discoverLive(ctx, cluster, overrides)
}

// discoverLive finds out about Karpenter from the cluster. Who may not look is told what is assumed: few may read the
// Deployments of a namespace that is not theirs, and the controller may.
func (p *picture) discoverLive(ctx context.Context, cluster *Cluster, overrides snapshot.Overrides) error {
	err := p.discover(ctx, cluster, overrides)
	if !apierrors.IsForbidden(err) {
		return p.gap(cluster, "deployments.apps", err)
	}
	if err := p.discover(ctx, aboutKarpenter{}, overrides); err != nil {
		return err
	}
	p.warnings = nil
	if overrides.OwnRepair == nil || overrides.Version == "" {
		p.Karpenter.OwnRepair = overrides.OwnRepair != nil && *overrides.OwnRepair
		p.warnings = []string{"you may not read the Deployments and CustomResourceDefinitions of Karpenter, so Karpenter is taken to be of " +
			orUnknown(overrides.Version) + " that does not repair nodes itself: say --karpenter-version and --karpenter-node-repair"}
	}
	return nil
}

func orUnknown(version string) string {
	if version == "" {
		return "an unknown version"
	}
	return "version " + version
}

// discover finds out about Karpenter as the controller does.
func (p *picture) discover(ctx context.Context, reader client.Reader, overrides snapshot.Overrides) error {
	discovery := snapshot.NewDiscovery(reader, overrides)
	p.Karpenter = discovery.Karpenter()
	found, _, err := discovery.Discover(ctx)
	if err != nil {
		return err //nolint:wrapcheck // gapOf says what was read
	}
	p.Karpenter = found.Karpenter
	if found.OwnRepairAssumed && !found.HonoursDoNotRepair {
		p.warnings = append(p.warnings, "nothing tells whether Karpenter repairs nodes itself, so it is taken to do so, as the controller takes it: say --karpenter-node-repair=false if it does not")
	}
	return nil
}

// aboutKarpenter lets Discovery read what files tell of Karpenter.
type aboutKarpenter struct {
	client.Reader // nil: nothing else is asked for
	deployments   []appsv1.Deployment
	definitions   []apiextensionsv1.CustomResourceDefinition
}

// List gives the Deployments.
func (a aboutKarpenter) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	into, ok := list.(*appsv1.DeploymentList)
	if !ok {
		return fmt.Errorf("files tell no %T of Karpenter", list)
	}
	into.Items = a.deployments
	return nil
}

// Get gives a CustomResourceDefinition.
func (a aboutKarpenter) Get(ctx context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	into, ok := object.(*apiextensionsv1.CustomResourceDefinition)
	if ok {
		for i := range a.definitions {
			if a.definitions[i].Name == key.Name {
				*into = a.definitions[i]
				return nil
			}
		}
	}
	return shelf{}.Get(ctx, key, object)
}

// workloads are what a decision can do without: then it says that it could not be read.
var workloads = []string{"pods", "poddisruptionbudgets.policy"}

// enough says what must be readable for a decision to mean anything.
func (p *picture) enough() error {
	for _, gap := range p.Gaps {
		if gap.Resource != "deployments.apps" && !slices.Contains(workloads, gap.Resource) {
			return fmt.Errorf("nothing can be decided without it: %s", gap.Problem)
		}
	}
	return nil
}

// input gives what the decision rests on. Where the pods may not be read, each sick node says so.
func (p *picture) input(ctx context.Context) (decision.Input, error) {
	if err := p.enough(); err != nil {
		return decision.Input{}, err
	}
	in, err := p.Input(ctx)
	if err != nil {
		return in, err
	}
	for _, gap := range p.Gaps {
		for i := range in.Nodes {
			if slices.Contains(workloads, gap.Resource) && len(in.Nodes[i].Verdict.Judgements) > 0 {
				in.Nodes[i].Unreadable = append(in.Nodes[i].Unreadable, gap.Problem)
			}
		}
	}
	return in, nil
}

// tell says on standard error what could not be read and what was left out.
func (o *Options) tell(p *picture) {
	o.TellGaps(p.Fleet)
	for _, warning := range p.warnings {
		fmt.Fprintln(o.ErrOut, o.colours().paint(yellow, "Warning:"), printable(warning))
	}
}
