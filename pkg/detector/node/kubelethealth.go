package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// ReasonKubeletFailed is the reason of the source kubelet-health.
const ReasonKubeletFailed = "KubeletFailed"

const (
	// kubeletHealthURL is the default of the kubelet's healthzBindAddress and healthzPort.
	kubeletHealthURL      = "http://127.0.0.1:10248/healthz"
	kubeletHealthInterval = 10 * time.Second
	kubeletHealthTimeout  = 5 * time.Second
	// kubeletHealthBody bounds what is read of an answer; a failing one names each check on a line.
	kubeletHealthBody = 16 << 10
	// kubeletHealthFailed ends the body of a kubelet whose checks fail.
	kubeletHealthFailed = "healthz check failed"
	// kubeletHealthChecksMost is how much evidence a finding keeps.
	kubeletHealthChecksMost = 5
)

// KubeletHealthOptions of the detector of the kubelet's health.
type KubeletHealthOptions struct {
	// URL of the kubelet's healthz; empty: http://127.0.0.1:10248/healthz, the kubelet's own default.
	URL string `json:"url,omitempty"`
	// Timeout of one answer; 0: 5 s (our own choice). The limit of a look must be longer.
	Timeout metav1.Duration `json:"timeout,omitempty"`
	// Interval between looks; 0: 10 s.
	Interval metav1.Duration `json:"interval,omitempty"`
}

// KubeletHealth asks the kubelet for its own health check, on the loopback interface.
type KubeletHealth struct {
	options KubeletHealthOptions
	client  *http.Client
	process netProcess
	memory  kubeletHealthMemory
}

// kubeletHealthMemory is what a look leaves for those after it in the same boot.
type kubeletHealthMemory struct {
	// Answered says that a kubelet has answered, so that its silence is one.
	Answered bool `json:"answered,omitempty"`
}

