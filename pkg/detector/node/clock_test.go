package node

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

func TestTheClock(t *testing.T) {
	for name, tc := range map[string]struct {
		status int32
		state  int
		err    error
		want   bool
	}{
		"a clock that nothing keeps":            {status: unix.STA_UNSYNC, state: unix.TIME_ERROR, want: true},
		"a clock that is kept":                  {status: unix.STA_PLL},
		"a kept clock on the day of a leap":     {status: unix.STA_PLL | unix.STA_INS, state: unix.TIME_INS},
		"a kept clock that waits for its pulse": {status: unix.STA_PPSTIME, state: unix.TIME_ERROR},
		"a kernel that does not say":            {err: unix.ENOSYS},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewClock()
			c.adjtimex = func(ask *unix.Timex) (int, error) {
				require.Zero(t, ask.Modes, "it only asks")
				ask.Status = tc.status
				return tc.state, tc.err
			}
			look, err := c.Look(context.Background())
			if tc.err != nil {
				require.ErrorIs(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			if !tc.want {
				require.Empty(t, look.Faults)
				return
			}
			require.Len(t, look.Faults, 1)
			require.Equal(t, health.ReasonClockUnsynchronized, look.Faults[0].Reason)
		})
	}
}

func TestTheRunningKernelSaysHowItsClockIs(t *testing.T) {
	look, err := NewClock().Look(context.Background())
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skipf("this kernel does not let itself be asked: %v", err)
	}
	require.NoError(t, err)
	require.LessOrEqual(t, len(look.Faults), 1)
}
