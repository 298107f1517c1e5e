package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/cluster"
)

func newStart(p *program) *cobra.Command {
	return p.onParts("start", "Start parts that do not run, on the ports they had", "started",
		func(ctx context.Context, target *cluster.Cluster, names []string) error {
			return target.Start(ctx, names...)
		})
}

func newStop(p *program) *cobra.Command {
	return p.onParts("stop", "Stop parts, letting them clean up", "stopped",
		func(ctx context.Context, target *cluster.Cluster, names []string) error {
			return target.Stop(ctx, names...)
		})
}

func newKill(p *program) *cobra.Command {
	return p.onParts("kill", "Kill parts, as a crash would (kill -9)", "killed",
		func(ctx context.Context, target *cluster.Cluster, names []string) error {
			return target.Kill(ctx, names...)
		})
}

func newRestart(p *program) *cobra.Command {
	return p.onParts("restart", "Stop parts and start them again", "restarted",
		func(ctx context.Context, target *cluster.Cluster, names []string) error {
			if err := target.Stop(ctx, names...); err != nil {
				return err
			}
			return target.Start(ctx, names...)
		})
}

func (p *program) onParts(verb, short, done string, do func(context.Context, *cluster.Cluster, []string) error) *cobra.Command {
	return &cobra.Command{
		Use:       verb + " PART...",
		Short:     short,
		Long:      short + ".\n\nParts: " + strings.Join(cluster.PartNames(), ", ") + ".",
		ValidArgs: cluster.PartNames(),
		Args:      somePart,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := p.cluster()
			if err != nil {
				return err
			}
			if err := do(cmd.Context(), target, args); err != nil {
				return err
			}
			fmt.Fprintf(p.err, "%s %s\n", done, strings.Join(args, ", "))
			return nil
		},
	}
}

func somePart(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s which part? Name one or more of %s", cmd.Name(), strings.Join(cluster.PartNames(), ", "))
	}
	return nil
}

func newLogs(p *program) *cobra.Command {
	return &cobra.Command{
		Use:       "logs PART",
		Short:     "Print the log of a part, also after down",
		Long:      "Print the log of a part, also after down.\n\nParts: " + strings.Join(cluster.PartNames(), ", ") + ".",
		ValidArgs: cluster.PartNames(),
		Args:      somePart,
		RunE: func(_ *cobra.Command, args []string) error {
			target, err := p.cluster()
			if err != nil {
				return err
			}
			for _, name := range args {
				path, err := target.LogFile(name)
				if err != nil {
					return err
				}
				if err := copyFile(p.out, path); err != nil {
					return fmt.Errorf("printing the log of %s, %w", name, err)
				}
			}
			return nil
		},
	}
}

func copyFile(out io.Writer, path string) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("it has none, it was not started here")
	}
	if err != nil {
		return fmt.Errorf("opening, %w", err)
	}
	defer func() { _ = file.Close() }()
	if _, err := io.Copy(out, file); err != nil {
		return fmt.Errorf("copying, %w", err)
	}
	return nil
}
