package node

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const edac = "sys/devices/system/edac/mc/"

func memoryMachine(t *testing.T, files map[string]string) string {
	t.Helper()
	recorded := map[string]string{
		edac + "mc0/ue_count":            "0\n",
		edac + "mc0/ce_count":            "0\n",
		edac + "mc0/dimm0/dimm_label":    "CPU_SrcID#0_MC#0_Chan#0_DIMM#0\n",
		edac + "mc0/dimm0/dimm_ue_count": "0\n",
		edac + "mc0/dimm0/dimm_ce_count": "0\n",
		edac + "mc1/ue_count":            "0\n",
		edac + "mc1/ce_count":            "0\n",
		edac + "power/control":           "auto\n",
	}
	for name, content := range files {
		recorded[edac+name] = content
	}
	return tree(t, recorded)
}

func memoryOn(root string) *MemoryErrors {
	return NewMemoryErrors(host.New(root), clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
}

func TestAnErrorThatCouldNotBeCorrectedStandsForItsBoot(t *testing.T) {
	m := memoryOn(memoryMachine(t, map[string]string{"mc0/ue_count": "2\n", "mc0/dimm0/dimm_ue_count": "2\n"}))
	for range 2 {
		look, err := m.Look(context.Background())
		require.NoError(t, err)
		require.Equal(t, []tracking.Fault{{
			Reason: health.ReasonHardwareErrorFatal, Subject: "MC0",
			Message:  "The memory controller MC0 has counted errors in this boot that it could not correct.",
			Evidence: []string{"ue_count: 2", "CPU_SrcID#0_MC#0_Chan#0_DIMM#0: 2"},
		}}, look.Faults)
	}
}

func TestOnlyTheRiseOfCorrectedErrorsIsTold(t *testing.T) {
	root := memoryMachine(t, map[string]string{"mc0/ce_count": "90000\n", "mc0/dimm0/dimm_ce_count": "90000\n"})
	m := memoryOn(root)
	seen := func(m *MemoryErrors, count string) (counts []int64) {
		require.NoError(t, os.WriteFile(filepath.Join(root, edac+"mc0/ce_count"), []byte(count+"\n"), 0o644))
		look, err := m.Look(context.Background())
		require.NoError(t, err)
		require.Empty(t, look.Faults)
		for _, s := range look.Sightings {
			require.Equal(t, health.ReasonHardwareErrorCorrected, s.Reason)
			require.Equal(t, "MC0", s.Subject)
			require.Contains(t, s.Evidence, "DIMM#0")
			counts = append(counts, s.Count)
		}
		return counts
	}
	require.Empty(t, seen(m, "90000"), "the first sample is only a baseline")
	require.Empty(t, seen(m, "90000"))
	require.Equal(t, []int64{7}, seen(m, "90007"))
	require.Empty(t, seen(m, "0"), "somebody set the counter to zero")
	require.Equal(t, []int64{1}, seen(m, "1"))

	again := memoryOn(root)
	again.Resume(m.Cursor(), true)
	require.Equal(t, []int64{2}, seen(again, "3"), "what came while the agent was away is told")
	booted := memoryOn(root)
	booted.Resume(m.Cursor(), false)
	require.Empty(t, seen(booted, "50"), "after a boot the first sample is a baseline again")
	broken := memoryOn(root)
	broken.Resume([]byte(`null`), true)
	require.Empty(t, seen(broken, "60"))
}

func TestWithoutMemoryControllersThereIsNothingToLookAt(t *testing.T) {
	_, err := memoryOn(t.TempDir()).Look(context.Background())
	require.ErrorIs(t, err, detector.ErrNotPresent)
	_, err = memoryOn(tree(t, map[string]string{edac + "power/control": "auto\n"})).Look(context.Background())
	require.ErrorIs(t, err, detector.ErrNotPresent)
	_, err = memoryOn(memoryMachine(t, map[string]string{"mc0/ue_count": "many\n"})).Look(context.Background())
	require.Error(t, err)
}
