package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

var (
	chartPath = regexp.MustCompile(`\bcharts/[A-Za-z0-9/_.-]+`)
	set       = regexp.MustCompile(`--set ([A-Za-z.]+)=|\x60((?:agent|controller|cleanup|metrics|networkPolicy|defaultRepairPolicy|repairPolicies)(?:\.[A-Za-z]+)*)(?:=[a-z]+)?\x60`)
)

// Charts, presets and values that are shown are there.
func TestShownChartsPresetsAndValuesAreThere(t *testing.T) {
	root := root(t)
	values := map[string]any{}
	require.NoError(t, yaml.Unmarshal([]byte(readFile(t, filepath.Join(root, "charts", "autorepair", "values.yaml"))), &values))
	files, err := Files(root)
	require.NoError(t, err)
	paths, keys := 0, 0
	for _, file := range files {
		if strings.HasPrefix(file, "charts/") {
			continue // made from the values themselves
		}
		text := readFile(t, filepath.Join(root, file))
		for _, path := range chartPath.FindAllString(text, -1) {
			paths++
			if _, err := os.Stat(filepath.Join(root, strings.TrimRight(path, "."))); err != nil {
				t.Errorf("%s speaks of %s, which is not there", file, path)
			}
		}
		for _, found := range set.FindAllStringSubmatch(text, -1) {
			keys++
			if key := found[1] + found[2]; !hasValue(values, strings.Split(key, ".")) {
				t.Errorf("%s speaks of the value %s, which the chart does not have", file, key)
			}
		}
	}
	require.Greater(t, paths, 5)
	require.Greater(t, keys, 3)
}

func hasValue(values map[string]any, path []string) bool {
	value, ok := values[path[0]]
	if len(path) == 1 || !ok {
		return ok
	}
	below, isMap := value.(map[string]any)
	return isMap && hasValue(below, path[1:])
}
