package node

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	processesInterval = 15 * time.Second
	// processesZombiesEvery is how often all processes are walked through.
	processesZombiesEvery = 2 * time.Minute
	// processesZombiesFor makes zombies count only when a second walk has found them too.
	processesZombiesFor = processesZombiesEvery + processesInterval
	// processesOutFor is how long the limit must be reached: a burst passes.
	processesOutFor = 30 * time.Second
	// processesPIDMaxLimit is the largest kernel.pid_max (PID_MAX_LIMIT), which each PID namespace begins with.
	processesPIDMaxLimit = 4 << 20
)

// ProcessesOptions of the detector of processes.
type ProcessesOptions struct {
	// OutOfPIDsPercent of a limit of processes and threads from which nothing new can be counted on to start. Default
	// 95; it is over below OutOfPIDsGonePercent, by default 80. Both: our own choice.
	OutOfPIDsPercent     float64 `json:"outOfPIDsPercent,omitempty"`
	OutOfPIDsGonePercent float64 `json:"outOfPIDsGonePercent,omitempty"`
	// ApproachingPIDsPercent of the same limits from which people are warned. Default 70, as in the Amazon EKS Node
	// Monitoring Agent.
	ApproachingPIDsPercent float64 `json:"approachingPIDsPercent,omitempty"`
	// ApproachingFilesPercent of fs.file-max from which people are warned. Default 70, as there.
	ApproachingFilesPercent float64 `json:"approachingFilesPercent,omitempty"`
	// Zombies from which people are warned. Default 20, as there.
	Zombies int `json:"zombies,omitempty"`
}

func (o ProcessesOptions) withDefaults() ProcessesOptions {
	for value, standard := range map[*float64]float64{
		&o.OutOfPIDsPercent: 95, &o.OutOfPIDsGonePercent: 80, &o.ApproachingPIDsPercent: 70, &o.ApproachingFilesPercent: 70,
	} {
		if *value <= 0 {
			*value = standard
		}
	}
	o.OutOfPIDsGonePercent = min(o.OutOfPIDsGonePercent, o.OutOfPIDsPercent)
	if o.Zombies <= 0 {
		o.Zombies = 20
	}
	return o
}

// Processes sees that the node runs out of process IDs or open files, and that ended processes pile up.
type Processes struct {
	host    host.Host
	clock   clock.Clock
	options ProcessesOptions
	// out are the limits that were reached and have not been left far enough behind.
	out map[string]bool
	// ownNamespace says that kernel.pid_max is not the machine's.
	ownNamespace func() bool

	zombiesAt time.Time
	zombies   []tracking.Fault
	unwalked  string // what the last walk did not see
}

// NewProcesses reads proc and the cgroups.
func NewProcesses(h host.Host, clk clock.Clock, o ProcessesOptions) *Processes {
	return &Processes{host: h, clock: clk, options: o.withDefaults(), out: map[string]bool{}, ownNamespace: inOwnPIDNamespace}
}

// Spec is the same for the whole life of the detector.
func (p *Processes) Spec() detector.Spec {
	return detector.Spec{Name: "processes", Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}, Interval: processesInterval}
}

// Look states which limits are reached or near.
func (p *Processes) Look(ctx context.Context) (tracking.Look, error) {
	look := tracking.Look{}
	if err := p.threads(&look); err != nil {
		return tracking.Look{}, err
	}
	if err := p.cgroups(&look); err != nil {
		return tracking.Look{}, err
	}
	if err := p.files(&look); err != nil {
		return tracking.Look{}, err
	}
	if p.zombiesAt.IsZero() || p.clock.Since(p.zombiesAt) >= processesZombiesEvery {
		if err := p.walk(ctx); err != nil {
			return tracking.Look{}, err
		}
		p.zombiesAt = p.clock.Now()
	}
	look.Faults = append(look.Faults, p.zombies...)
	look.Degraded = strings.TrimSpace(look.Degraded + " " + p.unwalked)
	return look, nil
}

