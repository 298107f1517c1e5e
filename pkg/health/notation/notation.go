// Package notation reads what people write in reasons.yaml and in the agent's configuration: how often a fault must be
// seen, what ends it, and which log lines mean it. It stands below package health, so that the generator of that
// package's files needs none of them.
package notation

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ClearsBy is what ends a finding.
type ClearsBy string

const (
	// ByPoll: a look that finds nothing.
	ByPoll ClearsBy = "poll"
	// ByPair: a line or event that says that it is over.
	ByPair ClearsBy = "pair"
	// ByQuiet: nothing seen for a time.
	ByQuiet ClearsBy = "quiet"
	// ByBoot: a new boot of the node.
	ByBoot ClearsBy = "boot"
)

// Confirm is what it takes for a fault to count: For without a break, or Count sightings within Within (zero: ever).
// The zero value counts at once.
type Confirm struct {
	For    time.Duration
	Count  int
	Within time.Duration
}

// AtOnce says whether a single sighting is enough.
func (c Confirm) AtOnce() bool { return c.For == 0 && c.Count <= 1 }

// String writes it as ParseConfirm reads it; "N polls" becomes N.
func (c Confirm) String() string {
	switch {
	case c.Count == 0:
		return Short(c.For)
	case c.Within > 0:
		return fmt.Sprintf("%d in %s", c.Count, Short(c.Within))
	default:
		return strconv.Itoa(c.Count)
	}
}

// Clears is what ends a finding: By, or (with pair and quiet) nothing seen for Quiet.
type Clears struct {
	By    ClearsBy
	Quiet time.Duration
}

// String writes it as ParseClears reads it.
func (c Clears) String() string {
	switch {
	case c.By == ByQuiet:
		return "quiet " + Short(c.Quiet)
	case c.Quiet > 0:
		return string(c.By) + ", quiet " + Short(c.Quiet)
	default:
		return string(c.By)
	}
}

var (
	errConfirm = errors.New(`write a duration, N, N in DURATION, or N polls, for example "30s", "1" or "3 in 10m"`)
	errClears  = errors.New(`write poll, boot, pair, quiet DURATION, or pair, quiet DURATION, for example "quiet 15m"`)
)

// ParseConfirm reads "10s", "3", "3 in 10m" or "2 polls".
func ParseConfirm(s string) (Confirm, error) {
	fields := strings.Fields(s)
	if len(fields) == 1 {
		if d, err := time.ParseDuration(s); err == nil && d >= 0 {
			return Confirm{For: d}, nil
		}
	}
	if len(fields) == 0 || len(fields) > 3 {
		return Confirm{}, fmt.Errorf("%q: %w", s, errConfirm)
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil || n < 1 {
		return Confirm{}, fmt.Errorf("%q: %w", s, errConfirm)
	}
	switch {
	case len(fields) == 1, len(fields) == 2 && fields[1] == "polls":
		return Confirm{Count: n}, nil
	case len(fields) == 3 && fields[1] == "in":
		if d, err := time.ParseDuration(fields[2]); err == nil && d > 0 {
			return Confirm{Count: n, Within: d}, nil
		}
	}
	return Confirm{}, fmt.Errorf("%q: %w", s, errConfirm)
}

// ParseClears reads "poll", "boot", "pair", "quiet 10m" or "pair, quiet 10m".
func ParseClears(s string) (Clears, error) {
	by, rest, both := strings.Cut(s, ", ")
	switch {
	case s == string(ByPoll) || s == string(ByBoot) || s == string(ByPair):
		return Clears{By: ClearsBy(s)}, nil
	case both && by != string(ByPair):
		return Clears{}, fmt.Errorf("%q: only pair may be followed by quiet", s)
	case !both:
		by, rest = string(ByQuiet), s
	}
	quiet, ok := strings.CutPrefix(rest, "quiet ")
	if !ok {
		return Clears{}, fmt.Errorf("%q: %w", s, errClears)
	}
	d, err := time.ParseDuration(quiet)
	if err != nil || d <= 0 {
		return Clears{}, fmt.Errorf("%q: %w", s, errClears)
	}
	return Clears{By: ClearsBy(by), Quiet: d}, nil
}

// Short writes a duration without zeros that say nothing: 10m, not 10m0s.
func Short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
