package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// ReasonContainerdFailed is the reason of the source container-runtime.
const ReasonContainerdFailed = "ContainerdFailed"

const (
	runtimeInterval = 10 * time.Second
	runtimeTimeout  = 10 * time.Second
	// runtimeBuffer holds a whole answer: that of containerd is below 1 KiB.
	runtimeBuffer = 4 << 10
	// runtimeAnswerMost bounds an answer: handlers and features of all runtimes that a node has.
	runtimeAnswerMost = 1 << 20
)

// runtimeSockets is where the runtimes that Kubernetes knows listen: the defaults of kubeadm, then those of k3s and k0s.
var runtimeSockets = []string{
	"run/containerd/containerd.sock", "run/crio/crio.sock", "run/cri-dockerd.sock",
	"run/k3s/containerd/containerd.sock", "run/k0s/containerd.sock",
}

// RuntimeOptions of the detector of the container runtime.
type RuntimeOptions struct {
	// Sockets of the Container Runtime Interface, below the host root. The first that is there and speaks it is looked
	// at until the next boot. Empty: those of containerd, CRI-O and cri-dockerd, then those of k3s and k0s.
	Sockets []string `json:"sockets,omitempty"`
	// Timeout of one answer; 0: 10 s (our own choice: the kubelet itself waits for two minutes). The limit of a look
	// must be longer.
	Timeout metav1.Duration `json:"timeout,omitempty"`
	// Interval between looks; 0: 10 s, so that six looks make the minute of the catalogue's confirm.
	Interval metav1.Duration `json:"interval,omitempty"`
}

// Runtime asks the container runtime, over the Container Runtime Interface, whether it is ready. That its network is
// not ready is the network plugin's fault, which the kubelet tells (NodeNotReady).
type Runtime struct {
	host    host.Host
	options RuntimeOptions
	memory  runtimeMemory
	conn    *grpc.ClientConn
	// dialed is the outcome of the last attempt to connect, which gRPC only gives as text.
	dialed atomic.Pointer[error]
}

// runtimeMemory is what a look leaves for those after it in the same boot.
type runtimeMemory struct {
	// Socket that is looked at; empty while none has been seen.
	Socket string `json:"socket,omitempty"`
	// Spoke says that the runtime has answered there.
	Spoke bool `json:"spoke,omitempty"`
}

// NewRuntime makes the detector; it does not connect yet.
func NewRuntime(h host.Host, o RuntimeOptions) *Runtime {
	if len(o.Sockets) == 0 {
		o.Sockets = runtimeSockets
	}
	if o.Timeout.Duration <= 0 {
		o.Timeout.Duration = runtimeTimeout
	}
	if o.Interval.Duration <= 0 {
		o.Interval.Duration = runtimeInterval
	}
	return &Runtime{host: h, options: o}
}

// Spec of the source container-runtime.
func (r *Runtime) Spec() detector.Spec {
	return detector.Spec{
		Name:       "container-runtime",
		Categories: []v1alpha1.Category{v1alpha1.CategoryContainerRuntime},
		Interval:   r.options.Interval.Duration,
	}
}

// Cursor is the socket that is looked at.
func (r *Runtime) Cursor() json.RawMessage {
	return serviceCursor(r.memory)
}

// Resume with the socket of an earlier run in the same boot, so that one that has vanished since is missed.
func (r *Runtime) Resume(cursor json.RawMessage, sameBoot bool) {
	var memory runtimeMemory
	if sameBoot && json.Unmarshal(cursor, &memory) == nil {
		r.memory = memory
	}
}

// errNoCRI says that what listens there does not offer the Container Runtime Interface, version v1, as a containerd that
// serves Docker does not.
var errNoCRI = errors.New("does not offer the Container Runtime Interface v1")

