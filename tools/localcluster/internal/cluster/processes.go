package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/ports"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/process"
)

func (c *Cluster) alive(p part) bool {
	return c.state.Processes[p.name].Alive(c.owner(p.name))
}

// start starts a part that does not run, and records it.
func (c *Cluster) start(ctx context.Context, p part) error {
	if err := os.MkdirAll(c.logDirectory(), 0o700); err != nil {
		return fmt.Errorf("creating the directory of logs, %w", err)
	}
	path, err := c.binary(ctx, p)
	if err != nil {
		return err
	}
	for _, name := range p.ports {
		if !becomesFree(ctx, c.state.Ports[name]) {
			return fmt.Errorf("starting %s on port %d, %w", p.name, c.state.Ports[name], errPortTaken)
		}
	}
	command := process.Command{Path: path, Args: p.arguments(c), Env: baseEnvironment(), LogFile: c.logPath(p.name)}
	if c.isLinked(p) {
		command.Args = slices.Concat([]string{runPart, cmp.Or(p.linked, p.name)}, command.Args)
	}
	if p.environment != nil {
		command.Env = append(command.Env, p.environment(c)...)
	}
	record, err := process.Start(c.owner(p.name), command)
	if err != nil {
		return err
	}
	if c.state.Processes == nil {
		c.state.Processes = map[string]process.Record{}
	}
	c.state.Processes[p.name] = record
	return c.save()
}

// becomesFree waits for a port for a few seconds: somebody who only tries whether it is free, as we do, holds it for a
// moment.
func becomesFree(ctx context.Context, port int) bool {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 3*time.Second, true, func(context.Context) (bool, error) {
		return ports.IsFree(port), nil
	}) == nil
}

// baseEnvironment is what a Go program wants to find.
func baseEnvironment() []string {
	var environment []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			environment = append(environment, name+"="+value)
		}
	}
	return environment
}

// end ends every process of the given parts, recorded or only marked, all
// parts at once, and forgets them. It leaves those that a part spares.
func (c *Cluster) end(how func(part, process.Record) error, which ...part) error {
	marked, err := process.Find(c.Directory)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	var mutex sync.Mutex
	var problems []error
	for _, p := range which {
		for _, record := range marked[p.name] {
			if p.spared != "" && record.Name() == p.spared {
				continue
			}
			group.Go(func() {
				if err := how(p, record); err != nil {
					mutex.Lock()
					defer mutex.Unlock()
					problems = append(problems, err)
				}
			})
		}
	}
	group.Wait()
	if err := errors.Join(problems...); err != nil {
		return err
	}
	for _, p := range which {
		delete(c.state.Processes, p.name)
	}
	return nil
}

func (c *Cluster) gently(ctx context.Context) func(part, process.Record) error {
	return func(p part, record process.Record) error {
		return record.Stop(ctx, c.owner(p.name), p.grace)
	}
}

func (c *Cluster) briefly(ctx context.Context) func(part, process.Record) error {
	const grace = 2 * time.Second
	return func(p part, record process.Record) error {
		return record.Stop(ctx, c.owner(p.name), min(p.grace, grace))
	}
}

func (c *Cluster) atOnce(ctx context.Context) func(part, process.Record) error {
	return func(p part, record process.Record) error {
		return record.Kill(ctx, c.owner(p.name))
	}
}
