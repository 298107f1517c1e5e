package prometheus

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// panel of a Grafana dashboard, as far as it is looked at here.
type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Datasource  struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	GridPos struct{ X, Y, W, H int } `json:"gridPos"`
	Targets []struct {
		RefID string `json:"refId"`
		Expr  string `json:"expr"`
	} `json:"targets"`
}

func panels(t *testing.T) []panel {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "charts/autorepair/files/dashboard.json"))
	require.NoError(t, err)
	var dashboard struct {
		Panels []panel `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	require.NotEmpty(t, dashboard.Panels)
	return dashboard.Panels
}

func TestTheDashboardIsWhole(t *testing.T) {
	ids, titles := map[int]bool{}, map[string]bool{}
	taken := map[[2]int]string{}
	for _, p := range panels(t) {
		require.False(t, ids[p.ID], "%s has the id of another", p.Title)
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s lies on another", p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		if p.Type == "row" {
			continue
		}
		require.False(t, titles[p.Title], "two are called %s", p.Title)
		titles[p.Title] = true
		require.NotEmpty(t, p.Description, p.Title)
		require.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
	}
}

// selector finds what a query asks for: a name, and labels where there are any.
var selector = regexp.MustCompile(`\b(autorepair|controller_runtime|process|karpenter)_[a-z_]+(\{[^}]*\})?`)

// Every series that a panel or an alert asks for is one that is documented, or one of the process.
func TestQueriesAskForWhatIsServed(t *testing.T) {
	documented := served()
	documented["controller_runtime_reconcile_errors_total"] = true
	documented["process_resident_memory_bytes"] = true
	asked := map[string]bool{}
	for where, expr := range queries(t) {
		found := selector.FindAllString(expr, -1)
		require.NotEmpty(t, found, "%s asks for none of ours: %s", where, expr)
		for _, s := range found {
			name, _, _ := strings.Cut(s, "{")
			require.True(t, documented[name], "%s asks for %s, which docs/metrics.md does not have", where, name)
			asked[name] = true
		}
	}
	// And what is served is shown, so that nobody counts for nobody.
	for name := range documented {
		if shown := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count"); shown != name {
			require.True(t, asked[shown+"_bucket"] || asked[shown+"_sum"], "%s is on no panel and in no alert", shown)
			continue
		}
		require.True(t, asked[name], "%s is on no panel and in no alert", name)
	}
}

// queries of the dashboard and of the alerts, by where they stand. What Grafana fills in is filled in.
func queries(t *testing.T) map[string]string {
	t.Helper()
	grafana := strings.NewReplacer("$__rate_interval", "30s", "$nodepool", ".*")
	out := map[string]string{}
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			out["panel "+p.Title+" "+target.RefID] = grafana.Replace(target.Expr)
		}
	}
	for _, a := range alerts(t) {
		out["alert "+a.Alert] = a.Expr
	}
	return out
}

// selectors that the alerts ask for, each once.
func selectors(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, a := range alerts(t) {
		out = append(out, selector.FindAllString(a.Expr, -1)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
