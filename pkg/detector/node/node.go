// Package node holds the detectors of the agent: each looks at one thing of the machine that it runs on, and states
// the whole current truth about it. All lists them.
package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

// Options are the settings of the detectors. The zero value is the defaults.
type Options struct {
	// Off switches detectors off, by the names of their sources.
	Off []string `json:"off,omitempty"`

	Interfaces       InterfacesOptions    `json:"interfaces,omitzero"`
	Filesystems      FilesystemsOptions   `json:"filesystems,omitzero"`
	ContainerRuntime RuntimeOptions       `json:"containerRuntime,omitzero"`
	KubeletHealth    KubeletHealthOptions `json:"kubeletHealth,omitzero"`
}

// Problem is one thing that is wrong with the Options, and where: interfaces, off.
type Problem struct {
	Path string
	Err  error
}

func (p Problem) Error() string { return p.Path + ": " + p.Err.Error() }

// Unwrap gives what is wrong.
func (p Problem) Unwrap() error { return p.Err }

// Validate says what is wrong with the options, and what to write instead.
func (o Options) Validate() []Problem {
	_, problems := build(host.New("/"), clock.RealClock{}, o, nil)
	return problems
}

// All makes the detectors that are not switched off.
func All(h host.Host, clk clock.WithTicker, o Options, catalogue *rules.Catalogue) ([]detector.Detector, error) {
	all, problems := build(h, clk, o, catalogue)
	return all, errors.Join(lo.Map(problems, func(p Problem, _ int) error { return p })...)
}

func build(h host.Host, clk clock.WithTicker, o Options, catalogue *rules.Catalogue) ([]detector.Detector, []Problem) {
	var problems []Problem
	interfaces, err := NewInterfaces(h, clk, o.Interfaces)
	if err != nil {
		problems = append(problems, Problem{Path: "interfaces", Err: err})
	}
	devices := NewDevices(h, clk, o.Filesystems)
	all := []detector.Detector{
		interfaces,
		NewMounts(h, clk, devices),
		NewRuntime(h, o.ContainerRuntime),
		NewKubeletHealth(h, o.KubeletHealth),
	}
	names := lo.Map(all, func(d detector.Detector, _ int) string { return d.Spec().Name })
	for i, name := range o.Off {
		if !slices.Contains(names, name) {
			problems = append(problems, Problem{Path: fmt.Sprintf("off[%d]", i), Err: fmt.Errorf("%q is no detector: write one of %s", name, strings.Join(names, ", "))})
		}
	}
	return lo.Reject(all, func(d detector.Detector, _ int) bool { return slices.Contains(o.Off, d.Spec().Name) }), problems
}
