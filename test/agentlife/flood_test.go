package agentlife

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A million lines of one fault: one finding that has counted each, in bounded memory, and nothing is left to be read.
func TestAFloodOfKernelLines(t *testing.T) {
	t.Parallel()
	const lines = 1_000_000
	n := newNode(t)
	n.start()
	n.sees("kernel-log")
	require.NoError(t, Flood(n.root, lines, 0))
	n.eventually("the last line is found", func() bool { return n.api.Count("kernel-log", "KernelBug") == 1 })
	require.EqualValues(t, lines, n.api.Count("kernel-log", "OOMKilling"))
	health, _ := n.api.Newest()
	findings := 0
	for _, f := range health.Findings {
		if f.Source == "kernel-log" {
			findings++
		}
	}
	require.Equal(t, 2, findings, "one for the flood, one for its last line: %+v", health.Findings)
	require.Less(t, n.usage().PeakRSS, 64.0, "MiB")
}

// An hour's worth of rotations in quick motion leaves nothing behind in the agent.
func TestRotationsOfLogsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	logs, err := NewServiceLogs(n.root)
	require.NoError(t, err)
	n.start()
	n.sees("kubelet-log")
	n.sees("containerd-log")
	time.Sleep(2 * time.Second)
	before, goroutines := n.usage(), n.goroutines()
	most := 0
	for i := range 500 {
		require.NoError(t, logs.Rotate(i))
		time.Sleep(15 * time.Millisecond)
		most = max(most, n.usage().OpenFiles)
	}
	require.LessOrEqual(t, most, before.OpenFiles+10)
	n.eventually("the old files are let go", func() bool { return n.usage().OpenFiles <= before.OpenFiles+2 })
	n.eventually("no goroutine is left", func() bool { return n.goroutines() <= goroutines+3 })
	require.Less(t, n.usage().PeakRSS, 64.0, "MiB")
}
