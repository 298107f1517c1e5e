package health

import (
	"regexp"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health/notation"
)

//go:generate go run ./internal/gen

// ClearsBy is what ends a finding.
type ClearsBy = notation.ClearsBy

// What ends a finding.
const (
	ClearsByPoll  = notation.ByPoll
	ClearsByPair  = notation.ByPair
	ClearsByQuiet = notation.ByQuiet
	ClearsByBoot  = notation.ByBoot
)

// Confirm is what it takes for a fault to count.
type Confirm = notation.Confirm

// Clears is what ends a finding.
type Clears = notation.Clears

// Reason is one entry of the catalogue, reasons.yaml.
type Reason struct {
	// Name as findings have it; of a family of reasons the name with <n> in the place of a number.
	Name string
	// Pattern is the expression that the whole reason matches; empty where Name is the reason.
	Pattern string
	// Example of a reason that Pattern is there for.
	Example  string
	Category v1alpha1.Category
	Severity v1alpha1.Severity
	// OfNodeFilesystem says that Fatal holds on the filesystem of the root, the kubelet or the container runtime alone; on
	// any other it is a Warning.
	OfNodeFilesystem bool
	// FatalFrom is when a Warning becomes Fatal; nil where it never does.
	FatalFrom *Confirm
	// Sources that can see it.
	Sources []string
	Confirm Confirm
	Clears  Clears
	// Action of the default policy once it is Fatal.
	Action v1alpha1.Action
	// Sample is what fires it, in a sentence or as the log line that it is.
	Sample string
	// RebootMayCure: a policy may choose Reboot.
	RebootMayCure bool
	// Explanation, Remedy and Threshold are sentences for people: what it means, what to do, where the number comes from.
	Explanation string
	Remedy      string
	Threshold   string
}

type family struct {
	pattern *regexp.Regexp
	reason  Reason
}

var byName, families = index()

func index() (map[string]Reason, []family) {
	names := make(map[string]Reason, len(Reasons))
	var patterns []family
	for _, r := range Reasons {
		if r.Pattern == "" {
			names[r.Name] = r
			continue
		}
		patterns = append(patterns, family{pattern: regexp.MustCompile(`\A(?:` + r.Pattern + `)\z`), reason: r})
	}
	return names, patterns
}

// Lookup finds a finding's reason in the catalogue; of several families that match, the first in reasons.yaml. false
// where the catalogue does not have it, which is no error: users map conditions of their own to reasons of their own.
func Lookup(reason string) (Reason, bool) {
	if r, ok := byName[reason]; ok {
		return r, true
	}
	for _, f := range families {
		if f.pattern.MatchString(reason) {
			return f.reason, true
		}
	}
	return Reason{}, false
}
