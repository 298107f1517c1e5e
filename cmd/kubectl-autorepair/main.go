// Command kubectl-autorepair is a plugin of kubectl: it shows what is broken, what is done about it and why not, and
// asks for repairs, pauses and resumes them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/cli"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.SetLogger(logr.Discard()) // what people need to know is printed
	options := cli.NewOptions(os.Stdin, os.Stdout, os.Stderr)
	options.Version = version.String()
	root := cli.NewRoot(options)
	root.SetArgs(cli.Args(os.Args))
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
