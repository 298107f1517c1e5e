package snapshot

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestSoManyRebootsAreNoted(t *testing.T) {
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	list := ""
	for i := range 12 {
		list = NoteReboot(list, first.Add(time.Duration(i)*time.Hour))
	}
	times := strings.Split(list, ",")
	require.Len(t, times, v1alpha1.MaxReboots)
	require.Equal(t, "2026-01-02T05:04:05Z", times[0], "the oldest went")
}
