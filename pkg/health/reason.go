package health

import (
	"regexp"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

//go:generate go run ./internal/gen

// ClearsBy is what ends a finding.
type ClearsBy string

const (
	// ClearsByPoll: a look that finds nothing.
	ClearsByPoll ClearsBy = "poll"
	// ClearsByPair: a line or event that says that it is over.
	ClearsByPair ClearsBy = "pair"
	// ClearsByQuiet: nothing seen for a time.
	ClearsByQuiet ClearsBy = "quiet"
	// ClearsByBoot: a new boot of the node.
	ClearsByBoot ClearsBy = "boot"
)

// Confirm is what it takes for a fault to count: For without a break, or Count sightings within Within (zero: ever).
// The zero value counts at once.
type Confirm struct {
	For    time.Duration
	Count  int
	Within time.Duration
}

// Clears is what ends a finding: By, or (with pair and quiet) nothing seen for Quiet.
type Clears struct {
	By    ClearsBy
	Quiet time.Duration
}

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
	// FatalFrom is when a Warning becomes Fatal; nil where it never does.
	FatalFrom *Confirm
	// Sources that can see it.
	Sources []string
	Confirm Confirm
	Clears  Clears
	// Action of the default policy once it is Fatal.
	Action v1alpha1.Action
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
