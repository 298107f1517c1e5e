package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/kmsg"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

// sourceMessages is a syslog file of many programs.
const sourceMessages = "messages"

func newClassify() *cobra.Command {
	var source, config string
	var raw bool
	command := &cobra.Command{
		Use:   "classify --source SOURCE",
		Short: "Say what log lines on standard input mean",
		Long: `classify reads log lines on standard input, and prints one JSON object for each: reason, category, severity,
subject and message of what the line means, or {} where it means nothing. The severity is what this one line alone
means to an agent that has seen nothing before: Warning where more than one is asked for, and where it hangs on what
the line does not say, such as which filesystem is meant. A line that ends a fault is {} too.

Sources:
  kmsg        the kernel's log, bare or with what dmesg, syslog or the journal write before it; with --raw the records
              of /dev/kmsg, one object for each record: lines that begin with a blank belong to the record before them.
              Only records of the kernel itself mean something
  kubelet     the kubelet's log, in text or JSON
  containerd  containerd's log
  systemd     what systemd itself says
  ipamd       the log of the address daemon of the VPC CNI
  kube-proxy  kube-proxy's log, in text or JSON
  messages    a syslog file of many programs; the program that a line names chooses the source

A line of another program than the source's means nothing. Of lines beyond 64 KiB the rest is not looked at.`,
		Example: `  dmesg | agent classify --source kmsg
  journalctl -u kubelet | agent classify --source kubelet
  agent classify --source messages < /var/log/messages | grep -v '^{}$'`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			unwrap, err := unwrapper(source, raw)
			if err != nil {
				return err
			}
			settings, err := agent.LoadConfig(config)
			if err != nil {
				return err //nolint:wrapcheck // says what it did
			}
			c := classifier{catalogue: settings.Catalogue, unwrap: unwrap, raw: raw}
			return c.run(command.InOrStdin(), command.OutOrStdout())
		},
	}
	flags := command.Flags()
	flags.StringVar(&source, "source", "", "where the lines are from: "+sourceNames())
	flags.BoolVar(&raw, "raw", false, "lines are records as /dev/kmsg gives them; only with --source kmsg")
	flags.StringVar(&config, "config", "", "configuration file with rules of your own; empty for the defaults")
	return command
}

func sourceNames() string {
	names := make([]string, 0, len(health.Streams)+1)
	for _, s := range health.Streams {
		names = append(names, string(s))
	}
	return strings.Join(append(names, sourceMessages), ", ")
}

// unwrapper gives what finds the stream and the text of a line; false where the line means nothing.
func unwrapper(source string, raw bool) (func(line []byte) (health.Stream, string, bool), error) {
	stream := health.Stream(source)
	switch {
	case source != sourceMessages && !slices.Contains(health.Streams, stream):
		return nil, fmt.Errorf("--source=%q: write one of %s", source, sourceNames())
	case raw && stream != health.StreamKmsg:
		return nil, fmt.Errorf("--raw: only the kernel's log has records: write --source kmsg with it, or leave it out")
	case raw:
		return unwrapRecord, nil
	case source == sourceMessages:
		return func(line []byte) (health.Stream, string, bool) { return rules.UnwrapMessages(string(line)) }, nil
	default:
		return func(line []byte) (health.Stream, string, bool) {
			text, ok := rules.Unwrap(stream, string(line))
			return stream, text, ok
		}, nil
	}
}

func unwrapRecord(line []byte) (health.Stream, string, bool) {
	record, err := kmsg.Parse(line)
	return health.StreamKmsg, record.Text, err == nil && record.Facility == kmsg.FacilityKernel
}

type classifier struct {
	catalogue *rules.Catalogue
	unwrap    func(line []byte) (health.Stream, string, bool)
	raw       bool
}

// answer has the fields in the order in which they are printed.
type answer struct {
	Reason   string            `json:"reason"`
	Category v1alpha1.Category `json:"category"`
	Severity v1alpha1.Severity `json:"severity"`
	Subject  string            `json:"subject"`
	Message  string            `json:"message"`
}

var (
	errNoInput = errors.New("no input: write lines to standard input, for example dmesg | agent classify --source kmsg")
	nothing    = []byte("{}\n")
)

func (c classifier) run(from io.Reader, to io.Writer) error {
	in := bufio.NewReaderSize(from, rules.MaxRaw)
	out := bufio.NewWriterSize(to, rules.MaxRaw)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for lines := 0; ; lines++ {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			if lines == 0 {
				return errNoInput
			}
			return flush(out)
		}
		if err != nil {
			return fmt.Errorf("reading lines, %w", err)
		}
		if err := c.classify(line, out, encoder); err != nil {
			return fmt.Errorf("writing answers, %w", err)
		}
		if in.Buffered() == 0 { // nothing is waiting: who follows a log wants to see it now
			if err := flush(out); err != nil {
				return err
			}
		}
	}
}

func flush(out *bufio.Writer) error {
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing answers, %w", err)
	}
	return nil
}

func (c classifier) classify(line []byte, out io.Writer, encoder *json.Encoder) error {
	if c.raw && len(line) > 0 && line[0] == ' ' {
		return nil // belongs to the record before
	}
	if stream, text, ok := c.unwrap(line); ok {
		if m, ok := c.catalogue.Match(stream, text); ok && !m.Recovers {
			return encoder.Encode(answer{m.Reason, m.Category, m.Severity, m.Subject, m.Message}) //nolint:wrapcheck // wrapped by run
		}
	}
	_, err := out.Write(nothing)
	return err //nolint:wrapcheck // wrapped by run
}

// readLine gives a line without its end, valid until the next call; io.EOF where there is none. Of a line that is
// longer than the reader's buffer it gives the beginning, and reads over the rest.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, io.EOF) && len(line) > 0:
		return line, nil
	case !errors.Is(err, bufio.ErrBufferFull):
		return nil, err //nolint:wrapcheck // wrapped by run
	}
	line = slices.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = in.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err //nolint:wrapcheck // wrapped by run
	}
	return line, nil
}
