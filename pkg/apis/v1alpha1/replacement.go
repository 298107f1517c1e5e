package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LaunchWithin is launchTimeout, or its default where the API server has not filled it in: 90 s.
func (in *ReplacementSpec) LaunchWithin() time.Duration {
	return orElse(in.LaunchTimeout, 90*time.Second)
}

// InitializeWithin is initializeTimeout, or its default where the API server has not filled it in: 15 minutes.
func (in *ReplacementSpec) InitializeWithin() time.Duration {
	return orElse(in.InitializeTimeout, 15*time.Minute)
}

// WatchFor is verifyFor, or its default where the API server has not filled it in: 5 minutes.
func (in *ReplacementSpec) WatchFor() time.Duration { return orElse(in.VerifyFor, 5*time.Minute) }

func orElse(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.Duration
}