// threads compares the threads of the machine with the kernel's limits of them.
func (p *Processes) threads(look *tracking.Look) error {
	text, err := disksText(p.host.Path("proc/loadavg"))
	if err != nil {
		return fmt.Errorf("counting threads, %w", err)
	}
	threads, err := parseThreads(text)
	if err != nil {
		return fmt.Errorf("counting threads, %w", err)
	}
	limit, name := int64(math.MaxInt64), ""
	for _, setting := range []string{"pid_max", "threads-max"} {
		text, err := disksText(p.host.Path("proc/sys/kernel", setting))
		if err != nil {
			return fmt.Errorf("reading the limit of threads, %w", err)
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("reading the limit of threads, %w", err)
		}
		if setting == "pid_max" && n == processesPIDMaxLimit && p.ownNamespace() {
			look.Degraded = "The node's kernel.pid_max cannot be seen from a PID namespace of the agent's own (Linux 6.14 and later)."
			continue
		}
		if n < limit {
			limit, name = n, "kernel."+setting
		}
	}
	p.judge(look, processesLimit{what: "The node", of: name, used: threads, limit: limit})
	return nil
}

// parseThreads reads the number after the slash: 0.57 1.73 1.11 2/92 19951.
func parseThreads(text string) (int64, error) {
	fields := strings.Fields(text)
	if len(fields) < 4 {
		return 0, fmt.Errorf("%q has too few fields", health.Shorten(text, 64))
	}
	_, all, ok := strings.Cut(fields[3], "/")
	if !ok {
		return 0, fmt.Errorf("%q has no slash", health.Shorten(fields[3], 64))
	}
	return strconv.ParseInt(all, 10, 64)
}

// processesLimit is one limit of processes and threads.
type processesLimit struct {
	subject string
	what    string // has used so many
	of      string // the setting
	used    int64
	limit   int64
}

func (p *Processes) judge(look *tracking.Look, l processesLimit) {
	if l.limit <= 0 {
		return
	}
	percent := 100 * float64(l.used) / float64(l.limit)
	switch {
	case percent >= p.options.OutOfPIDsPercent:
		p.out[l.subject] = true
	case percent < p.options.OutOfPIDsGonePercent:
		delete(p.out, l.subject)
	}
	evidence := []string{fmt.Sprintf("%d of %d (%s)", l.used, l.limit, l.of)}
	if p.out[l.subject] {
		confirm := processesOutFor
		look.Faults = append(look.Faults, tracking.Fault{
			Reason: health.ReasonForkFailedOutOfPIDs, Subject: l.subject, Evidence: evidence, ConfirmAfter: &confirm,
			Message: fmt.Sprintf("%s has used up the processes and threads that %s allows.", l.what, l.of),
		})
	}
	// A cgroup's limit is for whoever set it to watch, until it is reached.
	if l.subject == "" && percent >= p.options.ApproachingPIDsPercent {
		look.Faults = append(look.Faults, tracking.Fault{
			Reason: health.ReasonApproachingKernelPidMax, Subject: l.subject, Evidence: evidence,
			Message: fmt.Sprintf("%s uses more than %g %% of the processes and threads that %s allows.", l.what, p.options.ApproachingPIDsPercent, l.of),
		})
	}
}

// files compares the open files of the machine with fs.file-max.
func (p *Processes) files(look *tracking.Look) error {
	text, err := disksText(p.host.Path("proc/sys/fs/file-nr"))
	if err != nil {
		return fmt.Errorf("counting open files, %w", err)
	}
	open, most, err := parseFileNr(text)
	if err != nil {
		return fmt.Errorf("counting open files, %w", err)
	}
	if most > 0 && 100*float64(open)/float64(most) >= p.options.ApproachingFilesPercent {
		look.Faults = append(look.Faults, tracking.Fault{
			Reason:   health.ReasonApproachingMaxOpenFiles,
			Message:  fmt.Sprintf("More than %g %% of the files that fs.file-max allows are open.", p.options.ApproachingFilesPercent),
			Evidence: []string{fmt.Sprintf("%d of %d", open, most)},
		})
	}
	return nil
}

// parseFileNr reads the files that are allocated, those of them that are free (0 since Linux 2.6), and the most that
// may be: 521	0	2466170.
func parseFileNr(text string) (open, most int64, err error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return 0, 0, fmt.Errorf("%q has not three fields", health.Shorten(text, 64))
	}
	var numbers [3]int64
	for i, field := range fields {
		if numbers[i], err = strconv.ParseInt(field, 10, 64); err != nil {
			return 0, 0, err
		}
	}
	return numbers[0] - numbers[1], numbers[2], nil
}

// inOwnPIDNamespace says whether this process is in another PID namespace than the machine's first, whose number the
// kernel fixes (PROC_PID_INIT_INO).
func inOwnPIDNamespace() bool {
	name, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && name != "pid:[4026531836]"
}
