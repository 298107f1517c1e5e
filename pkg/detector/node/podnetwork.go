package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// netProcess looks for a process of the node by the name that the kernel has for it, which it cuts to 15 bytes. The
// name can be read by anybody, unless /proc is mounted with hidepid.
type netProcess struct {
	host host.Host
	name string
	// pid where it was found last, so that the processes of the whole node are read only when it is gone.
	pid int
	// skip is how many more calls of everRan may trust that it was not there.
	skip int
}

// netProcessSearch is for how many looks a process that was not there counts as not there: on a node that never has it
// every search is in vain, and reads of all that runs there.
const netProcessSearch = 6

// everRan is runs for those who only want to know whether this is a node that has it. It notices some looks late.
func (p *netProcess) everRan() (bool, error) {
	if p.skip > 0 {
		p.skip--
		return false, nil
	}
	runs, err := p.runs()
	if err == nil && !runs {
		p.skip = netProcessSearch - 1
	}
	return runs, err
}

// errNoProcesses says that /proc has none at all, so that none is missing.
var errNoProcesses = errors.New("/proc shows no processes")

func (p *netProcess) runs() (bool, error) {
	proc, err := procfs.NewFS(p.host.Path("proc"))
	if err != nil {
		return false, fmt.Errorf("opening /proc, %w", err)
	}
	if p.pid != 0 && p.is(proc, p.pid) {
		return true, nil
	}
	p.pid = 0
	all, err := proc.AllProcs()
	if err != nil {
		return false, fmt.Errorf("listing processes, %w", err)
	}
	if len(all) == 0 {
		return false, errNoProcesses
	}
	for _, one := range all {
		if p.is(proc, one.PID) {
			p.pid = one.PID
			return true, nil
		}
	}
	return false, nil
}

func (p *netProcess) is(proc procfs.FS, pid int) bool {
	one, err := proc.Proc(pid)
	if err != nil {
		return false
	}
	name, err := one.Comm()
	return err == nil && name == p.name
}

// netPodOnNode says whether the kubelet keeps logs of a pod whose folder matches, for example
// kube-system_aws-node-x7k2p_0b6d6a4e-6b1c-4f1e-8f53-3d3a3c5e9b11.
func netPodOnNode(h host.Host, folder *regexp.Regexp) (bool, error) {
	entries, err := os.ReadDir(h.Path("var/log/pods"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("listing logs of pods, %w", err)
	}
	for _, e := range entries {
		if folder.MatchString(e.Name()) {
			return true, nil
		}
	}
	return false, nil
}

// IPAMDOptions of the detector of the VPC CNI's address daemon.
type IPAMDOptions struct {
	// Interval between looks; default 30 s, our own choice: four looks make the two minutes of the catalogue.
	Interval metav1.Duration `json:"interval,omitempty"`
}

// IPAMD sees that the VPC CNI is in charge of this node's pods and its address daemon does not run. It needs no
// capability, only the node's /proc, /var/log/pods and /etc/cni/net.d.
type IPAMD struct {
	host     host.Host
	interval time.Duration
	agent    netProcess

	mu     sync.Mutex
	memory ipamdMemory
}

// ipamdMemory is the cursor of IPAMD.
type ipamdMemory struct {
	// Seen in this boot.
	Seen bool `json:"seen"`
}

// A pod of the DaemonSet aws-node, and none of aws-node-termination-handler, which shares the beginning of its name:
// kube-system_aws-node-x7k2p_0b6d6a4e-6b1c-4f1e-8f53-3d3a3c5e9b11
var ipamdPod = regexp.MustCompile(`\Akube-system_aws-node-[a-z0-9]+_`)

// NewIPAMD gives the detector of the VPC CNI's address daemon.
func NewIPAMD(h host.Host, o IPAMDOptions) *IPAMD {
	return &IPAMD{host: h, interval: netInterval(o.Interval, 30*time.Second), agent: netProcess{host: h, name: "aws-k8s-agent"}}
}

// Spec of the source ipamd.
func (i *IPAMD) Spec() detector.Spec {
	return detector.Spec{Name: "ipamd", Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}, Interval: i.interval}
}

// Cursor keeps whether the daemon ran in this boot.
func (i *IPAMD) Cursor() json.RawMessage {
	i.mu.Lock()
	defer i.mu.Unlock()
	cursor, err := json.Marshal(i.memory)
	if err != nil {
		return nil
	}
	return cursor
}

