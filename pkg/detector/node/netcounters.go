package node

import (
	"time"
)

// netCounters remembers counters of the network between looks.
type netCounters struct {
	interval time.Duration
	before   map[string]netCount
	seen     map[string]netCount
}

type netCount struct {
	value uint64
	at    time.Time
}

func newNetCounters(interval time.Duration) *netCounters {
	return &netCounters{interval: interval, before: map[string]netCount{}, seen: map[string]netCount{}}
}

// rise since the look before, and whether it is more than most per interval. The first sample is only a baseline, and
// so is one that is lower than the last: the counter was reset (a driver loaded again) or has wrapped.
func (c *netCounters) rise(key string, value uint64, now time.Time, most uint64) (rise uint64, tooFast bool) {
	c.seen[key] = netCount{value: value, at: now}
	before, known := c.before[key]
	if !known || value < before.value {
		return 0, false
	}
	rise = value - before.value
	// A look that comes late sees the rise of a longer time.
	intervals := max(1, float64(now.Sub(before.at))/float64(c.interval))
	return rise, float64(rise) > float64(most)*intervals
}

// looked ends a look: counters that were not there are forgotten, so that a card which comes back starts anew.
func (c *netCounters) looked() {
	c.before, c.seen = c.seen, c.before
	clear(c.seen)
}
