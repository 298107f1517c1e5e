package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
)

// What the help shows is a configuration that the agent takes in, and that changes what it says it does.
func TestTheExampleOfTheHelpIsAConfiguration(t *testing.T) {
	config, err := agent.ParseConfig([]byte(configExample))
	require.NoError(t, err)
	require.Equal(t, []string{"network-settings"}, config.Detectors.Disabled)
	require.True(t, config.Catalogue.Off("OOMKilling"))
	match, ok := config.Catalogue.Match("kmsg", "acmeraid raid7: smoke detected")
	require.True(t, ok)
	require.Equal(t, "DiskOnFire", match.Reason)
	require.Equal(t, "raid7", match.Subject)
	_, ok = config.Catalogue.Match("kmsg", "acmeraid raid7: smoke test passed")
	require.False(t, ok)
}