// Resume takes up the memory of before, if it is of the same boot.
func (i *IPAMD) Resume(cursor json.RawMessage, sameBoot bool) {
	var memory ipamdMemory
	if !sameBoot || json.Unmarshal(cursor, &memory) != nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.memory = memory
}

// Look for the daemon.
func (i *IPAMD) Look(context.Context) (tracking.Look, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	inCharge, err := i.inCharge()
	if err != nil {
		return tracking.Look{}, err
	}
	if !inCharge {
		return tracking.Look{}, fmt.Errorf("no VPC CNI, %w", detector.ErrNotPresent)
	}
	runs, err := i.agent.runs()
	if err != nil {
		return tracking.Look{}, err
	}
	if runs {
		i.memory.Seen = true
		return tracking.Look{}, nil
	}
	return tracking.Look{Faults: []tracking.Fault{{
		Reason: "IPAMDNotRunning", Message: "the VPC CNI is on this node and its address daemon does not run",
		Evidence: []string{"no process named aws-k8s-agent"},
	}}}, nil
}

// inCharge: a pod of it is here, or its configuration is the one that the runtime uses and its daemon ran in this boot.
// A configuration alone says nothing: the file is left behind when another network plugin takes over, and where the
// daemon is no pod (EKS Auto Mode) it may have another name.
func (i *IPAMD) inCharge() (bool, error) {
	if here, err := netPodOnNode(i.host, ipamdPod); here || err != nil {
		return here, err
	}
	if !i.memory.Seen {
		return false, nil
	}
	entries, err := os.ReadDir(i.host.Path("etc/cni/net.d"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("listing network configurations, %w", err)
	}
	for _, e := range entries { // in the order of their names, of which runtimes take the first
		if name := e.Name(); strings.HasSuffix(name, ".conflist") || strings.HasSuffix(name, ".conf") || strings.HasSuffix(name, ".json") {
			return name == "10-aws.conflist", nil
		}
	}
	return false, nil
}

// KubeProxyOptions of the detector of kube-proxy.
type KubeProxyOptions struct {
	// Interval between looks; default 15 s, our own choice: four looks make the minute of the catalogue.
	Interval metav1.Duration `json:"interval,omitempty"`
	// Address of its health endpoint (--healthz-bind-address); default 127.0.0.1:10256, kube-proxy's own default port.
	Address string `json:"address,omitempty"`
	// Timeout of an answer; default 5 s, our own choice.
	Timeout metav1.Duration `json:"timeout,omitempty"`
}

// KubeProxy asks kube-proxy whether it keeps services up to date. It needs no capability, only the node's network
// namespace, /proc and /var/log/pods.
type KubeProxy struct {
	host     host.Host
	interval time.Duration
	address  string
	timeout  time.Duration
	dialer   net.Dialer
	client   *http.Client
	process  netProcess

	mu     sync.Mutex
	memory kubeProxyMemory
}

// kubeProxyMemory is the cursor of KubeProxy: whether it ran and whether it answered in this boot.
type kubeProxyMemory struct {
	Seen     bool `json:"seen"`
	Answered bool `json:"answered"`
}

// A pod of the DaemonSet, or the static pod of a node:
// kube-system_kube-proxy-9fz4b_1c0d4a52-52a2-4d1b-9f0d-6a3f4a7e2b90
var kubeProxyPod = regexp.MustCompile(`\Akube-system_kube-proxy-[^_]+_`)

// maxKubeProxyAnswer bounds what is read of an answer, in bytes.
const maxKubeProxyAnswer = 512

// NewKubeProxy gives the detector of kube-proxy.
func NewKubeProxy(h host.Host, o KubeProxyOptions) *KubeProxy {
	k := &KubeProxy{
		host: h, interval: netInterval(o.Interval, 15*time.Second), address: o.Address, timeout: netInterval(o.Timeout, 5*time.Second),
		process: netProcess{host: h, name: "kube-proxy"},
	}
	if k.address == "" {
		k.address = "127.0.0.1:10256"
	}
	// Half of the time is for the connection, so that the error tells whether it or the answer did not come.
	k.dialer.Timeout = k.timeout / 2
	// No proxy of the environment, and no connection that is kept: an old one may outlive what it was made to.
	k.client = &http.Client{Timeout: k.timeout, Transport: &http.Transport{DisableKeepAlives: true, DialContext: k.dialer.DialContext}}
	return k
}

// Spec of the source kube-proxy.
func (k *KubeProxy) Spec() detector.Spec {
	return detector.Spec{Name: "kube-proxy", Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}, Interval: k.interval}
}

