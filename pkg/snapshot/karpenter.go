package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/Masterminds/semver/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// KarpenterLabel is how Karpenter's chart labels its Deployment.
var KarpenterLabel = client.MatchingLabels{"app.kubernetes.io/name": "karpenter"}

// nodeClaimCRD is where the API says how it merges the conditions of a NodeClaim.
const nodeClaimCRD = "nodeclaims.karpenter.sh"

// nodePoolCRD is where the API says which disruption reasons it knows.
const nodePoolCRD = "nodepools.karpenter.sh"

// IsKarpenter says whether Discovery looks at the Deployment: Karpenter's chart labels it so.
func IsKarpenter(deployment *appsv1.Deployment) bool {
	for label, value := range KarpenterLabel {
		if deployment.Labels[label] != value {
			return false
		}
	}
	return true
}

// KarpenterDefinitions are the CustomResourceDefinitions that Discovery looks at.
var KarpenterDefinitions = []string{nodePoolCRD, nodeClaimCRD}

// repairSince is the first Karpenter with do-not-repair, budgets for Unhealthy and the Rebooting lifecycle.
var repairSince = semver.MustParse("1.15.0-0")

// Found is what is known about the Karpenter beside us, and from where.
type Found struct {
	decision.Karpenter
	// Sources say in words where each part comes from, for the log.
	Sources []string
	// OwnRepairAssumed: nothing tells whether Karpenter repairs nodes itself, so it is taken to do so, and we act only
	// where it can be kept off a node.
	OwnRepairAssumed bool
}

// Overrides are what the operator knows better than can be found out.
type Overrides struct {
	// Version of Karpenter, as "1.15.0"; empty to find out.
	Version string
	// OwnRepair says whether Karpenter's NodeRepair is on; nil to find out.
	OwnRepair *bool
	// RebootProviders in the place of those of that name; nil for those.
	RebootProviders []string
}

// Discovery finds out which Karpenter runs beside us and whether it repairs nodes itself. The newest answer is kept
// for those who ask often.
type Discovery struct {
	reader    client.Reader
	overrides Overrides

	mu    sync.RWMutex
	found Found
	// merges: the API server merges the conditions of NodeClaims by their type.
	merges bool
}

// NewDiscovery makes a Discovery that reads past the cache, and knows nothing until Discover is called.
func NewDiscovery(reader client.Reader, overrides Overrides) *Discovery {
	return &Discovery{reader: reader, overrides: overrides, found: Found{Karpenter: decision.Karpenter{OwnRepair: true}, OwnRepairAssumed: true}}
}

// SlimDeployment leaves of Karpenter's Deployment what Discovery looks at, for a recording: an environment may hold what is
// nobody's business.
func SlimDeployment(deployment *appsv1.Deployment) {
	kept := appsv1.Deployment{}
	kept.Namespace, kept.Name, kept.Labels = deployment.Namespace, deployment.Name, deployment.Labels
	kept.Spec.Selector, kept.Spec.Template.Labels = deployment.Spec.Selector, deployment.Spec.Template.Labels
	for _, container := range deployment.Spec.Template.Spec.Containers {
		slim := corev1.Container{Name: container.Name, Image: container.Image}
		for _, s := range settings {
			if value, plain := setting(&container, s.flag, s.variable); !plain {
				slim.Env = append(slim.Env, corev1.EnvVar{Name: s.variable, ValueFrom: &corev1.EnvVarSource{}})
			} else if value != "" {
				slim.Env = append(slim.Env, corev1.EnvVar{Name: s.variable, Value: value})
			}
		}
		if len(container.EnvFrom) > 0 {
			slim.EnvFrom = []corev1.EnvFromSource{{}}
		}
		kept.Spec.Template.Spec.Containers = append(kept.Spec.Template.Spec.Containers, slim)
	}
	*deployment = kept
}

// SlimDefinition leaves of a CustomResourceDefinition of Karpenter's what Discovery looks at.
func SlimDefinition(crd *apiextensionsv1.CustomResourceDefinition) {
	kept := apiextensionsv1.CustomResourceDefinition{}
	kept.Name = crd.Name
	kept.Spec.Group, kept.Spec.Names, kept.Spec.Scope = crd.Spec.Group, crd.Spec.Names, crd.Spec.Scope
	for _, version := range crd.Spec.Versions {
		slim := apiextensionsv1.CustomResourceDefinitionVersion{Name: version.Name, Served: version.Served, Storage: version.Storage}
		if version.Schema != nil && version.Schema.OpenAPIV3Schema != nil {
			slim.Schema = &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: slimSchema(version.Schema.OpenAPIV3Schema)}
		}
		kept.Spec.Versions = append(kept.Spec.Versions, slim)
	}
	*crd = kept
}

