package cluster

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// fewestLeases is the number of leases from which a share of them says something.
const fewestLeases = 3

// Leases counts the leases by which kubelets say that they live.
type Leases struct {
	Total   int
	Expired int
}

// CountLeases counts leases at now. A lease without a time or a duration says nothing.
func CountLeases(leases []coordinationv1.Lease, now time.Time) Leases {
	var out Leases
	for i := range leases {
		spec := leases[i].Spec
		if spec.RenewTime == nil || spec.LeaseDurationSeconds == nil {
			continue
		}
		out.Total++
		if spec.RenewTime.Add(time.Duration(*spec.LeaseDurationSeconds) * time.Second).Before(now) {
			out.Expired++
		}
	}
	return out
}

// MostExpired says that more than half of the leases have expired at once: then the fault lies on the way to the
// API server, and silence says nothing about one node.
func (l Leases) MostExpired() bool { return l.Total >= fewestLeases && 2*l.Expired > l.Total }
