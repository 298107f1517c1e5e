package host_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

func TestBootTime(t *testing.T) {
	for name, tc := range map[string]struct {
		stat string
		want time.Time
	}{
		"as the kernel writes it": {stat: "cpu  1 2 3\nbtime 1700000000\nprocesses 5\n", want: time.Unix(1700000000, 0)},
		"without it":              {stat: "cpu  1 2 3\n"},
		"not as a number":         {stat: "btime soon\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := host.New(t.TempDir())
			require.NoError(t, os.Mkdir(h.Path("proc"), 0o700))
			require.NoError(t, os.WriteFile(h.Path("proc/stat"), []byte(tc.stat), 0o600))
			got, err := h.BootTime()
			require.Equal(t, tc.want.IsZero(), err != nil)
			require.True(t, tc.want.Equal(got))
		})
	}
	_, err := host.New(t.TempDir()).BootTime()
	require.ErrorIs(t, err, os.ErrNotExist)
}
