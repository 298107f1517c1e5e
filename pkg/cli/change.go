package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Change is what a command writes, and what that means, told before it is written.
type Change struct {
	// Does says what is written, one sentence for each write; empty where nothing has to be.
	Does []string `json:"does"`
	// Means says what will come of it, as far as it can be told now.
	Means []string `json:"means"`
	// Written says that it has been written; with DryRun, that the API server would take it.
	Written bool `json:"written"`
	DryRun  bool `json:"dryRun,omitempty"`

	writes []write
}

// write is one request that changes something.
type write func(context.Context, *Cluster, writeOptions) error

// writeOptions go with every write.
type writeOptions struct {
	dryRun bool
	owner  client.FieldOwner
}

// does adds a write and what to call it.
func (c *Change) does(w write, format string, args ...any) {
	c.Does = append(c.Does, fmt.Sprintf(format, args...))
	c.writes = append(c.writes, w)
}

// means adds a sentence.
func (c *Change) means(format string, args ...any) {
	c.Means = append(c.Means, fmt.Sprintf(format, args...))
}

// Sections tell it before and after.
func (c *Change) Sections(bool) []Section {
	var lines []string
	for _, does := range c.Does {
		switch {
		case c.Written && c.DryRun:
			does = "would be done (the API server was asked, and nothing was written): " + does
		case c.Written:
			does = "done: " + does
		default:
			does = "will " + does
		}
		lines = append(lines, does)
	}
	if c.Written {
		return []Section{{Lines: lines}}
	}
	indent := "  "
	if len(c.Does) == 0 {
		indent = ""
	}
	for _, means := range c.Means {
		lines = append(lines, indent+means)
	}
	return []Section{{Lines: lines}}
}

// Consent is how a command that writes is allowed to.
type Consent struct {
	yes    bool
	dryRun string
}

// addFlags adds --yes and --dry-run.
func (c *Consent) addFlags(flags *pflag.FlagSet) {
	flags.BoolVarP(&c.yes, "yes", "y", false, "do not ask before writing")
	flags.StringVar(&c.dryRun, "dry-run", "none", "none; or server, to let the API server check everything and write nothing")
}

func (c *Consent) check() error {
	if c.dryRun != "none" && c.dryRun != "server" {
		return fmt.Errorf("--dry-run=%q: write none or server", c.dryRun)
	}
	return nil
}

// lookBefore reads the fleet for a command that writes, once it is known to be allowed to, and tells what could not be read.
func (o *Options) lookBefore(ctx context.Context, consent Consent, wanted Wanted) (*Cluster, *Fleet, error) {
	if err := consent.check(); err != nil {
		return nil, nil, err
	}
	cluster, err := o.Connect()
	if err != nil {
		return nil, nil, err
	}
	fleet, err := o.Load(ctx, cluster, wanted)
	if err != nil {
		return nil, nil, err
	}
	o.TellGaps(fleet)
	return cluster, fleet, nil
}

// carryOut tells what a change is, asks, and writes it.
func (o *Options) carryOut(ctx context.Context, cluster *Cluster, change *Change, consent Consent) error {
	change.DryRun = consent.dryRun == "server"
	if len(change.writes) == 0 {
		return o.Print(change)
	}
	forPeople := o.Output == FormatTable || o.Output == FormatWide
	asks := !consent.yes && !change.DryRun
	switch {
	case forPeople:
		if err := o.Print(change); err != nil {
			return err
		}
	case asks:
		if err := o.printSections(o.ErrOut, change.Sections(false)); err != nil {
			return err
		}
	}
	if asks {
		if err := o.ask(); err != nil {
			return err
		}
	}
	options := writeOptions{dryRun: change.DryRun, owner: fieldOwner(ctx, cluster)}
	for i, w := range change.writes {
		if err := w(ctx, cluster, options); err != nil {
			return fmt.Errorf("cannot %s: %w", change.Does[i], explainRefusal(err))
		}
	}
	change.Written = true
	return o.Print(change)
}

// errNothingDone is what a no means.
var errNothingDone = errors.New("nothing was done")

// ask asks the person at the terminal.
func (o *Options) ask() error {
	if !o.Interactive {
		return errors.New("nothing was done: standard input is no terminal, so nobody can be asked: add --yes to do it, or --dry-run=server to let the API server check it")
	}
	fmt.Fprint(o.ErrOut, "Do it? [y/N] ")
	answer, err := bufio.NewReader(o.In).ReadString('\n')
	if err != nil && answer == "" {
		fmt.Fprintln(o.ErrOut)
		return errNothingDone
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	default:
		return errNothingDone
	}
}
