package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// versionVariable is what the linker sets to the release.
const versionVariable = "github.com/autorepair-sh/karpenter-autorepair/pkg/version.release"

// program that has been built.
type program struct {
	path string
	info *buildinfo.BuildInfo
}

// build makes a static program whose bytes depend on nothing but the sources, the release and the architecture: not on
// where the sources lie, on the day, or on which Go happens to be installed.
func (o options) build(ctx context.Context, r recipe, arch, dir string) (program, error) {
	toolchain, err := goVersion(ctx, filepath.Join(o.root, r.module))
	if err != nil {
		return program{}, err
	}
	path := filepath.Join(dir, r.name+"-"+arch)
	linker := "-s -w -buildid="
	if o.version != "" {
		linker += " -X " + versionVariable + "=" + o.version
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=auto", "-ldflags", linker, "-o", path, r.pkg) //nolint:gosec // the recipes are our own
	cmd.Dir = filepath.Join(o.root, r.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOTOOLCHAIN="+toolchain, "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return program{}, fmt.Errorf("building needs Go, install it or put it in PATH, %w", err)
		}
		return program{}, fmt.Errorf("building for %s, %w\n%s", arch, err, output.String())
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return program{}, fmt.Errorf("reading what the program was built from, %w", err)
	}
	return program{path: path, info: info}, nil
}

// goVersion is the toolchain that the module's go.mod asks for, as GOTOOLCHAIN names it.
func goVersion(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.GoVersion}}")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=auto", "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("finding which Go the module asks for, %w", err)
	}
	return "go" + strings.TrimSpace(string(out)), nil
}

func (p program) setting(key string) string {
	for _, s := range p.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// created is when what it was built from was committed; the beginning of time where that is not known.
func (p program) created() time.Time {
	at, err := time.Parse(time.RFC3339, p.setting("vcs.time"))
	if err != nil {
		return time.Unix(0, 0).UTC()
	}
	return at.UTC()
}

// version that the program says it is.
func (p program) version(release string) string {
	switch {
	case release != "":
		return release
	case p.info.Main.Version == "(devel)" || p.info.Main.Version == "":
		return "unknown"
	}
	return p.info.Main.Version
}
