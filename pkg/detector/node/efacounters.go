package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// efaErrors are the counters of an Elastic Fabric Adapter that only faults let rise, below
// /sys/class/infiniband/DEVICE/ports/PORT/hw_counters. Packets that were sent again and arrived are no fault. From
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-working-monitor.html
var efaErrors = []string{
	"rdma_read_wr_err", "rdma_write_wr_err", "unresponsive_remote_events", "impaired_remote_conn_events",
	"retrans_timeout_events", "rx_drops",
}

// maxEFAPorts bounds the memory; the largest instances have 32 adapters of one port.
const maxEFAPorts = 128

// efaCounters sees that adapters count errors.
type efaCounters struct {
	host      host.Host
	threshold uint64
	counters  *netCounters
}

func newEFACounters(h host.Host, interval time.Duration, threshold uint64) *efaCounters {
	if threshold == 0 {
		threshold = 100
	}
	return &efaCounters{host: h, threshold: threshold, counters: newNetCounters(interval)}
}

func (e *efaCounters) look(now time.Time) ([]tracking.Sighting, error) {
	defer e.counters.looked()
	// Glob gives nothing where there is no InfiniBand class, which is so on most nodes.
	ports, err := filepath.Glob(e.host.Path("sys/class/infiniband/*/ports/*"))
	if err != nil {
		return nil, fmt.Errorf("listing fabric adapters, %w", err)
	}
	var sightings []tracking.Sighting
	var failures []error
	for _, port := range ports[:min(len(ports), maxEFAPorts)] {
		device := filepath.Dir(filepath.Dir(port))
		if driver, err := os.Readlink(filepath.Join(device, "device/driver")); err != nil || filepath.Base(driver) != "efa" {
			continue
		}
		for _, counter := range efaErrors {
			sighting, err := e.read(filepath.Base(device), filepath.Base(port), counter, filepath.Join(port, "hw_counters", counter), now)
			sightings = append(sightings, sighting...)
			if err != nil {
				failures = append(failures, err)
			}
		}
	}
	return sightings, errors.Join(failures...)
}

func (e *efaCounters) read(device, port, counter, path string, now time.Time) ([]tracking.Sighting, error) {
	text, err := readNetFile(path, 32)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // older adapters have fewer
	}
	var value uint64
	if err == nil {
		value, err = strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s, %w", counter, device, err)
	}
	rise, tooFast := e.counters.rise(device+" "+port+" "+counter, value, now, e.threshold)
	if !tooFast {
		return nil, nil
	}
	return []tracking.Sighting{{
		Reason: "EFAErrorMetric", Subject: device + "/" + port, At: now,
		Message:  fmt.Sprintf("the fabric adapter %s counts errors: %s", device, counter),
		Evidence: fmt.Sprintf("%s of port %s rose by %d to %d", counter, port, rise, value),
	}}, nil
}
