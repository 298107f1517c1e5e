package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// KarpenterMode is which Karpenter runs.
type KarpenterMode string

const (
	// KarpenterStock is the unmodified Karpenter that go.mod pins.
	KarpenterStock KarpenterMode = "stock"
	// KarpenterNone is a cluster with Karpenter's CRDs and no Karpenter.
	KarpenterNone KarpenterMode = "none"
)

// KarpenterSettings is how Karpenter is to run.
type KarpenterSettings struct {
	Mode KarpenterMode `json:"mode"`
	// Binary is another build of Karpenter to run instead of the stock one.
	Binary string `json:"binary,omitempty"`
	// FeatureGates is the value of FEATURE_GATES, such as "NodeRepair=true".
	FeatureGates string `json:"featureGates,omitempty"`
	// Env are further variables, as KEY=VALUE.
	Env []string `json:"env,omitempty"`
}

// ownedVariables are set by localcluster itself.
var ownedVariables = []string{
	"KUBECONFIG", "SYSTEM_NAMESPACE", "DISABLE_LEADER_ELECTION", "KARPENTER_SERVICE", "METRICS_PORT", "HEALTH_PROBE_PORT",
}

// Validate returns the settings with an absolute path, or what is wrong and
// what to write instead.
func (k KarpenterSettings) Validate() (KarpenterSettings, error) {
	switch k.Mode {
	case KarpenterStock:
	case KarpenterNone:
		if k.Binary != "" || k.FeatureGates != "" || len(k.Env) > 0 {
			return k, errors.New("--karpenter=none starts no Karpenter, drop it or drop the other --karpenter flags")
		}
	default:
		return k, fmt.Errorf("--karpenter=%s is unknown, use %s or %s; for a build of your own use --karpenter-binary PATH", k.Mode, KarpenterStock, KarpenterNone)
	}
	for gate := range strings.SplitSeq(k.FeatureGates, ",") {
		name, value, ok := strings.Cut(gate, "=")
		if gate != "" && (!ok || name == "" || (value != "true" && value != "false")) {
			return k, fmt.Errorf("--karpenter-feature-gates has %q, write gates as NodeRepair=true,StaticCapacity=false", gate)
		}
	}
	for _, entry := range k.Env {
		name, _, ok := strings.Cut(entry, "=")
		switch {
		case !ok || name == "":
			return k, fmt.Errorf("--karpenter-env has %q, write it as KEY=VALUE", entry)
		case name == "FEATURE_GATES":
			return k, errors.New("--karpenter-env must not set FEATURE_GATES, use --karpenter-feature-gates")
		case slices.Contains(ownedVariables, name):
			return k, fmt.Errorf("--karpenter-env must not set %s, localcluster sets it", name)
		}
	}
	if k.Binary != "" {
		path, err := filepath.Abs(k.Binary)
		if err != nil {
			return k, fmt.Errorf("resolving --karpenter-binary, %w", err)
		}
		k.Binary = path
	}
	return k, nil
}

func (k KarpenterSettings) equal(other KarpenterSettings) bool {
	return k.Mode == other.Mode && k.Binary == other.Binary && k.FeatureGates == other.FeatureGates && slices.Equal(k.Env, other.Env)
}
