package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/linked"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/realnode"
)

// The parts of a cluster, as people name them on the command line.
const (
	Etcd              = linked.Etcd
	APIServer         = linked.APIServer
	ControllerManager = linked.ControllerManager
	Scheduler         = linked.Scheduler
	Kwok              = "kwok"
	Karpenter         = "karpenter"
	Containerd        = "containerd"
	Kubelet           = linked.Kubelet
	Service           = linked.Service
)

// runPart is the command with which this binary becomes one of the linked programs.
const runPart = "run-part"

// The ports of a cluster, by what listens there.
const (
	portEtcd             = "etcd"
	portAPIServer        = "apiserver"
	portKwok             = "kwok"
	portKarpenterHealth  = "karpenter-health"
	portKarpenterMetrics = "karpenter-metrics"
)

// part is one process of a cluster.
type part struct {
	name string
	// ports it listens on; the first is its address.
	ports []string
	// scheme of its address.
	scheme string
	// path that answers 200 once it is ready; a part without a port is ready as
	// soon as it runs.
	readyPath string
	// socket that takes connections once it is ready, as the process itself sees the path; empty for a part with a port.
	socket string
	// grace is how long it may take to end by itself.
	grace time.Duration
	// ofNode tells that it is part of the real node, where there is one.
	ofNode bool
	// spared are programs that it starts and that live on when it is stopped or killed, by their name in /proc.
	spared string
	// linked is the program of this binary that it is; empty for a part's own name.
	linked string
	// arguments of its program.
	arguments func(*Cluster) []string
	// environment beside what every part gets.
	environment func(*Cluster) []string
}

// parts in the order of starting; they end in the opposite order.
var parts = []part{
	{
		name: Etcd, ports: []string{portEtcd}, scheme: "http", readyPath: "/health", grace: 5 * time.Second,
		arguments: etcdArguments,
	},
	{
		name: APIServer, ports: []string{portAPIServer}, scheme: "https", readyPath: "/readyz", grace: 5 * time.Second,
		arguments:   apiServerArguments,
		environment: apiServerEnvironment,
	},
	{
		name: ControllerManager, grace: 5 * time.Second,
		arguments: controllerManagerArguments,
	},
	{
		name: Scheduler, grace: 5 * time.Second,
		arguments: schedulerArguments,
	},
	{
		name: Kwok, ports: []string{portKwok}, scheme: "http", readyPath: "/healthz", grace: 5 * time.Second,
		arguments: kwokArguments,
	},
	{
		name: Karpenter, ports: []string{portKarpenterHealth, portKarpenterMetrics}, scheme: "http", readyPath: "/readyz", grace: 15 * time.Second,
		arguments:   func(*Cluster) []string { return nil },
		environment: karpenterEnvironment,
	},
	{
		name: Containerd, socket: realnode.Socket, grace: 5 * time.Second, ofNode: true, linked: linked.InNode,
		spared:    "containerd-shim", // pods outlive the containerd that started them
		arguments: containerdProgram,
	},
	{
		name: Service, grace: time.Second, ofNode: true,
		arguments: serviceProgram,
	},
	{
		name: Kubelet, grace: 5 * time.Second, ofNode: true, linked: linked.InNode,
		arguments: kubeletProgram,
	},
}

// PartNames lists the parts in the order of starting.
func PartNames() []string {
	names := make([]string, 0, len(parts))
	for _, part := range parts {
		names = append(names, part.name)
	}
	return names
}

func findPart(name string) (part, error) {
	for _, part := range parts {
		if part.name == name {
			return part, nil
		}
	}
	return part{}, fmt.Errorf("there is no part %q, use one of %s", name, strings.Join(PartNames(), ", "))
}

func portNames() []string {
	var names []string
	for _, part := range parts {
		names = append(names, part.ports...)
	}
	return names
}

func (c *Cluster) url(p part) string {
	if len(p.ports) == 0 || c.state.Ports[p.ports[0]] == 0 {
		return ""
	}
	return fmt.Sprintf("%s://127.0.0.1:%d", p.scheme, c.state.Ports[p.ports[0]])
}

func (c *Cluster) isLinked(p part) bool {
	return slices.Contains([]string{Etcd, APIServer, ControllerManager, Scheduler, Containerd, Kubelet, Service}, p.name)
}
