package node

import (
	"errors"
	"maps"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// recordedStats are what `ethtool -S` gives, by card.
type recordedStats map[string]map[string]uint64

func (s recordedStats) Stats(card string) (map[string]uint64, error) {
	values, known := s[card]
	if !known {
		return nil, errors.New("no such device")
	}
	return maps.Clone(values), nil
}

func TestCardCounters(t *testing.T) {
	const conntrack = "conntrack_allowance_exceeded"
	type sample struct {
		after  time.Duration
		counts map[string]uint64
	}
	once := func(counter string, values ...uint64) []sample {
		var samples []sample
		for _, v := range values {
			samples = append(samples, sample{time.Minute, map[string]uint64{counter: v}})
		}
		return samples
	}
	for name, tc := range map[string]struct {
		samples []sample
		options CardCountersOptions
		// want after the last sample.
		want []string
	}{
		"a first sample is only a baseline, however high":   {samples: once(conntrack, math.MaxUint64)},
		"a counter that stands still":                       {samples: once(conntrack, 5_000_000, 5_000_000)},
		"a counter that creeps":                             {samples: once(conntrack, 1000, 1100)},
		"a counter that was reset":                          {samples: once(conntrack, 1_000_000, 0)},
		"a counter that was reset and counts on":            {samples: once(conntrack, 1_000_000, 5000)},
		"a counter that wraps to zero":                      {samples: once(conntrack, math.MaxUint64, 0)},
		"a counter that rises after a reset":                {samples: once(conntrack, 1_000_000, 0, 101), want: []string{"ConntrackExceeded eth0: conntrack_allowance_exceeded rose by 101 to 101"}},
		"tracked connections":                               {samples: once(conntrack, 1000, 1101), want: []string{"ConntrackExceeded eth0: conntrack_allowance_exceeded rose by 101 to 1101"}},
		"packets per second":                                {samples: once("pps_allowance_exceeded", 0, 321), want: []string{"PPSExceeded eth0: pps_allowance_exceeded rose by 321 to 321"}},
		"packets per second, as many as pass":               {samples: once("pps_allowance_exceeded", 0, 320)},
		"inbound bandwidth":                                 {samples: once("bw_in_allowance_exceeded", 0, 181), want: []string{"BandwidthInExceeded eth0: bw_in_allowance_exceeded rose by 181 to 181"}},
		"outbound bandwidth":                                {samples: once("bw_out_allowance_exceeded", 0, 101), want: []string{"BandwidthOutExceeded eth0: bw_out_allowance_exceeded rose by 101 to 101"}},
		"link-local services":                               {samples: once("linklocal_allowance_exceeded", 0, 101), want: []string{"LinkLocalExceeded eth0: linklocal_allowance_exceeded rose by 101 to 101"}},
		"a counter of the allowance that is left":           {samples: once("conntrack_allowance_available", 0, 136812)},
		"a look that comes late sees the rise of more time": {samples: []sample{{0, map[string]uint64{conntrack: 0}}, {10 * time.Minute, map[string]uint64{conntrack: 1000}}}},
		"a threshold of one's own": {
			samples: once(conntrack, 0, 11), options: CardCountersOptions{Thresholds: map[string]uint64{"ConntrackExceeded": 10}},
			want: []string{"ConntrackExceeded eth0: conntrack_allowance_exceeded rose by 11 to 11"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			recordedCard(t, root, "eth0", "ena", false)
			recordedCard(t, root, "eth9", "mlx5_core", false)
			stats, clk := recordedStats{}, clocktesting.NewFakePassiveClock(time.Now())
			c, err := NewCardCounters(host.New(root), clk, tc.options, stats)
			require.NoError(t, err)
			var got []string
			for _, s := range tc.samples {
				clk.SetTime(clk.Now().Add(s.after))
				stats["eth0"] = maps.Clone(s.counts)
				if _, has := s.counts[conntrack]; !has {
					stats["eth0"][conntrack] = 0 // every ENA card has it
				}
				look := netLook(t, c)
				got = nil
				for _, s := range look.Sightings {
					got = append(got, s.Reason+" "+s.Subject+": "+s.Evidence)
				}
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestCardCountersOfACardThatComesBackStartAnew(t *testing.T) {
	root := t.TempDir()
	recordedCard(t, root, "eth0", "ena", false)
	recordedCard(t, root, "eth1", "ena", false)
	counts := func(n uint64) map[string]uint64 { return map[string]uint64{"pps_allowance_exceeded": n} }
	stats := recordedStats{"eth0": counts(0), "eth1": counts(0)}
	c, err := NewCardCounters(host.New(root), clocktesting.NewFakePassiveClock(time.Now()), CardCountersOptions{}, stats)
	require.NoError(t, err)
	require.Empty(t, netLook(t, c).Sightings)

	delete(stats, "eth1")
	look, err := c.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, "reading counters of eth1, no such device", look.Degraded)
	require.NoError(t, os.RemoveAll(host.New(root).Path("sys/class/net/eth1")))
	require.Empty(t, netLook(t, c).Sightings)

	recordedCard(t, root, "eth1", "ena", false)
	stats["eth1"] = counts(1_000_000)
	require.Empty(t, netLook(t, c).Sightings)
	require.Len(t, c.counters.before, 2)
}

func TestCardCountersWhereThereIsNothingToSee(t *testing.T) {
	root := t.TempDir()
	clk := clocktesting.NewFakePassiveClock(time.Now())
	c, err := NewCardCounters(host.New(root), clk, CardCountersOptions{}, recordedStats{})
	require.NoError(t, err)
	_, err = c.Look(t.Context())
	require.ErrorIs(t, err, detector.ErrNotPresent, "no sysfs")

	recordedCard(t, root, "eth0", "virtio_net", false)
	_, err = c.Look(t.Context())
	require.ErrorIs(t, err, detector.ErrNotPresent, "no card of that driver")

	recordedCard(t, root, "eth1", "ena", false)
	_, err = c.Look(t.Context())
	require.EqualError(t, err, "reading counters of eth1, no such device")
	require.NotErrorIs(t, err, detector.ErrNotPresent, "a card that cannot be read is not healthy")

	c, err = NewCardCounters(host.New(root), clk, CardCountersOptions{}, recordedStats{"eth1": {"total_resets": 1}})
	require.NoError(t, err)
	_, err = c.Look(t.Context())
	require.ErrorIs(t, err, detector.ErrNotPresent, "an old driver without such counters")

	_, err = NewCardCounters(host.New(root), clk, CardCountersOptions{Thresholds: map[string]uint64{"PpsExceeded": 1}}, nil)
	require.EqualError(t, err, `reading thresholds of the card counters, "PpsExceeded" is none of their reasons`)
}

// A real card of this kernel, read by the ioctl that the product uses.
func TestCardCountersReadsRealCards(t *testing.T) {
	s := newNetSpace(t)
	s.veth("card0", "peer0")
	s.inside(func() {
		values, err := ethtoolStats{}.Stats("card0")
		require.NoError(t, err)
		require.Contains(t, values, "peer_ifindex")
	})
}
