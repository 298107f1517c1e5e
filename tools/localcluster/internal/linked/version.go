package linked

import (
	"runtime/debug"
	"strings"
	_ "unsafe" // for go:linkname

	"k8s.io/component-base/version"
)

// Kubernetes learns its version at link time, from -ldflags -X. Linked from
// modules by a plain "go build" it would call itself v0.0.0-master, which
// kubectl and version checks cannot read, so the version of the module is put
// there at start instead.

//go:linkname gitVersion k8s.io/component-base/version.gitVersion
var gitVersion string

//go:linkname gitMajor k8s.io/component-base/version.gitMajor
var gitMajor string

//go:linkname gitMinor k8s.io/component-base/version.gitMinor
var gitMinor string

const kubernetesModule = "k8s.io/kubernetes"

// KubernetesVersion is the version of the linked control plane, such as
// "v1.36.3".
func KubernetesVersion() string { return gitVersion }

func init() {
	info, ok := debug.ReadBuildInfo()
	if !ok || !strings.HasPrefix(gitVersion, "v0.0.0-") {
		return
	}
	for _, module := range info.Deps {
		if module.Path == kubernetesModule {
			setVersion(module.Version)
		}
	}
}

func setVersion(moduleVersion string) {
	parts := strings.SplitN(strings.TrimPrefix(moduleVersion, "v"), ".", 3)
	if len(parts) < 3 {
		return
	}
	gitVersion, gitMajor, gitMinor = moduleVersion, parts[0], parts[1]
	// Equal to gitVersion, so never refused.
	_ = version.SetDynamicVersion(moduleVersion)
}
