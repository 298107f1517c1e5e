package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/safchain/ethtool"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// CardCountersOptions say how many packets a card may drop. The defaults are the bursts that the Amazon EKS Node
// Monitoring Agent lets pass: a few drops a minute are normal on a busy instance.
type CardCountersOptions struct {
	// Interval between looks; default 1 min, our own choice.
	Interval metav1.Duration `json:"interval,omitempty"`
	// Drivers whose cards have allowance counters; default "ena", the only one that has.
	Drivers []string `json:"drivers,omitempty"`
	// Thresholds by reason, in packets dropped per interval: more is a sighting. Default 100 for ConntrackExceeded,
	// BandwidthOutExceeded and LinkLocalExceeded, 180 for BandwidthInExceeded, 320 for PPSExceeded.
	Thresholds map[string]uint64 `json:"thresholds,omitempty"`
}

// CardStats gives the counters of a card by name, as `ethtool -S` lists them.
type CardStats interface {
	Stats(card string) (map[string]uint64, error)
}

// CardCounters sees that the instance exceeds what its type allows, by the counters of its cards. It needs no
// capability: the kernel lets anybody read driver statistics.
type CardCounters struct {
	host       host.Host
	clock      clock.PassiveClock
	interval   time.Duration
	drivers    []string
	thresholds map[string]uint64
	stats      CardStats
	counters   *netCounters
}

// cardAllowances of https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-network-performance-ena.html
var cardAllowances = []struct {
	counter, reason string
	threshold       uint64
	of              string
}{
	{"bw_in_allowance_exceeded", "BandwidthInExceeded", 180, "inbound bandwidth"},
	{"bw_out_allowance_exceeded", "BandwidthOutExceeded", 100, "outbound bandwidth"},
	{"conntrack_allowance_exceeded", "ConntrackExceeded", 100, "tracked connections"},
	{"linklocal_allowance_exceeded", "LinkLocalExceeded", 100, "packets to link-local services (DNS, metadata, time)"},
	{"pps_allowance_exceeded", "PPSExceeded", 320, "packets per second"},
}

// NewCardCounters reads through ethtool where stats is nil. It gives an error where a threshold is for a reason that
// it does not know.
func NewCardCounters(h host.Host, clk clock.PassiveClock, o CardCountersOptions, stats CardStats) (*CardCounters, error) {
	c := &CardCounters{
		host: h, clock: clk, interval: netInterval(o.Interval, time.Minute), drivers: o.Drivers, stats: stats,
		thresholds: map[string]uint64{},
	}
	if len(c.drivers) == 0 {
		c.drivers = []string{"ena"}
	}
	if c.stats == nil {
		c.stats = ethtoolStats{}
	}
	for _, a := range cardAllowances {
		c.thresholds[a.reason] = a.threshold
	}
	for reason, threshold := range o.Thresholds {
		if _, known := c.thresholds[reason]; !known {
			return nil, fmt.Errorf("reading thresholds of the card counters, %q is none of their reasons", reason)
		}
		c.thresholds[reason] = threshold
	}
	c.counters = newNetCounters(c.interval)
	return c, nil
}

// Spec of the source card-counters.
func (c *CardCounters) Spec() detector.Spec {
	return detector.Spec{Name: "card-counters", Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}, Interval: c.interval}
}

// Look reads the counters of each card.
func (c *CardCounters) Look(context.Context) (tracking.Look, error) {
	cards, err := c.cards()
	if err != nil {
		return tracking.Look{}, err
	}
	var look tracking.Look
	var failures []error
	counted := false
	for _, card := range cards {
		values, err := c.stats.Stats(card)
		if err != nil {
			failures = append(failures, fmt.Errorf("reading counters of %s, %w", card, err))
			continue
		}
		for _, a := range cardAllowances {
			if value, has := values[a.counter]; has {
				counted = true
				look.Sightings = append(look.Sightings, c.sightings(card, a.counter, a.reason, a.of, value)...)
			}
		}
	}
	c.counters.looked()
	switch err := errors.Join(failures...); {
	case len(cards) > 0 && len(failures) == len(cards):
		return tracking.Look{}, err
	case err != nil:
		look.Degraded = err.Error()
	case !counted:
		return tracking.Look{}, fmt.Errorf("no card with counters of its allowances, %w", detector.ErrNotPresent)
	}
	return look, nil
}

func (c *CardCounters) sightings(card, counter, reason, of string, value uint64) []tracking.Sighting {
	now := c.clock.Now()
	rise, tooFast := c.counters.rise(card+" "+counter, value, now, c.thresholds[reason])
	if !tooFast {
		return nil
	}
	return []tracking.Sighting{{
		Reason: reason, Subject: card, At: now,
		Message:  fmt.Sprintf("%s exceeds the instance's allowance of %s and drops packets", card, of),
		Evidence: fmt.Sprintf("%s rose by %d to %d", counter, rise, value),
	}}
}

// maxCounterCards bounds the memory; the largest instances have some 60 cards.
const maxCounterCards = 128

// cards by the driver that sysfs names, so that the thousands of links of pods cost no question of their driver.
func (c *CardCounters) cards() ([]string, error) {
	entries, err := os.ReadDir(c.host.Path("sys/class/net"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no network in sysfs, %w", detector.ErrNotPresent)
	}
	if err != nil {
		return nil, fmt.Errorf("listing network cards, %w", err)
	}
	var cards []string
	for _, e := range entries {
		driver, err := os.Readlink(c.host.Path("sys/class/net", e.Name(), "device/driver"))
		if err == nil && slices.Contains(c.drivers, filepath.Base(driver)) && len(cards) < maxCounterCards {
			cards = append(cards, e.Name())
		}
	}
	return cards, nil
}

// ethtoolStats opens a socket for each card: a look comes once a minute.
type ethtoolStats struct{}

func (ethtoolStats) Stats(card string) (map[string]uint64, error) {
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return nil, err
	}
	defer tool.Close()
	return tool.Stats(card)
}