// slimSchema keeps spec.disruption.budgets[].reasons[] and status.conditions.
func slimSchema(whole *apiextensionsv1.JSONSchemaProps) *apiextensionsv1.JSONSchemaProps {
	object := func(name string, inner apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
		return apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{name: inner}}
	}
	list := func(items apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
		return apiextensionsv1.JSONSchemaProps{Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &items}}
	}
	slim := &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{}}
	if reasons := property(whole, "spec", "disruption", "budgets", "reasons"); reasons != nil {
		slim.Properties["spec"] = object("disruption", object("budgets", list(object("reasons", list(apiextensionsv1.JSONSchemaProps{
			Type: reasons.Type, Enum: reasons.Enum,
		})))))
	}
	status := whole.Properties["status"]
	if conditions, ok := status.Properties["conditions"]; ok {
		slim.Properties["status"] = object("conditions", apiextensionsv1.JSONSchemaProps{
			Type: "array", XListType: conditions.XListType, XListMapKeys: conditions.XListMapKeys,
		})
	}
	return slim
}

// Karpenter gives the newest answer.
func (d *Discovery) Karpenter() decision.Karpenter {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.found.Karpenter
}

// RebootProviders are the API groups of the node classes whose provider reboots instances in place.
func (d *Discovery) RebootProviders() []string {
	if d.overrides.RebootProviders != nil {
		return d.overrides.RebootProviders
	}
	return RebootProviders
}

// Discover looks again, and says whether the answer has changed. Where it cannot look, the answer stays.
func (d *Discovery) Discover(ctx context.Context) (Found, bool, error) {
	deployments := &appsv1.DeploymentList{}
	if err := d.reader.List(ctx, deployments, KarpenterLabel); err != nil {
		return Found{}, false, fmt.Errorf("listing deployments of karpenter, %w", err)
	}
	knowsUnhealthy, err := d.crdKnowsUnhealthy(ctx)
	if err != nil {
		return Found{}, false, err
	}
	merges, err := d.conditionsMerge(ctx)
	if err != nil {
		return Found{}, false, err
	}
	found := conclude(deployments.Items, knowsUnhealthy, d.overrides)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.merges = merges
	changed := d.found.Karpenter != found.Karpenter || d.found.OwnRepairAssumed != found.OwnRepairAssumed
	d.found = found
	return found, changed, nil
}

// ConditionsAreOneList says whether the API server takes the conditions of a NodeClaim for one list, so that who applies
// some drops all others; true until it is known to merge them by type, as with the CRDs from 1.15.
func (d *Discovery) ConditionsAreOneList() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return !d.merges
}

func (d *Discovery) conditionsMerge(ctx context.Context) (bool, error) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := d.reader.Get(ctx, types.NamespacedName{Name: nodeClaimCRD}, crd); err != nil {
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			return false, nil
		}
		return false, fmt.Errorf("getting customresourcedefinition of nodeclaims, %w", err)
	}
	for _, version := range crd.Spec.Versions {
		if version.Name != "v1" || version.Schema == nil || version.Schema.OpenAPIV3Schema == nil {
			continue
		}
		status := version.Schema.OpenAPIV3Schema.Properties["status"]
		list := status.Properties["conditions"].XListType
		return list != nil && *list == "map", nil
	}
	return false, nil
}

// crdKnowsUnhealthy says whether a NodePool's budget may name the reason Unhealthy, as from 1.15.
func (d *Discovery) crdKnowsUnhealthy(ctx context.Context) (bool, error) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := d.reader.Get(ctx, types.NamespacedName{Name: nodePoolCRD}, crd); err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("getting customresourcedefinition of nodepools, %w", err)
	}
	for _, version := range crd.Spec.Versions {
		if version.Name != "v1" || version.Schema == nil || version.Schema.OpenAPIV3Schema == nil {
			continue
		}
		reasons := property(version.Schema.OpenAPIV3Schema, "spec", "disruption", "budgets", "reasons")
		return reasons != nil && slices.ContainsFunc(reasons.Enum, func(value apiextensionsv1.JSON) bool {
			return string(value.Raw) == strconv.Quote(string(karpv1.DisruptionReasonUnhealthy))
		}), nil
	}
	return false, nil
}

// property walks down a schema; lists are entered on the way, the last one too.
func property(schema *apiextensionsv1.JSONSchemaProps, path ...string) *apiextensionsv1.JSONSchemaProps {
	for _, name := range path {
		next, ok := schema.Properties[name]
		if !ok {
			return nil
		}
		schema = &next
		if schema.Items != nil && schema.Items.Schema != nil {
			schema = schema.Items.Schema
		}
	}
	return schema
}

