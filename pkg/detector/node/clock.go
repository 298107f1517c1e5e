package node

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const clockInterval = time.Minute

// Clock sees that nothing keeps the node's clock right.
type Clock struct {
	// adjtimex only asks: it needs no privilege, and a container has the machine's clock.
	adjtimex func(*unix.Timex) (state int, err error)
}

// NewClock asks the running kernel.
func NewClock() *Clock {
	return &Clock{adjtimex: unix.Adjtimex}
}

// Spec is the same for the whole life of the detector.
func (c *Clock) Spec() detector.Spec {
	return detector.Spec{Name: "clock", Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}, Interval: clockInterval}
}

// Look states whether the kernel calls its clock unsynchronized. It does so from boot on until a time service says
// otherwise, and again once its estimate of the error has grown to 16 seconds.
func (c *Clock) Look(context.Context) (tracking.Look, error) {
	var ask unix.Timex
	state, err := c.adjtimex(&ask)
	if err != nil {
		return tracking.Look{}, fmt.Errorf("asking for the state of the clock, %w", err)
	}
	// The return value is TIME_ERROR for lost pulses too, which a clock without pulses does not care for.
	if ask.Status&unix.STA_UNSYNC == 0 {
		return tracking.Look{}, nil
	}
	return tracking.Look{Faults: []tracking.Fault{{
		Reason:   health.ReasonClockUnsynchronized,
		Message:  "The clock is not synchronized.",
		Evidence: []string{fmt.Sprintf("adjtimex: state %d, status 0x%x", state, ask.Status)},
	}}}, nil
}
