package stages

import (
	"bytes"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestConfigurationHasEveryStageOnce(t *testing.T) {
	text, err := Configuration()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var object struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal(document, &object); err != nil {
			t.Fatalf("parsing %s, %v", document, err)
		}
		names = append(names, object.Kind+"/"+object.Metadata.Name)
	}
	want := []string{
		"KwokConfiguration/", "Stage/node-initialize", "Stage/node-heartbeat-with-lease", "Stage/node-held",
		"Stage/pod-ready", "Stage/pod-complete", "Stage/pod-delete",
	}
	if !slices.Equal(names, want) {
		t.Errorf("Configuration() has %v, want %v", names, want)
	}
	if !bytes.Contains(text, []byte(PodDeleteDelay)) {
		t.Errorf("Configuration() does not heed %s", PodDeleteDelay)
	}
}
