package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/journal"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/logfile"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// ServiceLogOptions say where the log of one service is. The zero value is the defaults.
type ServiceLogOptions struct {
	// Units of systemd whose entries in the journal are the log.
	Units []string `json:"units,omitempty"`
	// Files are log files of this service alone, as patterns of paths on the host; of those that match a pattern the
	// newest is read, of the patterns the first that matches any.
	Files []string `json:"files,omitempty"`
	// Shared are log files of syslog, in which the lines name the service.
	Shared []string `json:"shared,omitempty"`
}

// ServiceLogsOptions are the settings of the service logs.
type ServiceLogsOptions struct {
	// Kubelet: by default the unit kubelet.service, else /var/log/kubelet.log, /var/log/messages or /var/log/syslog.
	Kubelet ServiceLogOptions `json:"kubelet,omitzero"`
	// Containerd: by default the unit containerd.service, else /var/log/containerd.log, /var/log/messages or
	// /var/log/syslog.
	Containerd ServiceLogOptions `json:"containerd,omitzero"`
	// Systemd: what systemd itself says, in the journal, else in /var/log/messages or /var/log/syslog. Units is not used.
	Systemd ServiceLogOptions `json:"systemd,omitzero"`
	// IPAMD: by default /var/log/aws-routed-eni/ipamd.log.
	IPAMD ServiceLogOptions `json:"ipamd,omitzero"`
	// KubeProxy: by default the container log of the kube-proxy pod.
	KubeProxy ServiceLogOptions `json:"kubeProxy,omitzero"`
	// Interval between looks; lines that mean something bring a look forward. Default 10s: our own choice.
	Interval metav1.Duration `json:"interval,omitzero"`
}

// serviceShared are the files of syslog in the distributions' defaults.
var serviceShared = []string{"/var/log/messages", "/var/log/syslog"}

const (
	// servicePoll is how often a log is asked for more. Nothing in it is confirmed by less than a minute's lines.
	servicePoll = 2 * time.Second
	// serviceBacklog is how far back lines count at the first start of an agent: what is older has been dealt with, or
	// shows again.
	serviceBacklog = 10 * time.Minute
	// serviceBatch is how many lines are read before a look gets its turn.
	serviceBatch = 500
	// serviceSearch is how long it is between searches for a log that is not there.
	serviceSearch = 10 * time.Second
	// serviceTurn is how many polls pass between searches for a newer file of the log.
	serviceTurn = 5
	// serviceGone is how many polls a log may be missing before the node counts as one without it.
	serviceGone = 30
	// serviceQuiet ends findings of which nobody can say when they are over.
	serviceQuiet = 10 * time.Minute
)

// ServiceLog tells what one service of the node writes into its log: its entries in the journal, or where the journal has
// none its log file.
//
// Lines count by their own times, not by when they are read. Those of before the boot, and at the first start of an agent
// those older than ten minutes, are left out; so is a line without a time that stood in the file before. Lines that were
// written while no agent ran are read from where the last one was.
type ServiceLog struct {
	*logFollower
	name       string
	stream     health.Stream
	categories []v1alpha1.Category
	host       host.Host
	options    ServiceLogOptions
	interval   time.Duration

	input   serviceInput
	missing int // polls in a row in which the log was not there
	// Guarded by the lock of the sightings.
	position servicePosition
	reported servicePosition
	present  bool
	passing  map[logKey]time.Time // findings that nothing else would end
}

// servicePosition is how far a log has been read.
type servicePosition struct {
	Journal *journal.Cursor `json:"journal,omitempty"`
	File    *logfile.Cursor `json:"file,omitempty"`
	Path    string          `json:"path,omitempty"`
	Passing []servicePassed `json:"passing,omitempty"`
}

type servicePassed struct {
	Reason  string    `json:"reason"`
	Subject string    `json:"subject,omitempty"`
	At      time.Time `json:"at"`
}

// serviceInput is one way to the lines of a service.
type serviceInput interface {
	// poll gives up to serviceBatch new lines, and says whether there are more.
	poll(give func(at time.Time, line string)) (more bool, lost int64, err error)
	position() servicePosition
	close()
}

