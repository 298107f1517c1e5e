package snapshot

import (
	"fmt"

	"github.com/Masterminds/semver/v3"
)

// ReadOverrides reads the flags --karpenter-version (empty to find out), --karpenter-node-repair (true, false, or auto to
// find out) and --reboot-providers, which the controller and those who think as it does have in common. An error names the
// flag and says what to write instead.
func ReadOverrides(version, nodeRepair string, rebootProviders []string) (Overrides, error) {
	overrides := Overrides{Version: version, RebootProviders: rebootProviders}
	if version != "" {
		if _, err := semver.NewVersion(version); err != nil {
			return overrides, fmt.Errorf("--karpenter-version=%q is not a version: write for example 1.15.0", version)
		}
	}
	switch nodeRepair {
	case "auto":
	case "true", "false":
		overrides.OwnRepair = new(nodeRepair == "true")
	default:
		return overrides, fmt.Errorf("--karpenter-node-repair=%q: write true, false or auto", nodeRepair)
	}
	return overrides, nil
}
