package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// write is one request that changes what the API server holds. Leases and events do not count: nothing rests on them.
type write struct {
	// Number since the proxy was last reset; the first is 1.
	Number int
	// At is when it came.
	At time.Time
	// What is written, for people: "PATCH noderepairs/status pool-1 Terminating".
	What string
	// Path and Body of the request.
	Path string
	Body []byte
	// Client is the address of the client's end of the connection.
	Client string
}

// fate of a request.
type fate int

const (
	// pass it on.
	pass fate = iota
	// passLate passes it on although its client may have gone meanwhile.
	passLate
	// cut the connection without an answer.
	cut
	// conflict, tooMany and broken answer by 409, 429 with Retry-After, and 500.
	conflict
	tooMany
	broken
)

// hooks are asked about each write, in the goroutine of its request, so they may wait or kill.
type hooks struct {
	// before the API server sees it.
	before func(write) fate
	// after the API server has answered, and before the answer is passed on: pass or cut.
	after func(write) fate
}

// proxy stands between the controller and the API server, and passes the controller's own credentials on.
type proxy struct {
	server *httptest.Server
	// closing is closed when the proxy is about to end: nothing may hold a request for longer.
	closing chan struct{}

	mu     sync.Mutex // guards what follows
	hooks  hooks
	writes []write
}

// newProxy starts one in front of a cluster's API server.
func newProxy(c *cluster.Cluster) (*proxy, error) {
	target, err := url.Parse(c.Config.Host)
	if err != nil {
		return nil, fmt.Errorf("reading the address of the API server, %w", err)
	}
	transport, err := rest.TransportFor(rest.AnonymousClientConfig(c.Config))
	if err != nil {
		return nil, fmt.Errorf("making the way to the API server, %w", err)
	}
	p := &proxy{closing: make(chan struct{})}
	onward := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      transport,
		FlushInterval:  -1, // watches
		ErrorLog:       log.New(io.Discard, "", 0),
		ModifyResponse: p.answered,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	// HTTP/1.1, so that each request under way has a connection of its own, which can be cut.
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, onward) }))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.StartTLS()
	return p, nil
}

// ca is the certificate authority of the proxy, as PEM.
func (p *proxy) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
}

// close ends it, lets go the requests that are held, and cuts all connections.
func (p *proxy) close() {
	close(p.closing)
	p.server.CloseClientConnections()
	p.server.Close()
}

// reset forgets the writes that were seen, and sets what is asked about those that come.
func (p *proxy) reset(h hooks) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hooks, p.writes = h, nil
}

// seen gives the writes since the last reset.
func (p *proxy) seen() []write {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]write(nil), p.writes...)
}

// holds keeps a request until it is released, and lets it go with the proxy's end or after patience at the latest:
// the server cannot be closed while a request is held. It says whether it was released.
func (p *proxy) holds(release <-chan struct{}) bool {
	select {
	case <-release:
		return true
	case <-p.closing:
	case <-time.After(patience):
	}
	return false
}

type writeKey struct{}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request, onward http.Handler) {
	if !changes(r) {
		onward.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.mu.Lock()
	seen := write{Number: len(p.writes) + 1, At: time.Now(), What: what(r, body), Path: r.URL.Path, Body: body, Client: r.RemoteAddr}
	p.writes = append(p.writes, seen)
	before, after := p.hooks.before, p.hooks.after
	p.mu.Unlock()
	if before != nil {
		switch f := before(seen); f {
		case pass:
		case passLate:
			r = r.WithContext(context.WithoutCancel(r.Context()))
		default:
			refuse(w, f)
			return
		}
	}
	if after != nil {
		r = r.WithContext(contextWith(r.Context(), func() fate { return after(seen) }))
	}
	onward.ServeHTTP(w, r)
}

// answered is called once the API server has answered.
func (*proxy) answered(response *http.Response) error {
	if after, ok := response.Request.Context().Value(writeKey{}).(func() fate); ok && after() != pass {
		return http.ErrAbortHandler
	}
	return nil
}

func refuse(w http.ResponseWriter, f fate) {
	status := metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure}
	switch f {
	case conflict:
		status.Code, status.Reason, status.Message = http.StatusConflict, metav1.StatusReasonConflict, "somebody else was faster"
	case tooMany:
		status.Code, status.Reason, status.Message = http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many requests"
		w.Header().Set("Retry-After", "1")
	case broken:
		status.Code, status.Reason, status.Message = http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcdserver: request timed out"
	default:
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status)
}

// objectPath of the API: an optional namespace, a resource, and perhaps a name and a subresource.
//
//	/apis/autorepair.sh/v1alpha1/noderepairs/pool-1/status
var objectPath = regexp.MustCompile(`^/(?:api/v1|apis/([^/]+)/[^/]+)(?:/namespaces/[^/]+)?/([a-z]+)(?:/([^/]+))?(?:/([a-z]+))?$`)

func changes(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return false
	}
	parts := objectPath.FindStringSubmatch(r.URL.Path)
	return parts != nil && parts[2] != "leases" && parts[2] != "events" && !strings.HasSuffix(parts[1], "authorization.k8s.io")
}

// what tells a write: with the phase that it gives a NodeRepair, and what it says of the repair on a NodeClaim.
func what(r *http.Request, body []byte) string {
	parts := objectPath.FindStringSubmatch(r.URL.Path)
	resource := parts[2]
	if parts[4] != "" {
		resource += "/" + parts[4]
	}
	var object struct {
		Metadata struct{ Name string }
		Status   struct {
			Phase      string
			Conditions []metav1.Condition
		}
	}
	_ = json.Unmarshal(body, &object) // YAML and protobuf name nothing more
	name := parts[3]
	if name == "" {
		name = object.Metadata.Name
	}
	says := object.Status.Phase
	for _, c := range object.Status.Conditions {
		if resource == "nodeclaims/status" && (c.Type == v1alpha1.ConditionUnhealthy || c.Type == v1alpha1.ConditionRepairing) {
			says += " " + strings.TrimPrefix(c.Type, v1alpha1.Group+"/") + "=" + c.Reason
		}
	}
	return strings.Join(strings.Fields(strings.Join([]string{r.Method, resource, name, says}, " ")), " ")
}

func contextWith(ctx context.Context, after func() fate) context.Context {
	return context.WithValue(ctx, writeKey{}, after)
}
