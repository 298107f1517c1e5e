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
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/pci"
)

// Options are the settings of the detectors. The zero value is the defaults.
type Options struct {
	// Disabled switches detectors off, by the names of their sources.
	Disabled []string `json:"disabled,omitempty"`

	Interfaces       InterfacesOptions      `json:"interfaces,omitzero"`
	Routes           RoutesOptions          `json:"routes,omitzero"`
	CardCounters     CardCountersOptions    `json:"cardCounters,omitzero"`
	NetworkSettings  NetworkSettingsOptions `json:"networkSettings,omitzero"`
	IPAMD            IPAMDOptions           `json:"ipamd,omitzero"`
	KubeProxy        KubeProxyOptions       `json:"kubeProxy,omitzero"`
	Filesystems      FilesystemsOptions     `json:"filesystems,omitzero"`
	XFSFreeSpace     XFSFreeSpaceOptions    `json:"xfsFreeSpace,omitzero"`
	Disks            DisksOptions           `json:"disks,omitzero"`
	Processes        ProcessesOptions       `json:"processes,omitzero"`
	ContainerRuntime RuntimeOptions         `json:"containerRuntime,omitzero"`
	KubeletHealth    KubeletHealthOptions   `json:"kubeletHealth,omitzero"`
	SystemdUnits     UnitsOptions           `json:"systemdUnits,omitzero"`
	Nvidia           NvidiaOptions          `json:"nvidia,omitzero"`
	KernelLog        KernelLogOptions       `json:"kernelLog,omitzero"`
	ServiceLogs      ServiceLogsOptions     `json:"serviceLogs,omitzero"`
}

// Problem is one thing that is wrong with the Options, and where: interfaces, disabled[0].
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

// All makes the detectors that are not switched off. lines says what log lines mean.
func All(h host.Host, clk clock.WithTicker, o Options, lines LogLines) ([]detector.Detector, error) {
	all, problems := build(h, clk, o, lines)
	return all, errors.Join(lo.Map(problems, func(p Problem, _ int) error { return p })...)
}

func build(h host.Host, clk clock.WithTicker, o Options, lines LogLines) ([]detector.Detector, []Problem) {
	var all []detector.Detector
	var problems []Problem
	add := func(d detector.Detector) { all = append(all, d) }
	// try is for those whose options can be wrong; path is where they stand.
	try := func(path string, d detector.Detector, err error) {
		if err != nil {
			problems = append(problems, Problem{Path: path, Err: err})
			return
		}
		add(d)
	}
	devices := NewDevices(h, clk, o.Filesystems)

	// Logs
	o.KernelLog.Accelerators = o.KernelLog.Accelerators || hasAccelerators(h)
	add(NewKernelLog(h, clk, lines, devices, o.KernelLog))
	all = append(all, NewServiceLogs(h, clk, lines, o.ServiceLogs)...)

	// Networking
	interfaces, err := NewInterfaces(h, clk, o.Interfaces)
	try("interfaces", interfaces, err)
	add(NewRoutes(clk, o.Routes))
	cardCounters, err := NewCardCounters(h, clk, o.CardCounters, nil)
	try("cardCounters", cardCounters, err)
	networkSettings, err := NewNetworkSettings(h, clk, o.NetworkSettings)
	try("networkSettings", networkSettings, err)
	add(NewIPAMD(h, o.IPAMD))
	add(NewKubeProxy(h, o.KubeProxy))

	// Storage
	add(NewMounts(h, clk, devices))
	add(NewXFSFreeSpace(h, devices, o.XFSFreeSpace))
	add(NewDisks(h, devices, o.Disks))

	// Kernel
	add(NewProcesses(h, clk, o.Processes))
	add(NewClock())
	add(NewMemoryErrors(h, clk))

	// Kubelet, runtime, services
	add(NewRuntime(h, o.ContainerRuntime))
	add(NewKubeletHealth(h, o.KubeletHealth))
	add(NewUnits(h, clk, o.SystemdUnits))

	// Accelerators
	add(NewNvidia(h, clk, o.Nvidia))

	names := lo.Map(all, func(d detector.Detector, _ int) string { return d.Spec().Name })
	for i, name := range o.Disabled {
		if !slices.Contains(names, name) {
			problems = append(problems, Problem{Path: fmt.Sprintf("disabled[%d]", i), Err: fmt.Errorf("%q is no detector: write one of %s", name, strings.Join(names, ", "))})
		}
	}
	return lo.Reject(all, func(d detector.Detector, _ int) bool { return slices.Contains(o.Disabled, d.Spec().Name) }), problems
}

// hasAccelerators says whether the node has cards of which the kernel log tells. Where that cannot be read it says no:
// what the log tells of them is found all the same, it only has no say in whether they are well.
func hasAccelerators(h host.Host) bool {
	devices, err := pci.Devices(h)
	return err == nil && slices.ContainsFunc(devices, func(d pci.Device) bool { return d.IsNVIDIAGPU() || d.IsNeuron() || d.IsAMDGPU() })
}
