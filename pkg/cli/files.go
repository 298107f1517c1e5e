package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/recording"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// extensions of the files that are read of a directory, as kubectl reads them.
var extensions = []string{".yaml", ".yml", ".json"}

// stdin stands for standard input among files.
const stdin = "-"

// lookAtFiles gets the fleet from files.
func (o *Options) lookAtFiles(ctx context.Context, s *source, overrides snapshot.Overrides, now time.Time) (*picture, error) {
	reading, err := o.read(s.files, s.recursive) //nolint:contextcheck // rules are reckoned, which nothing has to end
	if err != nil {
		return nil, err
	}
	p := &picture{Fleet: &Fleet{Now: now}, warnings: reading.Warnings()}
	about := p.take(reading.Objects())
	p.RebootProviders = overrides.RebootProviders
	if err := p.assume(ctx, about, overrides); err != nil {
		return nil, err
	}
	p.warnings = append(p.warnings, p.missing()...)
	p.warnings = append(p.warnings, p.distance()...)
	return p, nil
}

// read reads files and directories.
func (o *Options) read(paths []string, recursive bool) (*recording.Reading, error) {
	reading := recording.NewReading()
	for _, path := range paths {
		if path == stdin {
			if err := reading.Read("standard input", o.In); err != nil {
				return nil, err //nolint:wrapcheck // says the place
			}
			continue
		}
		files, err := filesOf(path, recursive)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if err := readFile(reading, file); err != nil {
				return nil, err
			}
		}
	}
	return reading, nil
}

func readFile(reading *recording.Reading, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err //nolint:wrapcheck // says the path
	}
	return errors.Join(reading.Read(path, file), file.Close())
}

// filesOf gives the files of a path, sorted: itself, or those of a directory that have one of the extensions.
func filesOf(path string, recursive bool) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // says the path
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var out []string
	err = filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != path && !recursive:
			return fs.SkipDir
		case !entry.IsDir() && slices.Contains(extensions, filepath.Ext(file)):
			out = append(out, file)
		}
		return nil
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // says the path
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no file that ends in .yaml, .yml or .json: name the files, or add --recursive for those in its directories", path)
	}
	return out, nil
}

// take sorts the objects into the fleet, and gives those that tell of Karpenter.
func (p *picture) take(objects []client.Object) aboutKarpenter {
	about := aboutKarpenter{}
	for _, object := range objects {
		switch o := object.(type) {
		case *karpv1.NodePool:
			p.NodePools = append(p.NodePools, *o)
		case *karpv1.NodeClaim:
			if o.UID == "" { // decisions tell NodeClaims apart by it, and a manifest has none
				o.UID = types.UID("nodeclaim/" + o.Name)
			}
			p.NodeClaims = append(p.NodeClaims, *o)
		case *corev1.Node:
			p.Nodes = append(p.Nodes, *o)
		case *corev1.Pod:
			p.Pods = append(p.Pods, *o)
		case *policyv1.PodDisruptionBudget:
			p.Budgets = append(p.Budgets, *o)
		case *v1alpha1.NodeHealth:
			p.Health = append(p.Health, *o)
		case *v1alpha1.NodeRepair:
			p.Repairs = append(p.Repairs, *o)
		case *v1alpha1.RepairPolicy:
			p.Policies = append(p.Policies, *o)
		case *v1alpha1.RepairPause:
			p.Pauses = append(p.Pauses, *o)
		case *coordinationv1.Lease:
			p.Controller = controllerState(o, p.Now)
		case *appsv1.Deployment:
			about.deployments = append(about.deployments, *o)
		case *apiextensionsv1.CustomResourceDefinition:
			about.definitions = append(about.definitions, *o)
		}
	}
	return about
}

// assume finds out about Karpenter from the files and the flags; where neither tells anything, a new one is assumed.
func (p *picture) assume(ctx context.Context, about aboutKarpenter, overrides snapshot.Overrides) error {
	told := len(about.deployments) > 0 || len(about.definitions) > 0 || overrides.Version != "" || overrides.OwnRepair != nil
	if told {
		return p.discover(ctx, about, overrides)
	}
	p.Karpenter = assumedKarpenter
	p.warnings = append(p.warnings, fmt.Sprintf("the files tell nothing of Karpenter (its Deployment has the label app.kubernetes.io/name=karpenter): version %s is assumed, "+
		"with its own repair off; say otherwise by --karpenter-version and --karpenter-node-repair", assumedKarpenter.Version))
	return nil
}

