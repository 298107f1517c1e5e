// Package agentlife runs the agent as a process beside as much of an API server as it asks for, and measures what the
// process takes of the machine.
package agentlife

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// NodeName is the Node that the API has.
const NodeName = "node-1"

// API answers over TLS what one agent asks of an API server: its Node, and that it takes the NodeHealth. It keeps what
// was applied, each time as a whole, as server-side apply by one field manager would.
type API struct {
	server *httptest.Server

	mu      sync.Mutex
	newest  *v1alpha1.NodeHealth
	applied int
	since   map[string]map[metav1.Time]bool
	worst   map[string]v1alpha1.Severity
}

// NewAPI listens on the loopback interface until it is closed.
func NewAPI() *API {
	a := &API{since: map[string]map[metav1.Time]bool{}, worst: map[string]v1alpha1.Severity{}}
	a.server = httptest.NewTLSServer(a)
	return a
}

// Close ends it; the agent then has no API server.
func (a *API) Close() { a.server.Close() }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	object := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: NodeName, UID: "11111111-2222-3333-4444-555555555555"}}
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/nodes/"+NodeName:
	case r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/nodehealths/"+NodeName):
		if err := a.take(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}

func (a *API) take(body io.Reader) error {
	health := &v1alpha1.NodeHealth{}
	if err := json.NewDecoder(body).Decode(health); err != nil {
		return fmt.Errorf("reading the applied NodeHealth, %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.newest = health
	a.applied++
	for _, f := range health.Findings {
		if a.since[f.Reason] == nil {
			a.since[f.Reason] = map[metav1.Time]bool{}
		}
		a.since[f.Reason][f.Since] = true
		if a.worst[f.Reason] != v1alpha1.SeverityFatal {
			a.worst[f.Reason] = f.Severity
		}
	}
	return nil
}

// Newest gives what was applied last, nil where nothing was, and how often something was.
func (a *API) Newest() (*v1alpha1.NodeHealth, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.newest.DeepCopy(), a.applied
}

// Worst is the worst severity that a reason ever had; empty where it never was stated.
func (a *API) Worst(reason string) v1alpha1.Severity {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.worst[reason]
}

// Beginnings is how many different times a reason was ever said to stand since.
func (a *API) Beginnings(reason string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.since[reason])
}

// Count gives the counts of the findings of a source that have a reason, all subjects together.
func (a *API) Count(source, reason string) int64 {
	health, _ := a.Newest()
	if health == nil {
		return 0
	}
	count := int64(0)
	for _, f := range health.Findings {
		if f.Source == source && f.Reason == reason {
			count += f.Count
		}
	}
	return count
}

// Source gives what was last said of a source; false where it is not there.
func (a *API) Source(name string) (v1alpha1.Source, bool) {
	health, _ := a.Newest()
	if health != nil {
		for _, s := range health.Sources {
			if s.Name == name {
				return s, true
			}
		}
	}
	return v1alpha1.Source{}, false
}

// WriteKubeconfig writes a file with which a client finds the API.
func (a *API) WriteKubeconfig(path string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["api"] = &clientcmdapi.Cluster{
		Server:                   a.server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw}),
	}
	config.AuthInfos["agent"] = &clientcmdapi.AuthInfo{Token: "token"}
	config.Contexts["api"] = &clientcmdapi.Context{Cluster: "api", AuthInfo: "agent"}
	config.CurrentContext = "api"
	text, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig, %w", err)
	}
	return os.WriteFile(path, text, 0o600) //nolint:wrapcheck // names the file
}
