package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// invocation is a call of the plugin, as a document shows it: its command, and what follows.
var invocation = regexp.MustCompile(`kubectl[ -]autorepair ([a-z]+)([^` + "`" + `#|\n]*)`)

var flag = regexp.MustCompile(`--[a-z-]+`)

// Every command of the plugin that is shown exists, and has the flags that it is shown with.
func TestCommandsOfThePluginAreThoseThatItHas(t *testing.T) {
	binary, err := cluster.Binary("kubectl-autorepair")
	require.NoError(t, err)
	if _, err := os.Stat(binary); err != nil {
		t.Skip("SKIPPED: bin/kubectl-autorepair is not built: run make build")
	}
	root := root(t)
	files, err := Files(root)
	require.NoError(t, err)
	help := map[string]string{}
	for _, file := range files {
		for _, found := range invocation.FindAllStringSubmatch(readFile(t, filepath.Join(root, file)), -1) {
			command, rest := found[1], found[2]
			if _, asked := help[command]; !asked {
				// Of a command that it does not have the plugin says so.
				out, _ := exec.CommandContext(t.Context(), binary, command, "--help").CombinedOutput()
				help[command] = string(out)
			}
			if !strings.Contains(help[command], "Usage:\n  kubectl autorepair "+command) {
				t.Errorf("%s shows %q, which the plugin does not have", file, strings.TrimSpace(found[0]))
				continue
			}
			for _, name := range flag.FindAllString(rest, -1) {
				if !strings.Contains(help[command], name) {
					t.Errorf("%s shows %q, but the command has no flag %s", file, strings.TrimSpace(found[0]), name)
				}
			}
		}
	}
	require.NotEmpty(t, help)

	// And its page leaves none out.
	out, err := exec.CommandContext(t.Context(), binary, "--help").Output()
	require.NoError(t, err)
	page := readFile(t, filepath.Join(root, "docs", "cli.md"))
	_, commands, _ := strings.Cut(string(out), "Available Commands:\n")
	commands, _, _ = strings.Cut(commands, "\n\n")
	for _, line := range strings.Split(commands, "\n") {
		command := strings.Fields(line)[0]
		require.Contains(t, page, "`"+command, "docs/cli.md does not speak of it")
	}
}
