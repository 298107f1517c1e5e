// Package version says which release of the project a program is.
package version

import "runtime/debug"

// release is set when a release is built:
//
//	-ldflags "-X github.com/autorepair-sh/karpenter-autorepair/pkg/version.release=v1.2.3"
var release string

// String is the release, as v1.2.3; else the version that Go found in the checkout that the program was built from, as
// v1.2.4-0.20260102150405-0123456789ab, with +dirty where something in it was changed; "unknown" where there is neither.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return of(release, info)
}

func of(release string, info *debug.BuildInfo) string {
	switch {
	case release != "":
		return release
	case info.Main.Version != "" && info.Main.Version != "(devel)":
		return info.Main.Version
	}
	return "unknown"
}
