// Package stages says how kwok plays the kubelets: its own fast stages, with
// two handles that tests need.
package stages

import (
	"bytes"
	"fmt"

	nodefast "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	heartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	podfast "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/yaml"
)

const (
	// NodeSelector is the annotation of the nodes that kwok plays; Karpenter's
	// kwok provider puts it on every node that it makes.
	NodeSelector = "kwok.x-k8s.io/node=fake"

	// PodDeleteDelay is the annotation with which a pod takes longer to go than
	// the no time at all that a kwok pod needs, such as "20s".
	PodDeleteDelay = "pod-delete.stage.kwok.x-k8s.io/delay"

	// parallelism is for hundreds of nodes that arrive at once; kwok's own
	// default is 4.
	parallelism = 16
)

// heldNode keeps kwok from making a node Ready again that a test has made
// unready: the label's stage outweighs the others and does nothing. Label and
// meaning are those of Karpenter's own end-to-end tests.
const heldNode = `apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: node-held
spec:
  resourceRef:
    apiGroup: v1
    kind: Node
  selector:
    matchLabels:
      kwok.x-k8s.io/stage: unhealthy
  weight: 100
  next: {}
`

// Configuration returns kwok's configuration file.
func Configuration() ([]byte, error) {
	podDelete, err := withDelay(podfast.DefaultPodDelete)
	if err != nil {
		return nil, fmt.Errorf("reading kwok's stage of a deleted pod, %w", err)
	}
	options, err := yaml.Marshal(map[string]any{
		"apiVersion": "config.kwok.x-k8s.io/v1alpha1",
		"kind":       "KwokConfiguration",
		"options": map[string]any{
			"podPlayStageParallelism":   parallelism,
			"nodePlayStageParallelism":  parallelism,
			"nodeLeaseParallelism":      parallelism,
			"podsOnNodeSyncParallelism": parallelism,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("writing kwok's options, %w", err)
	}
	return bytes.Join([][]byte{
		options,
		[]byte(nodefast.DefaultNodeInit),
		[]byte(heartbeat.DefaultNodeHeartbeatWithLease),
		[]byte(heldNode),
		[]byte(podfast.DefaultPodReady),
		[]byte(podfast.DefaultPodComplete),
		podDelete,
	}, []byte("\n---\n")), nil
}

func withDelay(stage string) ([]byte, error) {
	var object struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       map[string]any `json:"spec"`
	}
	if err := yaml.Unmarshal([]byte(stage), &object); err != nil {
		return nil, fmt.Errorf("parsing, %w", err)
	}
	object.Spec["delay"] = map[string]any{
		"durationMilliseconds": 0,
		"durationFrom": map[string]any{
			"expressionFrom": fmt.Sprintf(".metadata.annotations[%q]", PodDeleteDelay),
		},
	}
	text, err := yaml.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("writing, %w", err)
	}
	return text, nil
}
