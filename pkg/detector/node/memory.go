package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	memoryInterval = time.Minute
	// memoryMaxControllers and memoryMaxModules bound what is read; the largest machines have some dozen and hundred.
	memoryMaxControllers = 64
	memoryMaxModules     = 64
)

// MemoryErrors sees what the memory controllers count (EDAC). Errors that could not be corrected stand until the next
// boot, also those from before the agent came: the counters begin with the boot, and the module stays broken. Of
// those that were corrected only what comes while the agent looks is told.
type MemoryErrors struct {
	host      host.Host
	clock     clock.Clock
	corrected map[string]int64 // by controller
}

var _ detector.Resumer = &MemoryErrors{}

// NewMemoryErrors reads sysfs.
func NewMemoryErrors(h host.Host, clk clock.Clock) *MemoryErrors {
	return &MemoryErrors{host: h, clock: clk, corrected: map[string]int64{}}
}

// Spec is the same for the whole life of the detector.
func (m *MemoryErrors) Spec() detector.Spec {
	return detector.Spec{Name: "memory-errors", Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}, Interval: memoryInterval}
}

// Cursor is how many errors had been corrected.
func (m *MemoryErrors) Cursor() json.RawMessage {
	text, err := json.Marshal(m.corrected)
	if err != nil {
		return nil
	}
	return text
}

// Resume goes on counting within one boot.
func (m *MemoryErrors) Resume(cursor json.RawMessage, sameBoot bool) {
	var corrected map[string]int64
	if !sameBoot || json.Unmarshal(cursor, &corrected) != nil || corrected == nil {
		return
	}
	m.corrected = corrected
}

var memoryController = regexp.MustCompile(`^mc\d+$`) // mc0

// Look states which controllers have counted errors.
func (m *MemoryErrors) Look(context.Context) (tracking.Look, error) {
	folder := m.host.Path("sys/devices/system/edac/mc")
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return tracking.Look{}, detector.ErrNotPresent
	}
	if err != nil {
		return tracking.Look{}, fmt.Errorf("listing memory controllers, %w", err)
	}
	look := tracking.Look{}
	corrected := map[string]int64{}
	for _, entry := range entries {
		if !memoryController.MatchString(entry.Name()) {
			continue
		}
		if len(corrected) == memoryMaxControllers {
			look.Degraded = fmt.Sprintf("Only %d memory controllers are looked at.", memoryMaxControllers)
			break
		}
		if corrected[entry.Name()], err = m.controller(filepath.Join(folder, entry.Name()), &look); err != nil {
			return tracking.Look{}, fmt.Errorf("reading memory controller %s, %w", entry.Name(), err)
		}
	}
	if len(corrected) == 0 {
		return tracking.Look{}, detector.ErrNotPresent
	}
	m.corrected = corrected
	return look, nil
}

// controller adds what one controller tells to the look, and gives its count of corrected errors.
func (m *MemoryErrors) controller(folder string, look *tracking.Look) (int64, error) {
	uncorrected, err := memoryCount(filepath.Join(folder, "ue_count"))
	if err != nil {
		return 0, err
	}
	corrected, err := memoryCount(filepath.Join(folder, "ce_count"))
	if err != nil {
		return 0, err
	}
	name := filepath.Base(folder)
	subject := strings.ToUpper(name) // as the kernel log calls it
	if uncorrected > 0 {
		look.Faults = append(look.Faults, tracking.Fault{
			Reason: health.ReasonHardwareErrorFatal, Subject: subject,
			Message:  fmt.Sprintf("The memory controller %s has counted errors in this boot that it could not correct.", subject),
			Evidence: append([]string{fmt.Sprintf("ue_count: %d", uncorrected)}, memoryModules(folder, "dimm_ue_count", 4)...),
		})
	}
	// A counter that is lower than before has been set to zero: the next look is the first again.
	if before, known := m.corrected[name]; known && corrected > before {
		sighting := tracking.Sighting{
			Reason: health.ReasonHardwareErrorCorrected, Subject: subject, At: m.clock.Now(), Count: corrected - before,
			Message:  fmt.Sprintf("The memory controller %s corrects errors.", subject),
			Evidence: fmt.Sprintf("ce_count: %d, %d before", corrected, before),
		}
		if modules := memoryModules(folder, "dimm_ce_count", 1); len(modules) > 0 {
			sighting.Evidence += "; " + modules[0]
		}
		look.Sightings = append(look.Sightings, sighting)
	}
	return corrected, nil
}

// memoryModules names the modules that have counted, at most so many of them. They are only evidence: what cannot be
// read of them is left out.
func memoryModules(folder, counter string, most int) []string {
	var told []string
	for i := range memoryMaxModules {
		module := filepath.Join(folder, fmt.Sprintf("dimm%d", i))
		count, err := memoryCount(filepath.Join(module, counter))
		if err != nil || count == 0 {
			continue
		}
		label, err := disksText(filepath.Join(module, "dimm_label"))
		if err != nil || label == "" {
			label = filepath.Base(module)
		}
		if told = append(told, fmt.Sprintf("%s: %d", health.Shorten(label, 128), count)); len(told) == most {
			break
		}
	}
	return told
}

func memoryCount(path string) (int64, error) {
	text, err := disksText(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}
