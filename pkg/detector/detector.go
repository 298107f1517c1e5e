// Package detector is the port between what looks at nodes and what makes something of it.
package detector

import (
	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Report is the whole current truth of one source about one node: what it no longer states is gone.
type Report struct {
	Source   v1alpha1.Source
	Findings []v1alpha1.Finding
}
