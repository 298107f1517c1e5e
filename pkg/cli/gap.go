package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
)

// Gap is something that could not be read.
type Gap struct {
	// Resource as kubectl names it, for example nodehealths.autorepair.sh.
	Resource string `json:"resource"`
	// Problem is one sentence: what is missing in the answer, and what to do about it.
	Problem string `json:"problem"`
}

// missingKinds say what to do where a group of the API is not there.
var missingKinds = map[string]string{
	"karpenter.sh":  "Karpenter (1.3 or later) is not installed in this cluster, or --context names another: install it, or see kubectl config get-contexts",
	"autorepair.sh": "karpenter-autorepair is not installed in this cluster, or --context names another: install its charts (autorepair-crd first), or see kubectl config get-contexts",
}

// gapOf sorts what went wrong with a read: nothing, a gap, or that nothing can be said at all.
func gapOf(server, resource string, err error) (*Gap, error) {
	_, group, _ := strings.Cut(resource, ".")
	switch {
	case err == nil:
		return nil, nil //nolint:nilnil // neither a gap nor an error
	case apierrors.IsForbidden(err):
		return &Gap{Resource: resource, Problem: fmt.Sprintf("you may not read %s, so what depends on them is left out: ask for a ClusterRole with get, list and watch on them (%s)",
			resource, reasonOf(err))}, nil
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
		if hint, ok := missingKinds[group]; ok {
			return nil, fmt.Errorf("the API server %s does not know %s: %s", server, resource, hint)
		}
		return &Gap{Resource: resource, Problem: fmt.Sprintf("the API server does not know %s, so what depends on them is left out", resource)}, nil
	case apierrors.IsUnauthorized(err):
		return nil, fmt.Errorf("the API server %s does not know who you are: log in again, or choose another --context (%w)", server, err)
	default:
		return nil, fmt.Errorf("reading %s from %s, %w", resource, server, err)
	}
}

// reasonOf gives the words of the API server itself.
func reasonOf(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Message != "" {
		return status.Status().Message
	}
	return err.Error()
}

// TellGaps says on standard error what could not be read.
func (o *Options) TellGaps(fleet *Fleet) {
	for _, gap := range fleet.Gaps {
		fmt.Fprintln(o.ErrOut, o.colours().paint(yellow, "Warning:"), gap.Problem)
	}
}

// lacks says whether a resource could not be read.
func (f *Fleet) lacks(resource string) bool {
	return slices.ContainsFunc(f.Gaps, func(gap Gap) bool { return gap.Resource == resource })
}