// NewServiceLogs makes the detectors of all service logs; they read nothing before Start.
func NewServiceLogs(h host.Host, clk clock.Clock, lines LogLines, o ServiceLogsOptions) []detector.Detector {
	runtime := []v1alpha1.Category{v1alpha1.CategoryContainerRuntime}
	kubelet := []v1alpha1.Category{v1alpha1.CategoryKernel, v1alpha1.CategoryStorage, v1alpha1.CategoryContainerRuntime}
	networking := []v1alpha1.Category{v1alpha1.CategoryNetworking}
	var all []detector.Detector
	for _, s := range []struct {
		stream     health.Stream
		categories []v1alpha1.Category
		given      ServiceLogOptions
		otherwise  ServiceLogOptions
	}{
		{health.StreamKubelet, kubelet, o.Kubelet, ServiceLogOptions{Units: []string{"kubelet.service"}, Files: []string{"/var/log/kubelet.log"}, Shared: serviceShared}},
		{health.StreamContainerd, runtime, o.Containerd, ServiceLogOptions{Units: []string{"containerd.service"}, Files: []string{"/var/log/containerd.log"}, Shared: serviceShared}},
		{health.StreamSystemd, runtime, o.Systemd, ServiceLogOptions{Shared: serviceShared}},
		{health.StreamIPAMD, networking, o.IPAMD, ServiceLogOptions{Files: []string{"/var/log/aws-routed-eni/ipamd.log"}}},
		{health.StreamKubeProxy, networking, o.KubeProxy, ServiceLogOptions{Files: []string{"/var/log/pods/kube-system_kube-proxy-*/kube-proxy/*.log"}}},
	} {
		if s.given.Units == nil && s.given.Files == nil && s.given.Shared == nil {
			s.given = s.otherwise
		}
		all = append(all, &ServiceLog{
			logFollower: newLogFollower(clk, lines, s.stream), name: s.stream.Source(), stream: s.stream, categories: s.categories, host: h,
			options: s.given, interval: netInterval(o.Interval, 10*time.Second), passing: map[logKey]time.Time{},
		})
	}
	return all
}

// Spec implements detector.Detector.
func (s *ServiceLog) Spec() detector.Spec {
	return detector.Spec{Name: s.name, Categories: s.categories, Interval: s.interval}
}

// Start implements detector.Starter.
func (s *ServiceLog) Start(ctx context.Context) { s.start(ctx, s.follow) }

// matches are the entries of the journal that are the log. Only fields that the journal itself vouches for: any program
// may call itself kubelet.
func (s *ServiceLog) matches() []journal.Match {
	if s.stream == health.StreamSystemd {
		return []journal.Match{{Field: "_PID", Value: "1"}}
	}
	var any []journal.Match
	for _, unit := range s.options.Units {
		any = append(any, journal.Match{Field: "_SYSTEMD_UNIT", Value: unit})
	}
	return any
}

// follow reads the log until ctx ends, wherever it is and once it is there.
func (s *ServiceLog) follow(ctx context.Context) error {
	search, err := s.newSearch()
	if err != nil {
		return err
	}
	defer func() {
		search.close()
		s.drop()
	}()
	for {
		wait, err := s.step(ctx, search)
		if err != nil {
			return err
		}
		s.fail(nil)
		s.isReady()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.clock.After(s.until(wait)):
		}
	}
}

// step reads what has been added, or searches for the log, and says when to come again.
func (s *ServiceLog) step(ctx context.Context, search *serviceSearcher) (time.Duration, error) {
	if s.input == nil {
		if err := s.find(search); err != nil {
			return 0, err
		}
	}
	if s.input == nil {
		return serviceSearch, nil
	}
	err := s.readOn(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		if s.missing++; s.missing >= serviceGone {
			s.drop()
			s.missing = 0
		}
		return servicePoll, nil
	}
	s.missing = 0
	return servicePoll, err
}

// until is how long to the next multiple of a time: the logs of all services are read in one waking of the process,
// since it is the waking that costs where nothing happens.
func (s *ServiceLog) until(multiple time.Duration) time.Duration {
	now := s.clock.Now()
	return now.Truncate(multiple).Add(multiple).Sub(now)
}