// missing names the kinds without which a decision says little.
func (p *picture) missing() []string {
	var out []string
	for _, kind := range []struct {
		count int
		name  string
		means string
	}{
		{len(p.NodeClaims), "NodeClaims", "there is nothing to decide about"},
		{len(p.Nodes), "Nodes", "no NodeClaim has one"},
		{len(p.NodePools), "NodePools", "no budget can be reckoned, and no NodeClaim of one is repaired"},
		{len(p.Health), "NodeHealths", "nothing is known to be sick"},
		{len(p.Policies), "RepairPolicies", "nothing is repaired"},
	} {
		if kind.count == 0 {
			out = append(out, fmt.Sprintf("no %s among the objects: %s", kind.name, kind.means))
		}
	}
	return out
}

// farAway is how old files may be before it makes a difference: sources fall silent after three heartbeats of five minutes.
const farAway = 10 * time.Minute

// distance warns where the time of the look is not that of the files.
func (p *picture) distance() []string {
	newest := p.newest()
	switch {
	case newest.IsZero():
		return nil
	case p.Now.Sub(newest) > farAway:
		return []string{fmt.Sprintf("the newest time in the files is %s, %s before the time of this look: sources may have fallen silent and tolerations ended since; "+
			"to see how things stood then add --now=%s", stamp(newest), age(p.Now, newest), stamp(newest))}
	case newest.After(p.Now.Add(time.Minute)):
		return []string{fmt.Sprintf("the files know of %s, which is after the time of this look, %s", stamp(newest), stamp(p.Now))}
	default:
		return nil
	}
}

// newest is the latest time that the objects speak of, of what happened.
func (p *picture) newest() time.Time {
	var newest time.Time
	see := func(t time.Time) {
		if t.After(newest) {
			newest = t
		}
	}
	for i := range p.Health {
		for _, source := range p.Health[i].Sources {
			if source.LastHeartbeat != nil {
				see(source.LastHeartbeat.Time)
			}
		}
		for _, finding := range p.Health[i].Findings {
			see(finding.Since.Time)
			if finding.LastObserved != nil {
				see(finding.LastObserved.Time)
			}
		}
	}
	for i := range p.Nodes {
		for _, condition := range p.Nodes[i].Status.Conditions {
			see(condition.LastHeartbeatTime.Time)
			see(condition.LastTransitionTime.Time)
		}
	}
	for i := range p.NodeClaims {
		see(p.NodeClaims[i].CreationTimestamp.Time)
		for _, condition := range p.NodeClaims[i].Status.Conditions {
			see(condition.LastTransitionTime.Time)
		}
	}
	for i := range p.Repairs {
		see(p.Repairs[i].CreationTimestamp.Time)
		for _, condition := range p.Repairs[i].Status.Conditions {
			see(condition.LastTransitionTime.Time)
		}
	}
	if p.Controller != nil {
		see(p.Controller.Renewed.Time)
	}
	return newest
}

// readPolicies reads files that hold RepairPolicies and nothing else, as the API server would store them.
func (o *Options) readPolicies(paths []string) ([]v1alpha1.RepairPolicy, []string, error) {
	reading, err := o.read(paths, false)
	if err != nil {
		return nil, nil, err
	}
	var out []v1alpha1.RepairPolicy
	for _, object := range reading.Objects() {
		policy, ok := object.(*v1alpha1.RepairPolicy)
		if !ok {
			return nil, nil, fmt.Errorf("--policy takes RepairPolicies only, and the files hold a %s %s: name it with --filename", object.GetObjectKind().GroupVersionKind().Kind, object.GetName())
		}
		out = append(out, *policy)
	}
	if len(out) == 0 {
		return nil, nil, errors.New("the files of --policy hold no RepairPolicy")
	}
	return out, reading.Warnings(), nil
}
