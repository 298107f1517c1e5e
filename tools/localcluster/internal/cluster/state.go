package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/process"
)

// phase is how far a cluster has come.
type phase string

const (
	// phaseNone is a directory without a cluster.
	phaseNone phase = ""
	// phaseStarting is a first start that has not finished, or never will.
	phaseStarting phase = "starting"
	// phaseRunning is a cluster that was complete once and whose data is good.
	phaseRunning phase = "running"
)

// state is what survives between commands, in state.json. It is written before
// and after every process that starts or ends.
type state struct {
	Phase     phase                     `json:"phase"`
	BootID    string                    `json:"bootID,omitempty"`
	Ports     map[string]int            `json:"ports,omitempty"`
	Processes map[string]process.Record `json:"processes,omitempty"`
	Karpenter KarpenterSettings         `json:"karpenter"`
	// Audit lists the namespaces whose service accounts are audited.
	Audit    []string          `json:"audit,omitempty"`
	RealNode *RealNodeSettings `json:"realNode,omitempty"`
}

func (c *Cluster) statePath() string { return filepath.Join(c.Directory, "state.json") }

func (c *Cluster) load() error {
	text, err := os.ReadFile(c.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		c.state = state{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the cluster's state, %w", err)
	}
	c.state = state{}
	if err := json.Unmarshal(text, &c.state); err != nil {
		// Written by another version, or by hand. What runs is found without it,
		// so it counts as a start that was broken off.
		c.state = state{Phase: phaseStarting}
	}
	return nil
}

func (c *Cluster) save() error {
	text, err := json.MarshalIndent(c.state, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the cluster's state, %w", err)
	}
	// Renamed into place, so that a killed command leaves the old or the new one.
	partial := c.statePath() + ".partial"
	if err := os.WriteFile(partial, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the cluster's state, %w", err)
	}
	if err := os.Rename(partial, c.statePath()); err != nil {
		return fmt.Errorf("writing the cluster's state, %w", err)
	}
	return nil
}
