package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/test/agentlife"
)

// agentSoak is what is left behind in an agent by logs that were rotated.
type agentSoak struct {
	Rotations        int     `json:"rotations"`
	OpenFilesBefore  int     `json:"openFilesBefore"`
	OpenFilesMost    int     `json:"openFilesMost"`
	OpenFilesAfter   int     `json:"openFilesAfter"`
	GoroutinesBefore int     `json:"goroutinesBefore"`
	GoroutinesAfter  int     `json:"goroutinesAfter"`
	PeakMiB          float64 `json:"peakMiB"`
}

func measureRotations(ctx context.Context, program string, rotations int) (agentSoak, error) {
	dir, err := os.MkdirTemp("", "autorepair-bench-")
	if err != nil {
		return agentSoak{}, fmt.Errorf("making a folder, %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is in a folder for such
	root, err := agentlife.NewRoot(dir)
	if err != nil {
		return agentSoak{}, err
	}
	logs, err := agentlife.NewServiceLogs(root)
	if err != nil {
		return agentSoak{}, err
	}
	p, _, end, err := startAgent(program, dir)
	if err != nil {
		return agentSoak{}, err
	}
	defer end()
	s := agentSoak{Rotations: rotations}
	look := func(files, goroutines *int) error {
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		usage, err := p.Usage()
		if err != nil {
			return err
		}
		count, err := p.Metric(ctx, "go_goroutines")
		*files, *goroutines, s.PeakMiB = usage.OpenFiles, int(count), usage.PeakRSS
		return err
	}
	if err := look(&s.OpenFilesBefore, &s.GoroutinesBefore); err != nil {
		return s, err
	}
	say("agent: %d rotations", rotations)
	for i := range rotations {
		if err := logs.Rotate(i); err != nil {
			return s, err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return s, err
		}
		if usage, err := p.Usage(); err == nil {
			s.OpenFilesMost = max(s.OpenFilesMost, usage.OpenFiles)
		}
	}
	return s, look(&s.OpenFilesAfter, &s.GoroutinesAfter)
}
