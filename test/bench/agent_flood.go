package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/test/agentlife"
)

// agentFlood is how an agent bears a flood of kernel lines that all mean the same fault.
type agentFlood struct {
	Lines int `json:"lines"`
	// LinesPerSecond with which they were written; 0: as fast as that goes.
	LinesPerSecond int `json:"linesPerSecond"`
	// Seconds from the first line until the API server has the last.
	Seconds float64 `json:"seconds"`
	// BehindSeconds from the last line until the API server has it.
	BehindSeconds float64 `json:"behindSeconds"`
	PeakMiB       float64 `json:"peakMiB"`
	Findings      int     `json:"findings"`
	Count         int64   `json:"count"`
}

// measureFlood writes the recorded kernel log of a machine while an agent follows it.
func measureFlood(ctx context.Context, program string, lines, perSecond int) (agentFlood, error) {
	dir, err := os.MkdirTemp("", "autorepair-bench-")
	if err != nil {
		return agentFlood{}, fmt.Errorf("making a folder, %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is in a folder for such
	root, err := agentlife.NewRoot(dir)
	if err != nil {
		return agentFlood{}, err
	}
	p, api, end, err := startAgent(program, dir)
	if err != nil {
		return agentFlood{}, err
	}
	defer end()
	if err := pause(ctx, 5*time.Second); err != nil {
		return agentFlood{}, err
	}
	say("agent: a flood of %d lines, %d a second", lines, perSecond)
	f := agentFlood{Lines: lines, LinesPerSecond: perSecond}
	from := time.Now()
	if err := agentlife.Flood(root, lines, perSecond); err != nil {
		return f, err
	}
	written := time.Now()
	// The last line is another fault, which shows at once; the count itself is written once a minute.
	err = agentlife.WaitFor(ctx, 2*time.Minute, func() bool { return api.Count("kernel-log", "KernelBug") > 0 })
	if err != nil {
		return f, fmt.Errorf("waiting for the last line of the flood, %w", err)
	}
	f.BehindSeconds, f.Seconds = time.Since(written).Seconds(), time.Since(from).Seconds()
	usage, err := p.Usage()
	if err != nil {
		return f, err
	}
	f.PeakMiB, f.Count = usage.PeakRSS, api.Count("kernel-log", "OOMKilling")
	health, _ := api.Newest()
	for _, finding := range health.Findings {
		if finding.Reason == "OOMKilling" {
			f.Findings++
		}
	}
	return f, nil
}
