// Package detector is the port between what looks at nodes and what makes something of it.
package detector

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// Report is the whole current truth of one source about one node: what it no longer states is gone.
type Report struct {
	Source   v1alpha1.Source
	Findings []v1alpha1.Finding
}

// Detector looks at one thing of the node on which it runs.
type Detector interface {
	// Spec is the same for the whole life of the detector.
	Spec() Spec
	// Look states the whole current truth. An error says that it cannot see (its findings become Unknown, never
	// healthy); ErrNotPresent that there is nothing to look at on this node. It may be called again after a panic, and
	// is never called twice at once.
	Look(ctx context.Context) (tracking.Look, error)
}

// Spec is what the agent needs to know of a detector.
type Spec struct {
	// Name of the source in the NodeHealth.
	Name string
	// Categories that the detector can tell about on this node.
	Categories []v1alpha1.Category
	// Interval between looks; they are jittered.
	Interval time.Duration
}

// ErrNotPresent says that what a detector looks at is not on this node, so that the node has no such source.
var ErrNotPresent = errors.New("not present on this node")

// Starter is a Detector with work of its own between looks, such as following a log.
type Starter interface {
	// Start returns at once; what it starts ends with ctx.
	Start(ctx context.Context)
}

// Waker is a Detector that knows when a look is worth while before the interval has passed.
type Waker interface {
	// Wake gives a channel of capacity one, which holds a value while there is something new.
	Wake() <-chan struct{}
}

// Resumer is a Detector that goes on where it was after a restart of the agent.
type Resumer interface {
	// Cursor is where it is now: small, and valid JSON.
	Cursor() json.RawMessage
	// Resume is called before Start and the first Look, with what Cursor gave; sameBoot says whether the machine has
	// not been booted since.
	Resume(cursor json.RawMessage, sameBoot bool)
}