// find takes the journal for the log where that has an entry of the service, else a file.
func (s *ServiceLog) find(search *serviceSearcher) error {
	s.sightings.mu.Lock()
	defer s.sightings.mu.Unlock()
	if search.journal != nil {
		_, lost, err := search.journal.poll(s.sightings.take)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.sightings.lose(lost)
		if search.journal.reader.Seen() {
			s.input, s.present, s.position = search.journal, true, search.journal.position()
			return nil
		}
	}
	if file := search.file(); file != nil {
		s.input, s.present = file, true
	}
	return nil
}

// drop forgets where the log was; it is searched for again.
func (s *ServiceLog) drop() {
	if s.input == nil {
		return
	}
	s.input.close()
	s.sightings.mu.Lock()
	defer s.sightings.mu.Unlock()
	s.input, s.present = nil, false
}

// readOn takes what has been added, and lets looks in between.
func (s *ServiceLog) readOn(ctx context.Context) error {
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = s.readBatch(); err != nil {
			return err
		}
	}
	return nil
}

func (s *ServiceLog) readBatch() (more bool, err error) {
	s.sightings.mu.Lock()
	defer s.sightings.mu.Unlock()
	more, lost, err := s.input.poll(s.sightings.take)
	s.sightings.lose(lost)
	s.position = s.input.position()
	return more, err
}

// Look implements detector.Detector.
func (s *ServiceLog) Look(ctx context.Context) (tracking.Look, error) {
	if err := s.read(ctx); err != nil {
		return tracking.Look{}, err
	}
	s.sightings.mu.Lock()
	defer s.sightings.mu.Unlock()
	now := s.clock.Now()
	look := s.sightings.drain(now)
	s.reported = s.position
	if !s.present && len(look.Sightings) == 0 {
		return tracking.Look{}, fmt.Errorf("looking for the log, %w", detector.ErrNotPresent)
	}
	for _, seen := range look.Sightings {
		s.note(seen)
	}
	look.Sightings = append(look.Sightings, s.passed(now)...)
	return look, nil
}

// note remembers findings of reasons that a look should end, which a log cannot.
func (s *ServiceLog) note(seen tracking.Sighting) {
	reason, _ := s.sightings.lines.Reason(seen.Reason)
	key := logKey{reason: seen.Reason, subject: seen.Subject}
	switch {
	case seen.Recovered:
		delete(s.passing, key)
	case reason.Clears.By == health.ClearsByPoll && len(s.passing) < logMaxKeys:
		s.passing[key] = seen.At
	}
}

func (s *ServiceLog) passed(now time.Time) []tracking.Sighting {
	var over []tracking.Sighting
	for key, at := range s.passing {
		if now.Sub(at) >= serviceQuiet {
			delete(s.passing, key)
			over = append(over, tracking.Sighting{Reason: key.reason, Subject: key.subject, At: now, Recovered: true})
		}
	}
	return over
}

// Cursor implements detector.Resumer: what the last look has told of.
func (s *ServiceLog) Cursor() json.RawMessage {
	s.sightings.mu.Lock()
	defer s.sightings.mu.Unlock()
	cursor := s.reported
	for key, at := range s.passing {
		if len(cursor.Passing) < logMaxSubjects {
			cursor.Passing = append(cursor.Passing, servicePassed{Reason: key.reason, Subject: key.subject, At: at})
		}
	}
	return serviceCursor(cursor)
}

// Resume implements detector.Resumer. Lines of an earlier boot do not count, so that after one there is nothing to go on
// with.
func (s *ServiceLog) Resume(cursor json.RawMessage, sameBoot bool) {
	var p servicePosition
	if !sameBoot || json.Unmarshal(cursor, &p) != nil {
		return
	}
	s.sightings.mu.Lock()
	defer s.sightings.mu.Unlock()
	for _, item := range p.Passing[:min(len(p.Passing), logMaxSubjects)] {
		s.passing[logKey{reason: item.Reason, subject: item.Subject}] = item.At
	}
	p.Passing = nil
	s.position, s.reported = p, p
}
