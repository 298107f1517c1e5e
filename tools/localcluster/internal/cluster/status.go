package cluster

import (
	"context"
)

// Status is what "status" tells.
type Status struct {
	Directory  string            `json:"directory"`
	Kubeconfig string            `json:"kubeconfig,omitempty"`
	Complete   bool              `json:"complete"`
	Karpenter  KarpenterSettings `json:"karpenter"`
	Parts      []PartStatus      `json:"parts"`
}

// PartStatus is one part's line in Status.
type PartStatus struct {
	Name string `json:"name"`
	// State is "ready", "not ready" (it runs but does not answer so) or "down".
	State string `json:"state"`
	PID   int    `json:"pid,omitempty"`
	// ResidentBytes is the memory that it holds.
	ResidentBytes int64  `json:"residentBytes,omitempty"`
	Address       string `json:"address,omitempty"`
	// Metrics is the address of its metrics, where that is another one.
	Metrics string `json:"metrics,omitempty"`
	Log     string `json:"log"`
}

// The states of a part.
const (
	StateReady    = "ready"
	StateNotReady = "not ready"
	StateDown     = "down"
)

// Status looks at every part that should run.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	if err := c.load(); err != nil {
		return Status{}, err
	}
	status := Status{Directory: c.Directory, Karpenter: c.state.Karpenter, Complete: c.state.Phase == phaseRunning}
	if c.state.Phase != phaseNone {
		status.Kubeconfig = c.adminKubeconfig()
	}
	for _, p := range c.wantedParts() {
		line := c.partStatus(ctx, p)
		status.Complete = status.Complete && line.State == StateReady
		status.Parts = append(status.Parts, line)
	}
	return status, nil
}

func (c *Cluster) partStatus(ctx context.Context, p part) PartStatus {
	line := PartStatus{Name: p.name, State: StateDown, Address: c.url(p), Log: c.logPath(p.name)}
	if port := c.state.Ports[portKarpenterMetrics]; p.name == Karpenter && port != 0 {
		line.Metrics = "http://127.0.0.1:" + c.port(portKarpenterMetrics) + "/metrics"
	}
	if !c.alive(p) {
		return line
	}
	record := c.state.Processes[p.name]
	line.PID, line.ResidentBytes, line.State = record.PID, record.ResidentBytes(), StateReady
	if c.probe(ctx, p) != nil {
		line.State = StateNotReady
	}
	return line
}