// NewKubeletHealth makes the detector; it does not connect yet.
func NewKubeletHealth(h host.Host, o KubeletHealthOptions) *KubeletHealth {
	if o.URL == "" {
		o.URL = kubeletHealthURL
	}
	if o.Timeout.Duration <= 0 {
		o.Timeout.Duration = kubeletHealthTimeout
	}
	if o.Interval.Duration <= 0 {
		o.Interval.Duration = kubeletHealthInterval
	}
	client := &http.Client{
		// No Proxy: a proxy that the environment names knows nothing of this node.
		Transport: &http.Transport{
			MaxIdleConns:    1,
			ReadBufferSize:  1 << 10,
			WriteBufferSize: 1 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &KubeletHealth{options: o, client: client, process: netProcess{host: h, name: "kubelet"}}
}

// Spec of the source kubelet-health.
func (k *KubeletHealth) Spec() detector.Spec {
	return detector.Spec{
		Name:       "kubelet-health",
		Categories: []v1alpha1.Category{v1alpha1.CategoryKubelet},
		Interval:   k.options.Interval.Duration,
	}
}

// Cursor says whether a kubelet has answered in this boot.
func (k *KubeletHealth) Cursor() json.RawMessage {
	return serviceCursor(k.memory)
}

// Resume with what an earlier run in the same boot has seen.
func (k *KubeletHealth) Resume(cursor json.RawMessage, sameBoot bool) {
	var memory kubeletHealthMemory
	if sameBoot && json.Unmarshal(cursor, &memory) == nil {
		k.memory = memory
	}
}

// Look asks the kubelet once. Silence is a fault only where a kubelet has answered since boot: before, one may listen
// elsewhere (an error), or there is none (ErrNotPresent).
func (k *KubeletHealth) Look(ctx context.Context) (tracking.Look, error) {
	asking, cancel := context.WithTimeout(ctx, k.options.Timeout.Duration)
	defer cancel()
	code, body, err := k.ask(asking)
	if ctx.Err() != nil {
		return tracking.Look{}, fmt.Errorf("asking the kubelet, %w", ctx.Err())
	}
	if err != nil {
		return k.silent(err)
	}
	return k.judge(code, body)
}

func (k *KubeletHealth) ask(ctx context.Context) (code int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.options.URL, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := k.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(response.Body, kubeletHealthBody))
	return response.StatusCode, body, err
}

func (k *KubeletHealth) judge(code int, body []byte) (tracking.Look, error) {
	failing := code >= http.StatusInternalServerError
	switch {
	case code == http.StatusOK:
		k.memory.Answered = true
		return tracking.Look{}, nil
	case failing && (k.memory.Answered || bytes.Contains(body, []byte(kubeletHealthFailed))):
		k.memory.Answered = true
		return kubeletHealthFault(fmt.Sprintf("The kubelet's health check fails with status %d.", code), kubeletHealthChecks(body)), nil
	default:
		return tracking.Look{}, fmt.Errorf("%s is answered with status %d, which is no kubelet's health check", k.options.URL, code)
	}
}

// silent says what it means that there was no answer.
func (k *KubeletHealth) silent(err error) (tracking.Look, error) {
	if k.loopbackDown() {
		return tracking.Look{}, errors.New("the loopback interface is down, so that the kubelet cannot be asked")
	}
	if !k.memory.Answered {
		return tracking.Look{}, k.unknown(err)
	}
	message := "The kubelet's health check cannot be reached, and it could before."
	if errors.Is(err, context.DeadlineExceeded) {
		message = fmt.Sprintf("The kubelet has not answered its health check within %s.", k.options.Timeout.Duration)
	}
	return kubeletHealthFault(message, []string{serviceText(kubeletHealthCause(err))}), nil
}

// unknown says what it means that no kubelet has ever answered.
func (k *KubeletHealth) unknown(err error) error {
	switch {
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("asking the kubelet, %w", err)
	case k.runs():
		return fmt.Errorf("a kubelet runs but has not answered at %s since boot; it may listen elsewhere, %w", k.options.URL, err)
	default:
		return detector.ErrNotPresent
	}
}

// kubeletHealthCause is the error without what differs at each attempt, such as the local port.
func kubeletHealthCause(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err.Error()
	}
	return err.Error()
}

// kubeletHealthChecks are the lines of the checks that fail: "[-]syncloop failed: reason withheld".
func kubeletHealthChecks(body []byte) []string {
	var failing []string
	for line := range bytes.Lines(body) {
		if bytes.HasPrefix(line, []byte("[-]")) && len(failing) < kubeletHealthChecksMost {
			failing = append(failing, serviceText(string(line)))
		}
	}
	return failing
}

func kubeletHealthFault(message string, evidence []string) tracking.Look {
	return tracking.Look{Faults: []tracking.Fault{{Reason: ReasonKubeletFailed, Message: message, Evidence: evidence}}}
}

// loopbackDown says that the address of the kubelet is one of the loopback interface, which does not hold it now. Then
// the fault is that of the interface, and of nobody who listens there.
func (k *KubeletHealth) loopbackDown() bool {
	at, err := url.Parse(k.options.URL)
	if err != nil {
		return false
	}
	name := at.Hostname()
	if name == "localhost" {
		name = "127.0.0.1"
	}
	address, err := netip.ParseAddr(name)
	if err != nil || !address.IsLoopback() {
		return false
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 && kubeletHealthHolds(i, address) {
			return false
		}
	}
	return true
}

func kubeletHealthHolds(i net.Interface, address netip.Addr) bool {
	held, err := i.Addrs()
	if err != nil {
		return true // what cannot be read is not called down
	}
	for _, h := range held {
		if network, ok := h.(*net.IPNet); ok && network.Contains(address.AsSlice()) {
			return true
		}
	}
	return false
}

// runs says whether a process of the host is called kubelet. It is asked only while none has answered.
func (k *KubeletHealth) runs() bool {
	runs, err := k.process.everRan()
	return err == nil && runs
}
