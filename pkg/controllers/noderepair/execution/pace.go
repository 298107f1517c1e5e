package execution

import (
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// conflictPause lets the cache catch up after a conflict.
const conflictPause = 50 * time.Millisecond

// Errors are tried again quickly at first: most are of a moment, and a fenced node waits meanwhile.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

func rateLimiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)
}
