package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/autorepair-sh/karpenter-autorepair/test/agentlife"
)

// onlyAgent leaves out all that needs a cluster.
const onlyAgent = "agent"

type agentOptions struct {
	idle             time.Duration
	flood, rotations int
}

func (o *agentOptions) addTo(flags *pflag.FlagSet) {
	flags.DurationVar(&o.idle, "agent-idle", 5*time.Minute, "how long the agent is watched at rest, for each of its two builds")
	flags.IntVar(&o.flood, "agent-flood", 1_000_000, "lines of the flood through the agent")
	flags.IntVar(&o.rotations, "agent-rotations", 500, "rotations of the logs that the agent follows")
}

// agentFigures are what the agent costs a node.
type agentFigures struct {
	// Idle with every detector, of the static program; IdleNVML of the one that is linked with NVML.
	Idle     agentIdle `json:"idle"`
	IdleNVML agentIdle `json:"idleNVML"`
	// ClassifyLinesPerSecond of ordinary kernel lines that `agent classify` answers on one processor.
	ClassifyLinesPerSecond float64 `json:"classifyLinesPerSecond"`
	// Flood at a pace far above what a kernel writes, and Burst as fast as a file can be written.
	Flood     agentFlood `json:"flood"`
	Burst     agentFlood `json:"burst"`
	Rotations agentSoak  `json:"rotations"`
}

// agentIdle is what an agent takes on a node where nothing happens.
type agentIdle struct {
	Seconds float64 `json:"seconds"`
	// Resident MiB; Anonymous and File are its parts.
	ResidentMiB  float64 `json:"residentMiB"`
	AnonymousMiB float64 `json:"anonymousMiB"`
	FileMiB      float64 `json:"fileMiB"`
	PeakMiB      float64 `json:"peakMiB"`
	// CPUPercent of one processor.
	CPUPercent float64 `json:"cpuPercent"`
	OpenFiles  int     `json:"openFiles"`
	Goroutines int     `json:"goroutines"`
	Threads    int     `json:"threads"`
}

// measureAgent measures the agent as a process on this machine.
func measureAgent(ctx context.Context, o agentOptions, f *agentFigures) error {
	dir, err := os.MkdirTemp("", "autorepair-bench-")
	if err != nil {
		return fmt.Errorf("making a folder, %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is in a folder for such
	static, nvml := filepath.Join(dir, "agent"), filepath.Join(dir, "agent-nvml")
	if err := errors.Join(buildAgent(ctx, static, "0"), buildAgent(ctx, nvml, "1")); err != nil {
		return err
	}
	if f.ClassifyLinesPerSecond, err = measureClassify(ctx, static); err != nil {
		return fmt.Errorf("measuring classify, %w", err)
	}
	if f.Flood, err = measureFlood(ctx, static, o.flood, 100_000); err != nil {
		return fmt.Errorf("measuring a flood, %w", err)
	}
	if f.Burst, err = measureFlood(ctx, static, o.flood, 0); err != nil {
		return fmt.Errorf("measuring a burst, %w", err)
	}
	if f.Rotations, err = measureRotations(ctx, static, o.rotations); err != nil {
		return fmt.Errorf("measuring rotations, %w", err)
	}
	if f.Idle, err = measureIdle(ctx, static, o.idle); err != nil {
		return fmt.Errorf("measuring the idle agent, %w", err)
	}
	if f.IdleNVML, err = measureIdle(ctx, nvml, o.idle); err != nil {
		return fmt.Errorf("measuring the idle agent with NVML, %w", err)
	}
	return nil
}

func buildAgent(ctx context.Context, to, cgo string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, "./cmd/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the agent, %w", err)
	}
	return nil
}

// startAgent runs an agent with a folder of its own.
func startAgent(program, hostRoot string) (p *agentlife.Process, api *agentlife.API, end func(), err error) {
	dir, err := os.MkdirTemp("", "autorepair-bench-")
	if err != nil {
		return nil, nil, nil, fmt.Errorf("making a folder, %w", err)
	}
	api = agentlife.NewAPI()
	p, err = agentlife.Start(agentlife.Options{Command: []string{program}, API: api, Dir: dir, HostRoot: hostRoot})
	if err != nil {
		api.Close()
		return nil, nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, api, func() {
		p.Kill()
		api.Close()
		_ = os.RemoveAll(dir)
	}, nil
}

// agentSettles is how long an agent is left alone before its rest is measured.
const agentSettles = 20 * time.Second

func measureIdle(ctx context.Context, program string, lasts time.Duration) (agentIdle, error) {
	p, _, end, err := startAgent(program, "/")
	if err != nil {
		return agentIdle{}, err
	}
	defer end()
	if err := pause(ctx, agentSettles); err != nil {
		return agentIdle{}, err
	}
	before, err := p.Usage()
	if err != nil {
		return agentIdle{}, err
	}
	say("agent: at rest for %s", lasts)
	from := time.Now()
	if err := pause(ctx, lasts); err != nil {
		return agentIdle{}, err
	}
	after, err := p.Usage()
	if err != nil {
		return agentIdle{}, err
	}
	took := time.Since(from)
	goroutines, err := p.Metric(ctx, "go_goroutines") // last: the answer costs memory too
	if err != nil {
		return agentIdle{}, err
	}
	return agentIdle{
		Seconds: took.Seconds(), ResidentMiB: after.RSS, AnonymousMiB: after.Anonymous, FileMiB: after.File, PeakMiB: after.PeakRSS,
		CPUPercent: 100 * (after.CPU - before.CPU).Seconds() / took.Seconds(),
		OpenFiles:  after.OpenFiles, Threads: after.Threads, Goroutines: int(goroutines),
	}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func printAgent(f agentFigures) {
	fmt.Println("The agent at rest with every detector, on this machine as it is; what else runs here shows in it:")
	for _, idle := range []struct {
		name string
		agentIdle
	}{{"static", f.Idle}, {"with NVML", f.IdleNVML}} {
		fmt.Printf("  %-10s %5.1f MiB resident (%.1f own memory, %.1f pages of files, peak %.1f), %.3f %% of a processor over %.0f s, %d files, %d goroutines, %d threads\n",
			idle.name, idle.ResidentMiB, idle.AnonymousMiB, idle.FileMiB, idle.PeakMiB, idle.CPUPercent, idle.Seconds, idle.OpenFiles, idle.Goroutines, idle.Threads)
	}
	fmt.Printf("agent classify --source kmsg, ordinary lines, one processor:\n  %.0f lines a second\n", f.ClassifyLinesPerSecond)
	fmt.Println("Floods of kernel lines through a running agent:")
	for _, flood := range []struct {
		name string
		agentFlood
	}{{"100,000 a second", f.Flood}, {"all at once", f.Burst}} {
		fmt.Printf("  %-16s %d lines in %.1f s (%.0f a second), %.2f s behind at the end, peak %.1f MiB, %d finding, count %d\n", flood.name,
			flood.Lines, flood.Seconds, float64(flood.Lines)/flood.Seconds, flood.BehindSeconds, flood.PeakMiB, flood.Findings, flood.Count)
	}
	fmt.Printf("%d rotations of the logs of kubelet and containerd:\n  %d open files before, %d after (most %d); %d goroutines before, %d after; peak %.1f MiB\n",
		f.Rotations.Rotations, f.Rotations.OpenFilesBefore, f.Rotations.OpenFilesAfter, f.Rotations.OpenFilesMost,
		f.Rotations.GoroutinesBefore, f.Rotations.GoroutinesAfter, f.Rotations.PeakMiB)
}
