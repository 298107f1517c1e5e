package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"
)

// Formats of the output.
const (
	FormatTable = "table"
	FormatWide  = "wide"
	FormatJSON  = "json"
	FormatYAML  = "yaml"
)

// Formats are what --output may be.
var Formats = []string{FormatTable, FormatWide, FormatJSON, FormatYAML}

// Options are what every command shares: where it reads and writes, which cluster it speaks of, what time it is, and
// how it prints.
type Options struct {
	genericiooptions.IOStreams
	// Config are kubectl's own flags: --kubeconfig, --context, --server, --token, --as, --request-timeout, ...
	Config *genericclioptions.ConfigFlags
	// Clock is asked for the time by whatever prints or compares times.
	Clock clock.Clock
	// Version of the plugin.
	Version string
	// Output is one of Formats.
	Output string
	// Terminal says whether standard output is a terminal; Interactive, whether standard input is one, so that
	// somebody can be asked.
	Terminal, Interactive bool
	// Getenv reads the environment: NO_COLOR, TERM.
	Getenv func(string) string
	// connect makes the client of the cluster; tests put their own here.
	connect func(*Options) (*Cluster, error)
}

// NewOptions gives the options of a command on these streams, with a real clock, and kubectl's default cluster.
func NewOptions(in io.Reader, out, errOut io.Writer) *Options {
	return &Options{
		IOStreams:   genericiooptions.IOStreams{In: in, Out: out, ErrOut: errOut},
		Config:      genericclioptions.NewConfigFlags(true),
		Clock:       clock.RealClock{},
		Version:     "unknown",
		Output:      FormatTable,
		Terminal:    isTerminal(out),
		Interactive: isTerminal(in),
		Getenv:      os.Getenv,
		connect:     connect,
	}
}

// isTerminal says whether a stream is the terminal of a person.
func isTerminal(stream any) bool {
	file, ok := stream.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(file.Fd()))
}

// AddOutputFlag adds --output to the flags of a command that prints a view.
func (o *Options) AddOutputFlag(flags *pflag.FlagSet) {
	flags.StringVarP(&o.Output, "output", "o", FormatTable, "how to print: "+strings.Join(Formats, ", "))
}

// checkOutput says what to write instead of an output that there is not.
func (o *Options) checkOutput() error {
	if slices.Contains(Formats, o.Output) {
		return nil
	}
	return fmt.Errorf("--output=%q: write one of %s", o.Output, strings.Join(Formats, ", "))
}
