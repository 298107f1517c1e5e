// Package binaries builds the programs that are not linked into this one, from
// the module versions that go.mod pins, and only when they are out of date.
package binaries

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/lock"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/progress"
)

// Program is one that is built from a module in go.mod's tool list.
type Program struct {
	// Name is the file's name.
	Name string
	// Module pins the version.
	Module string
	// Package is the main package.
	Package string
	// VersionVariable is the string that the linker sets to the version,
	// without the leading v, as the project's own release build does.
	VersionVariable string
	// FirstTime is how long a build takes with an empty build cache.
	FirstTime string
}

// Karpenter is the unmodified Karpenter with its kwok provider.
var Karpenter = Program{
	Name:            "karpenter",
	Module:          "sigs.k8s.io/karpenter",
	Package:         "sigs.k8s.io/karpenter/kwok",
	VersionVariable: "sigs.k8s.io/karpenter/pkg/operator.Version",
	FirstTime:       "about 2 minutes",
}

// Kwok plays the kubelets.
var Kwok = Program{
	Name:            "kwok",
	Module:          "sigs.k8s.io/kwok",
	Package:         "sigs.k8s.io/kwok/cmd/kwok",
	VersionVariable: "sigs.k8s.io/kwok/pkg/consts.Version",
	FirstTime:       "about 30 seconds",
}

// Builder builds into one directory that several clusters share.
type Builder struct {
	// Source is the directory with the go.mod.
	Source string
	// Target receives the binaries.
	Target   string
	Progress *progress.Printer
}

// Ensure returns the path of an up-to-date binary, built if it has to be.
func (b Builder) Ensure(ctx context.Context, program Program) (string, error) {
	if err := os.MkdirAll(b.Target, 0o755); err != nil {
		return "", fmt.Errorf("creating the directory of binaries, %w", err)
	}
	// One build at a time; two clusters that start side by side share the result.
	release, err := lock.Acquire(ctx, filepath.Join(b.Target, program.Name+".lock"), func() {
		b.Progress.Say("  %-12s waiting, another localcluster builds it", program.Name)
	})
	if err != nil {
		return "", err
	}
	defer release()

	path := filepath.Join(b.Target, program.Name)
	module, err := b.readModule()
	if err != nil {
		return "", err
	}
	if current(path, program, module) {
		return path, nil
	}
	version := versions(module)[program.Module]
	step := b.Progress.Begin(program.Name, fmt.Sprintf("building %s (first time: %s)", version, program.FirstTime))
	if err := b.build(ctx, program, version, path); err != nil {
		step.Failed()
		return "", err
	}
	step.Done("built %s", version)
	return path, nil
}

func (b Builder) build(ctx context.Context, program Program, version, path string) error {
	// Built beside and renamed, so that a killed build never looks like a binary.
	partial := path + ".partial"
	linker := "-s -w -X " + program.VersionVariable + "=" + strings.TrimPrefix(version, "v")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags", linker, "-o", partial, program.Package)
	cmd.Dir = b.Source
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=auto", "GOWORK=off", "GOFLAGS=")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("building %s needs Go, install it or put it in PATH, %w", program.Name, err)
		}
		return fmt.Errorf("building %s, %w\n%s", program.Name, err, output.String())
	}
	if err := os.Rename(partial, path); err != nil {
		return fmt.Errorf("putting %s in place, %w", program.Name, err)
	}
	return nil
}

func (b Builder) readModule() (*modfile.File, error) {
	path := filepath.Join(b.Source, "go.mod")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading which versions to build, %w", err)
	}
	module, err := modfile.Parse(path, text, nil)
	if err != nil {
		return nil, fmt.Errorf("reading which versions to build, %w", err)
	}
	return module, nil
}

// current tells whether the binary was built from exactly the versions of
// go.mod. Reading that from the binary takes milliseconds, where asking
// "go build" takes seconds.
func current(path string, program Program, module *modfile.File) bool {
	info, err := buildinfo.ReadFile(path)
	return err == nil && info.Path == program.Package && builtAsPinned(info, versions(module))
}

func builtAsPinned(info *buildinfo.BuildInfo, pinned map[string]string) bool {
	for _, built := range append([]*debug.Module{&info.Main}, info.Deps...) {
		version := built.Version
		if built.Replace != nil {
			version = built.Replace.Version
		}
		if pinned[built.Path] != version {
			return false
		}
	}
	return true
}

func versions(module *modfile.File) map[string]string {
	pinned := map[string]string{}
	for _, require := range module.Require {
		pinned[require.Mod.Path] = require.Mod.Version
	}
	for _, replace := range module.Replace {
		pinned[replace.Old.Path] = replace.New.Version
	}
	return pinned
}

// ModuleVersion returns the version of a module in a binary, "" if it has none.
func ModuleVersion(path, module string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return ""
	}
	for _, built := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if built.Path != module {
			continue
		}
		if built.Replace != nil && built.Replace.Version != "" {
			return built.Replace.Version
		}
		return built.Version
	}
	return ""
}
