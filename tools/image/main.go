// Command image builds the container images of the project without a container engine: static programs on nothing, as
// OCI archives of the same bytes at every build, each with its bill of materials.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// options of one run.
type options struct {
	root       string   // of the repository
	out        string   // directory of the archives
	repository string   // that the images are named in
	version    string   // that is written into the programs; empty: what Go finds in the checkout
	platforms  []string // architectures
}

func run(ctx context.Context, args []string) error {
	o := options{}
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.StringVar(&o.root, "root", ".", "root of the repository")
	flags.StringVar(&o.out, "out", filepath.Join("bin", "images"), "directory that the archives are written to")
	flags.StringVar(&o.repository, "repository", "ghcr.io/autorepair-sh/karpenter-autorepair", "what the images' names begin with")
	flags.StringVar(&o.version, "version", "", "release, as v1.2.3; empty: the version that Go finds in the checkout, and the tag latest")
	platforms := flags.String("arch", "amd64,arm64", "architectures, with commas between")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "image [flags] [%s]...\n\nBuilds the named images, or all.\n\n", strings.Join(names(), " | "))
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.platforms = strings.Split(*platforms, ",")
	for _, arch := range o.platforms {
		if !slices.Contains([]string{"amd64", "arm64"}, arch) {
			return fmt.Errorf("--arch has %q, write amd64, arm64 or amd64,arm64", arch)
		}
	}
	wanted, err := choose(flags.Args())
	if err != nil {
		return err
	}
	for _, i := range wanted {
		started := time.Now()
		path, err := o.make(ctx, i)
		if err != nil {
			return fmt.Errorf("making image %s, %w", i.name, err)
		}
		fmt.Printf("  %s (%s, %s)\n", path, size(path), time.Since(started).Round(time.Second))
	}
	return nil
}

func size(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "?"
	}
	return fmt.Sprintf("%d MiB", info.Size()>>20)
}
