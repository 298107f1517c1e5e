package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// FieldManager owns the entries of the agent in the NodeHealth of its node.
const FieldManager = "autorepair.sh/agent"

// requestTimeout is how long the API server may take for an answer: a slow one is no reason to ask again.
const requestTimeout = 60 * time.Second

// APIServer is what the agent asks of the API server: its own Node, and its own NodeHealth.
type APIServer struct {
	client rest.Interface
}

// NewAPIServer connects by the kubeconfig, or where it is empty by KUBECONFIG or the service account of the pod.
func NewAPIServer(kubeconfig string) (*APIServer, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the API server, %w", err)
	}
	config.Timeout = requestTimeout
	config.UserAgent = "autorepair-agent"
	config.QPS, config.Burst = -1, 0 // the writer has its own pace
	config.GroupVersion = &schema.GroupVersion{}
	// Of all types only the answer to what the API server refuses is read, which says why.
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("building a client, %w", err)
	}
	return &APIServer{client: client}, nil
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		if config, err := rest.InClusterConfig(); err == nil {
			return config, nil
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig() //nolint:wrapcheck // the caller says what for
}

// NodeUID gives the UID of the Node; an error that is NotFound where it has not registered.
func (a *APIServer) NodeUID(ctx context.Context, name string) (types.UID, error) {
	// The metadata is all that matters, and all that is sent.
	result := a.client.Get().AbsPath("api/v1/nodes", name).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").Do(ctx)
	// Unlike Raw, Error reads why the API server refuses.
	if err := result.Error(); err != nil {
		return "", fmt.Errorf("getting node, %w", err)
	}
	text, err := result.Raw()
	if err != nil {
		return "", fmt.Errorf("getting node, %w", err)
	}
	var node metav1.PartialObjectMetadata
	if err := json.Unmarshal(text, &node); err != nil {
		return "", fmt.Errorf("getting node, %w", err)
	}
	return node.UID, nil
}

// Apply writes the whole of what the agent owns in its NodeHealth, and takes away what it owned and no longer states.
func (a *APIServer) Apply(ctx context.Context, health *v1alpha1.NodeHealth) error {
	body, err := applied(health)
	if err != nil {
		return err
	}
	err = a.client.Verb(http.MethodPatch).AbsPath("apis", v1alpha1.Group, "v1alpha1/nodehealths", health.Name).
		Param("fieldManager", FieldManager).Param("force", "true").
		SetHeader("Content-Type", string(types.ApplyYAMLPatchType)).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").
		Body(body).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("applying nodehealth, %w", err)
	}
	return nil
}

// applied is the body of the request, without the fields that only the API server fills in.
func applied(health *v1alpha1.NodeHealth) ([]byte, error) {
	body := map[string]any{
		"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "NodeHealth",
		"metadata": map[string]any{"name": health.Name, "ownerReferences": health.OwnerReferences},
		"bootID":   health.BootID,
	}
	// An empty list would be null, which is no list.
	if len(health.Sources) > 0 {
		body["sources"] = health.Sources
	}
	if len(health.Findings) > 0 {
		body["findings"] = health.Findings
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("writing nodehealth, %w", err)
	}
	return text, nil
}