// conclude makes one answer of all that was found. Where several Karpenters are found, or they disagree with each
// other, the most dangerous answer counts.
func conclude(deployments []appsv1.Deployment, knowsUnhealthy bool, overrides Overrides) Found {
	out := Found{}
	var versions []*semver.Version
	ownRepair, ownRepairKnown, legacy := false, false, false
	for i := range deployments {
		deployment := readDeployment(&deployments[i])
		out.Sources = append(out.Sources, deployment.String())
		if deployment.version != nil {
			versions = append(versions, deployment.version)
		}
		ownRepairKnown = ownRepairKnown || deployment.ownRepair != nil
		ownRepair = ownRepair || (deployment.ownRepair != nil && *deployment.ownRepair)
		legacy = legacy || deployment.legacy
		if deployment.ownRepair == nil {
			out.OwnRepairAssumed = true
		}
	}
	if overrides.Version != "" {
		if version, err := semver.NewVersion(overrides.Version); err == nil {
			versions = []*semver.Version{version}
			out.Sources = append(out.Sources, "flag --karpenter-version="+overrides.Version)
		}
	}
	out.OwnRepairAssumed = out.OwnRepairAssumed || !ownRepairKnown
	out.OwnRepair = ownRepair || out.OwnRepairAssumed
	if overrides.OwnRepair != nil {
		out.OwnRepair, out.OwnRepairAssumed = *overrides.OwnRepair, false
		out.Sources = append(out.Sources, fmt.Sprintf("flag --karpenter-node-repair=%t", *overrides.OwnRepair))
	}
	if len(versions) == 0 {
		out.HonoursDoNotRepair = knowsUnhealthy && !legacy
		out.Sources = append(out.Sources, fmt.Sprintf("the NodePool CRD knows the reason Unhealthy: %t", knowsUnhealthy))
		return out
	}
	oldest := slices.MinFunc(versions, func(a, b *semver.Version) int { return a.Compare(b) })
	out.Version = oldest.String()
	out.RebootSupported = !oldest.LessThan(repairSince)
	out.HonoursDoNotRepair = out.RebootSupported && !legacy
	return out
}

// karpenterDeployment is what one Deployment tells.
type karpenterDeployment struct {
	name      string
	version   *semver.Version
	ownRepair *bool // nil where it cannot be told
	// legacy: the old health controller runs, which does not honour do-not-repair.
	legacy bool
}

// String says it in words.
func (k karpenterDeployment) String() string {
	version, ownRepair := "unknown", "unknown"
	if k.version != nil {
		version = k.version.String()
	}
	if k.ownRepair != nil {
		ownRepair = strconv.FormatBool(*k.ownRepair)
	}
	return fmt.Sprintf("Deployment %s: version %s, NodeRepair %s, legacy %t", k.name, version, ownRepair, k.legacy)
}

func readDeployment(deployment *appsv1.Deployment) karpenterDeployment {
	out := karpenterDeployment{name: deployment.Namespace + "/" + deployment.Name}
	container := karpenterContainer(deployment.Spec.Template.Spec.Containers)
	if container == nil {
		return out
	}
	for _, candidate := range []string{imageTag(container.Image), deployment.Labels["app.kubernetes.io/version"]} {
		if version, err := semver.NewVersion(candidate); err == nil {
			out.version = version
			break
		}
	}
	gates, plain := setting(container, featureGates.flag, featureGates.variable)
	if plain && len(container.EnvFrom) == 0 || gates != "" {
		out.ownRepair = new(gateOn(gates, "NodeRepair"))
	}
	legacy, plain := setting(container, legacyNodeRepair.flag, legacyNodeRepair.variable)
	out.legacy = !plain || legacy == "true"
	return out
}

// karpenterContainer gives the container that runs Karpenter: the one named controller, as in Karpenter's chart, or
// the only one.
func karpenterContainer(containers []corev1.Container) *corev1.Container {
	for i := range containers {
		if containers[i].Name == "controller" {
			return &containers[i]
		}
	}
	if len(containers) == 1 {
		return &containers[0]
	}
	return nil
}

// name of a setting of Karpenter's, as a flag and as an environment variable.
type name struct{ flag, variable string }

var (
	featureGates     = name{"feature-gates", "FEATURE_GATES"}
	legacyNodeRepair = name{"legacy-node-repair", "LEGACY_NODE_REPAIR"}
	// settings that Discovery looks at.
	settings = []name{featureGates, legacyNodeRepair}
)

// setting gives a setting of Karpenter's: the flag, or else the environment variable. It is not plain where its value
// stands somewhere else.
func setting(container *corev1.Container, flag, variable string) (value string, plain bool) {
	args := append(slices.Clone(container.Command), container.Args...)
	for i, arg := range args {
		name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if name != flag || !strings.HasPrefix(arg, "-") {
			continue
		}
		if hasValue {
			return value, true
		}
		if i+1 < len(args) {
			return args[i+1], true
		}
	}
	for _, env := range container.Env {
		if env.Name == variable {
			return env.Value, env.ValueFrom == nil
		}
	}
	return "", true
}

// gateOn reads a gate of a list as "NodeRepair=true,SpotToSpotConsolidation=false"; gates are off by default.
func gateOn(gates, name string) bool {
	for _, gate := range strings.Split(gates, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(gate), "=")
		if key == name {
			on, err := strconv.ParseBool(value)
			return err != nil || on
		}
	}
	return false
}

// imageTag gives the tag of an image, empty where it has none: public.ecr.aws/karpenter/controller:1.15.0@sha256:...
func imageTag(image string) string {
	image, _, _ = strings.Cut(image, "@")
	name := image[strings.LastIndex(image, "/")+1:]
	_, tag, _ := strings.Cut(name, ":")
	return tag
}