// Cursor keeps whether kube-proxy ran and answered in this boot.
func (k *KubeProxy) Cursor() json.RawMessage {
	k.mu.Lock()
	defer k.mu.Unlock()
	cursor, err := json.Marshal(k.memory)
	if err != nil {
		return nil
	}
	return cursor
}

// Resume takes up the memory of before, if it is of the same boot.
func (k *KubeProxy) Resume(cursor json.RawMessage, sameBoot bool) {
	var memory kubeProxyMemory
	if !sameBoot || json.Unmarshal(cursor, &memory) != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.memory = memory
}

// Look asks kube-proxy, and where it does not answer, whether it runs.
func (k *KubeProxy) Look(ctx context.Context) (tracking.Look, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	here, err := netPodOnNode(k.host, kubeProxyPod)
	if err != nil {
		return tracking.Look{}, err
	}
	if !here && !k.memory.Seen {
		if k.memory.Seen, err = k.process.everRan(); err != nil {
			return tracking.Look{}, err
		}
		if !k.memory.Seen {
			// Others, such as Cilium, may answer in its place on the same port.
			return tracking.Look{}, fmt.Errorf("no kube-proxy, %w", detector.ErrNotPresent)
		}
	}
	problem, evidence, err := k.ask(ctx)
	switch {
	case err == nil && problem == "":
		k.memory.Answered = true
		return tracking.Look{}, nil
	case err == nil:
		k.memory.Answered = true
		return kubeProxyFault(problem, evidence), nil
	case !unanswered(err):
		return tracking.Look{}, err // such as with the loopback down: it cannot be seen from here
	}
	return k.silent(err)
}

// silent tells a kube-proxy that is gone from one whose health endpoint is turned off or elsewhere.
func (k *KubeProxy) silent(cause error) (tracking.Look, error) {
	runs, err := k.process.runs()
	switch {
	case err != nil:
		return tracking.Look{}, err
	case !runs:
		return kubeProxyFault("kube-proxy does not run", "no process named kube-proxy"), nil
	case k.memory.Answered:
		return kubeProxyFault("kube-proxy does not answer", cause.Error()), nil
	}
	return tracking.Look{Degraded: fmt.Sprintf(
		"kube-proxy runs and its health endpoint %s has never answered: it may be turned off or have another address", k.address,
	)}, nil
}

func kubeProxyFault(message, evidence string) tracking.Look {
	fault := tracking.Fault{Reason: "KubeProxyNotReady", Message: message}
	if evidence != "" {
		fault.Evidence = []string{evidence}
	}
	return tracking.Look{Faults: []tracking.Fault{fault}}
}

// ask gives the problem that an answer tells of; empty where all is well. /livez says whether rules are up to date;
// /healthz says that of older versions, and since Kubernetes 1.28 also that the node is to be deleted, which is no fault.
func (k *KubeProxy) ask(ctx context.Context) (problem, evidence string, err error) {
	status, body, err := k.get(ctx, "/livez")
	if err == nil && status == http.StatusNotFound {
		status, body, err = k.get(ctx, "/healthz")
	}
	if err != nil || status == http.StatusOK {
		return "", "", err
	}
	return fmt.Sprintf("kube-proxy says that it is not healthy (HTTP %d)", status), body, nil
}

func (k *KubeProxy) get(ctx context.Context, path string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+k.address+path, nil)
	if err != nil {
		return 0, "", fmt.Errorf("asking kube-proxy, %w", err)
	}
	response, err := k.client.Do(request)
	if err != nil {
		return 0, "", fmt.Errorf("asking kube-proxy, %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read from
	text, err := io.ReadAll(io.LimitReader(response.Body, maxKubeProxyAnswer))
	if err != nil {
		return 0, "", fmt.Errorf("reading the answer of kube-proxy, %w", err)
	}
	return response.StatusCode, strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "")), " "), nil
}

// unanswered tells that nobody is there or is too slow from that the way to it is broken: with the loopback down no
// connection comes about, and none is refused either.
func unanswered(err error) bool {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	var timeout net.Error
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || (errors.As(err, &timeout) && timeout.Timeout())
}
