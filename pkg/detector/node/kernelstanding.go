package node

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	// kernelStandingHold is how long a line is shown at least, also where the fault is over when it is read.
	kernelStandingHold = 30 * time.Second
	// kernelMaxStanding bounds the faults that are asked after.
	kernelMaxStanding = 256
)

// kernelStanding remembers the faults that the kernel reports once, and asks the machine whether they still stand.
type kernelStanding struct {
	host    host.Host
	devices KernelLogDevices
	since   map[logKey]time.Time
}

type kernelStandingItem struct {
	Reason  string    `json:"reason"`
	Subject string    `json:"subject,omitempty"`
	At      time.Time `json:"at"`
}

// note remembers a sighting that the machine can be asked about.
func (s *kernelStanding) note(seen tracking.Sighting) {
	key := logKey{reason: seen.Reason, subject: seen.Subject}
	switch {
	case seen.Recovered:
		delete(s.since, key)
	case kernelAskable[seen.Reason] && len(s.since) < kernelMaxStanding:
		s.since[key] = seen.At
	}
}

// kernelAskable are the reasons whose faults can be looked at.
var kernelAskable = map[string]bool{
	health.ReasonFilesystemReadOnly: true, health.ReasonXfsShutdown: true, health.ReasonXfsCorruption: true,
	health.ReasonExt4Error: true, health.ReasonNVMeControllerFailure: true, health.ReasonNVMeTimeout: true,
}

// ended gives the faults that are known to be over.
func (s *kernelStanding) ended(now time.Time) []tracking.Sighting {
	var over []tracking.Sighting
	for key, at := range s.since {
		if now.Sub(at) < kernelStandingHold {
			continue
		}
		if stands, known := s.ask(key, at); known && !stands {
			delete(s.since, key)
			over = append(over, tracking.Sighting{Reason: key.reason, Subject: key.subject, At: now, Recovered: true})
		}
	}
	return over
}

func (s *kernelStanding) ask(key logKey, at time.Time) (stands, known bool) {
	switch key.reason {
	case health.ReasonNVMeControllerFailure, health.ReasonNVMeTimeout:
		return s.controllerFails(key.subject)
	case health.ReasonFilesystemReadOnly:
		if s.devices == nil {
			return false, false
		}
		if writable, known := s.devices.Writable(key.subject); known {
			return !writable, true
		}
	}
	if s.devices == nil || key.subject == tracking.Others {
		return false, false
	}
	return s.devices.Standing(key.subject, at)
}

var nvmeController = regexp.MustCompile(`^(?:/dev/)?(nvme\d+)`) // nvme0, nvme0n1p1

// controllerFails asks sysfs for the state of an NVMe controller; one that has gone from there has failed if the node's
// own filesystems lie on it, and else was a volume that somebody detached.
func (s *kernelStanding) controllerFails(subject string) (fails, known bool) {
	name := nvmeController.FindStringSubmatch(subject)
	if name == nil {
		return false, false
	}
	state, err := os.ReadFile(s.host.Path("sys/class/nvme", name[1], "state"))
	if err == nil {
		return strings.TrimSpace(string(state)) != "live", true
	}
	if _, classErr := os.Stat(s.host.Path("sys/class/nvme")); classErr != nil {
		return false, false
	}
	if s.devices != nil {
		if ofNode, known := s.devices.OfNode(name[1]); known && !ofNode {
			return false, true
		}
	}
	return true, errors.Is(err, fs.ErrNotExist)
}

func (s *kernelStanding) items() []kernelStandingItem {
	var items []kernelStandingItem
	for key, at := range s.since {
		items = append(items, kernelStandingItem{Reason: key.reason, Subject: key.subject, At: at})
	}
	return items
}

func (s *kernelStanding) restore(items []kernelStandingItem) {
	for _, item := range items[:min(len(items), kernelMaxStanding)] {
		if kernelAskable[item.Reason] {
			s.since[logKey{reason: item.Reason, subject: item.Subject}] = item.At
		}
	}
}