// Look asks the runtime once. Without a socket since boot it is ErrNotPresent.
func (r *Runtime) Look(ctx context.Context) (tracking.Look, error) {
	if r.memory.Socket != "" {
		look, err := r.ask(ctx, r.memory.Socket)
		if errors.Is(err, errNoCRI) && r.memory.Spoke {
			return r.fault("no longer offers the Container Runtime Interface v1"), nil
		}
		if errors.Is(err, errNoCRI) {
			r.memory = runtimeMemory{}
		}
		return look, err
	}
	unusable := detector.ErrNotPresent
	for _, socket := range r.options.Sockets {
		if _, err := os.Stat(r.host.Path(socket)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		r.memory = runtimeMemory{Socket: socket}
		look, err := r.ask(ctx, socket)
		if err == nil {
			return look, nil
		}
		r.drop()
		r.memory, unusable = runtimeMemory{}, err
	}
	return tracking.Look{}, unusable
}

// ask gives the fault that the runtime has, or an error where that cannot be told.
func (r *Runtime) ask(ctx context.Context, socket string) (tracking.Look, error) {
	if _, err := os.Stat(r.host.Path(socket)); errors.Is(err, fs.ErrNotExist) {
		r.drop()
		return r.fault("is gone: its socket was there and has vanished"), nil
	}
	asking, cancel := context.WithTimeout(ctx, r.options.Timeout.Duration)
	defer cancel()
	answer, err := r.status(asking, r.host.Path(socket))
	if ended := runtimeEnded(ctx, asking, err); ended != nil {
		return tracking.Look{}, fmt.Errorf("asking the container runtime at %s, %w", socket, ended)
	}
	if err != nil {
		return r.refused(socket, err)
	}
	r.memory.Spoke = true
	return r.judge(answer)
}

// runtimeEnded says that the look ended, and not the time that an answer may take. A runtime knows the deadline of a
// call and may be the first to see that it has passed, so the clock of the look is not enough.
func runtimeEnded(look, asking context.Context, err error) error {
	limit, limited := look.Deadline()
	until, _ := asking.Deadline()
	if limited && !limit.After(until) && status.Code(err) == codes.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return look.Err()
}

// status over the connection that is there, or over a new one where that has broken since, as it does when the runtime
// restarts.
func (r *Runtime) status(ctx context.Context, path string) (*cri.StatusResponse, error) {
	kept := r.conn != nil
	answer, err := r.statusOnce(ctx, path)
	if kept && status.Code(err) == codes.Unavailable {
		r.drop()
		return r.statusOnce(ctx, path)
	}
	return answer, err
}

func (r *Runtime) statusOnce(ctx context.Context, path string) (*cri.StatusResponse, error) {
	if r.conn == nil {
		conn, err := r.connect(path)
		if err != nil {
			return nil, err
		}
		r.conn = conn
	}
	return cri.NewRuntimeServiceClient(r.conn).Status(ctx, &cri.StatusRequest{})
}

func (r *Runtime) connect(path string) (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		r.dialed.Store(&err)
		return conn, err
	}
	// The name of the target is not looked up; containerd and CRI-O ask for an authority that is a host name.
	return grpc.NewClient("passthrough:///localhost",
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(runtimeBuffer), grpc.WithWriteBufferSize(runtimeBuffer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(runtimeAnswerMost)),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithDisableHealthCheck(),
	)
}

// drop forgets the connection, so that the next look does not wait for the backoff of this one.
func (r *Runtime) drop() {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
	r.dialed.Store(nil)
}

// refused says what it means that there was no answer.
func (r *Runtime) refused(socket string, err error) (tracking.Look, error) {
	var dialed error
	if last := r.dialed.Load(); last != nil {
		dialed = *last
	}
	switch code := status.Code(err); {
	case errors.Is(dialed, fs.ErrPermission):
		r.drop()
		return tracking.Look{}, fmt.Errorf("connecting to the container runtime, %w", dialed)
	case code == codes.Unimplemented:
		return tracking.Look{}, fmt.Errorf("the container runtime at %s %w", socket, errNoCRI)
	case code == codes.PermissionDenied, code == codes.Unauthenticated, code == codes.ResourceExhausted, code == codes.Canceled:
		return tracking.Look{}, fmt.Errorf("asking the container runtime at %s, %w", socket, err)
	case errors.Is(dialed, fs.ErrNotExist):
		r.drop()
		return r.fault("is gone: its socket was there and has vanished"), nil
	case errors.Is(dialed, syscall.ECONNREFUSED):
		r.drop()
		return r.fault("does not run: connections are refused"), nil
	case code == codes.DeadlineExceeded:
		// The connection is kept: one that does not answer would gather them.
		return r.fault(fmt.Sprintf("has not answered within %s", r.options.Timeout.Duration)), nil
	default:
		r.drop()
		return r.fault("answers with an error", status.Convert(err).Message()), nil
	}
}

// judge what the runtime says of itself.
func (r *Runtime) judge(answer *cri.StatusResponse) (tracking.Look, error) {
	ready, told := false, false
	var evidence []string
	for _, c := range answer.GetStatus().GetConditions() {
		if c.GetType() == cri.RuntimeReady {
			ready, told = c.GetStatus(), true
		}
		if !c.GetStatus() && (c.GetType() == cri.RuntimeReady || c.GetType() == cri.NetworkReady) {
			evidence = append(evidence, fmt.Sprintf("%s=false %s: %s", c.GetType(), c.GetReason(), c.GetMessage()))
		}
	}
	switch {
	case !told:
		return tracking.Look{}, fmt.Errorf("the container runtime at %s does not say whether it is ready", r.memory.Socket)
	case ready:
		return tracking.Look{}, nil
	default:
		return r.fault("says that it is not ready", evidence...), nil
	}
}

func (r *Runtime) fault(what string, evidence ...string) tracking.Look {
	fault := tracking.Fault{
		Reason:  ReasonContainerdFailed,
		Message: fmt.Sprintf("The container runtime at /%s %s.", strings.TrimPrefix(r.memory.Socket, "/"), what),
	}
	for _, line := range evidence {
		fault.Evidence = append(fault.Evidence, serviceText(line))
	}
	return tracking.Look{Faults: []tracking.Fault{fault}}
}
