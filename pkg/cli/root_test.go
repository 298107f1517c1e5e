package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// everyCommand calls f with each command of the tree.
func everyCommand(command *cobra.Command, f func(*cobra.Command)) {
	f(command)
	for _, sub := range command.Commands() {
		everyCommand(sub, f)
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	everyCommand(NewRoot(newWorld().Options), func(command *cobra.Command) {
		t.Run(command.CommandPath(), func(t *testing.T) {
			require.NotEmpty(t, command.Short)
			require.NotEmpty(t, command.Long)
			require.NotEmpty(t, command.Example)
			for line := range strings.Lines(command.Long) {
				require.LessOrEqual(t, len(strings.TrimSpace(line)), 121, "a line of the help: %s", line)
			}
		})
	})
}

func TestEveryExampleParses(t *testing.T) {
	everyCommand(NewRoot(newWorld().Options), func(command *cobra.Command) {
		for line := range strings.Lines(command.Example) {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, commandName+" ") {
				continue
			}
			t.Run(line, func(t *testing.T) {
				root := NewRoot(newWorld().Options)
				found, args, err := root.Find(words(strings.TrimPrefix(line, commandName+" ")))
				require.NoError(t, err)
				require.NotEqual(t, root, found, "it names no command")
				require.NoError(t, found.ParseFlags(args))
				require.NoError(t, found.ValidateArgs(found.Flags().Args()))
				require.NoError(t, found.ValidateRequiredFlags())
				require.NoError(t, found.ValidateFlagGroups())
			})
		}
	})
}

// words splits a line as a shell does that knows single quotes, and ends it where another program begins.
func words(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
			continue
		}
		part, _, piped := strings.Cut(part, " | ")
		out = append(out, strings.Fields(part)...)
		if piped {
			break
		}
	}
	return out
}

func TestHelp(t *testing.T) {
	for _, command := range []string{"status", "history", "repair", "pause", "resume"} {
		got, err := newWorld().run(t, command, "--help")
		require.NoError(t, err)
		before, flags, found := strings.Cut(got, "\nGlobal Flags:") // kubectl's own, which change with it
		if !found {
			before, flags, found = strings.Cut(got, "\nFlags:")
		}
		require.True(t, found, "%s", flags)
		requireGolden(t, "help/"+command+".txt", before)
	}
}

func TestTheShellIsOfferedNames(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"commands":             {args: []string{"pa"}, want: []string{"pause\tLet no repair start: of a node, of a NodePool, under a RepairPolicy, or at all"}},
		"nodes and NodeClaims": {args: []string{"repair", "ip-10-0-0"}, want: []string{"ip-10-0-0-1", "ip-10-0-0-2", "ip-10-0-0-3"}},
		"NodeClaims too":       {args: []string{"repair", "gpu-ip"}, want: []string{"gpu-ip-10-0-2-1"}},
		"nothing after a node": {args: []string{"repair", "ip-10-0-0-1", ""}},
		"actions":              {args: []string{"repair", "--action", ""}, want: []string{"Replace", "Reboot"}},
		"kinds":                {args: []string{"pause", ""}, want: []string{"node", "nodepool", "policy", "everything"}},
		"NodePools":            {args: []string{"pause", "nodepool", ""}, want: []string{"batch", "default", "gpu"}},
		"policies":             {args: []string{"resume", "policy", "g"}, want: []string{"gpus"}},
		"what was repaired":    {args: []string{"history", ""}, want: []string{"default-ip-10-0-0-1-1"}},
		"NodePools of history": {args: []string{"history", "--nodepool", "b"}, want: []string{"batch"}},
		"formats":              {args: []string{"status", "-o", ""}, want: Formats},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newWorld(storm()...).run(t, append([]string{cobra.ShellCompRequestCmd}, test.args...)...)
			require.NoError(t, err)
			lines := strings.Split(strings.TrimSpace(got), "\n")
			require.Equal(t, append(test.want, ":4"), lines)
		})
	}
}

func TestCalledByTheNameThatKubectlAsksItCompletes(t *testing.T) {
	require.Equal(t, []string{"__complete", "pause", ""}, Args([]string{"/usr/local/bin/kubectl_complete-autorepair", "pause", ""}))
	require.Equal(t, []string{"pause", ""}, Args([]string{"/usr/local/bin/kubectl-autorepair", "pause", ""}))
	require.Equal(t, []string{"__complete"}, Args([]string{`kubectl_complete-autorepair.exe`}))
	require.Empty(t, Args(nil))
}
