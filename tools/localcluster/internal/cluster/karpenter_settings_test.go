package cluster

import (
	"strings"
	"testing"
)

func TestKarpenterSettingsSayWhatToWrite(t *testing.T) {
	for name, test := range map[string]struct {
		settings KarpenterSettings
		wantErr  string
	}{
		"stock alone":                 {settings: KarpenterSettings{Mode: KarpenterStock}},
		"gates and variables":         {settings: KarpenterSettings{Mode: KarpenterStock, FeatureGates: "NodeRepair=true,StaticCapacity=false", Env: []string{"LOG_LEVEL=debug"}}},
		"none alone":                  {settings: KarpenterSettings{Mode: KarpenterNone}},
		"none with gates":             {settings: KarpenterSettings{Mode: KarpenterNone, FeatureGates: "NodeRepair=true"}, wantErr: "drop it or drop the other"},
		"a mode that does not exist":  {settings: KarpenterSettings{Mode: "mine"}, wantErr: "for a build of your own use --karpenter-binary PATH"},
		"a gate without a value":      {settings: KarpenterSettings{Mode: KarpenterStock, FeatureGates: "NodeRepair"}, wantErr: "write gates as NodeRepair=true"},
		"a gate that is neither":      {settings: KarpenterSettings{Mode: KarpenterStock, FeatureGates: "NodeRepair=yes"}, wantErr: "write gates as NodeRepair=true"},
		"a variable without a value":  {settings: KarpenterSettings{Mode: KarpenterStock, Env: []string{"LOG_LEVEL"}}, wantErr: "write it as KEY=VALUE"},
		"gates given as a variable":   {settings: KarpenterSettings{Mode: KarpenterStock, Env: []string{"FEATURE_GATES=NodeRepair=true"}}, wantErr: "use --karpenter-feature-gates"},
		"a variable that is not free": {settings: KarpenterSettings{Mode: KarpenterStock, Env: []string{"METRICS_PORT=1"}}, wantErr: "localcluster sets it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.settings.Validate()
			switch {
			case test.wantErr == "" && err != nil:
				t.Errorf("Validate() = %v, want no error", err)
			case test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)):
				t.Errorf("Validate() = %v, want an error with %q", err, test.wantErr)
			}
		})
	}
}
