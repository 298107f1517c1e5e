package prometheus

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// target is a process of ours that serves metrics.
type target struct {
	job string
	// url of its metrics.
	url string
	// token that it asks for; empty: none.
	token string
}

// scrapeConfig is how Prometheus scrapes a target. A certificate that a process has made for itself is not verified.
func scrapeConfig(t target) (map[string]any, error) {
	u, err := url.Parse(t.url)
	if err != nil {
		return nil, fmt.Errorf("reading the URL of %s, %w", t.job, err)
	}
	config := map[string]any{
		"job_name": t.job, "scheme": u.Scheme, "metrics_path": u.Path,
		"static_configs": []map[string]any{{"targets": []string{u.Host}}},
	}
	if u.Scheme == "https" {
		config["tls_config"] = map[string]any{"insecure_skip_verify": true}
	}
	if t.token != "" {
		config["authorization"] = map[string]any{"type": "Bearer", "credentials": t.token}
	}
	return config, nil
}

// scrape reads the series that a target serves, by name and labels, as Prometheus would.
func scrape(ctx context.Context, t target) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return nil, fmt.Errorf("scraping %s, %w", t.job, err)
	}
	if t.token != "" {
		request.Header.Set("Authorization", "Bearer "+t.token)
	}
	scraper := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, //nolint:gosec // see scrapeConfig
	}}
	response, err := scraper.Do(request)
	if err != nil {
		return nil, fmt.Errorf("scraping %s, %w", t.job, err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scraping %s, %s", t.job, response.Status)
	}
	out := map[string]float64{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		at := strings.LastIndexByte(lines.Text(), ' ')
		if at < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		if value, err := strconv.ParseFloat(lines.Text()[at+1:], 64); err == nil {
			out[lines.Text()[:at]] = value
		}
	}
	return out, nil
}

// server is a running Prometheus, with our alerts as its rules.
type server struct {
	url string
}

// startServer runs Debian's Prometheus on a port and in a folder of its own, scraping every second.
func startServer(ctx context.Context, t *testing.T, targets ...target) *server {
	t.Helper()
	binary := debian(t, "prometheus")
	dir := t.TempDir()
	config := map[string]any{
		"global":     map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{filepath.Join(root(t), alertsFile)},
	}
	var scrapes []map[string]any
	for _, target := range targets {
		scrape, err := scrapeConfig(target)
		require.NoError(t, err)
		scrapes = append(scrapes, scrape)
	}
	config["scrape_configs"] = scrapes
	text, err := yaml.Marshal(config)
	require.NoError(t, err)
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, text, 0o600))

	address := freeAddress(t)
	log, err := os.Create(filepath.Join(dir, "prometheus.log"))
	require.NoError(t, err)
	cmd := exec.Command(binary, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), //nolint:gosec // found on the path
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("Prometheus said:\n%s", said)
		}
	})
	s := &server{url: "http://" + address}
	suite.Within(ctx, t, time.Minute, "Prometheus is ready", func() error { return s.get(ctx, "/api/v1/status/runtimeinfo", &struct{}{}) })
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // only held to find the port
	return listener.Addr().String()
}

// get reads the data of an answer of the API into out.
func (s *server) get(ctx context.Context, path string, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return fmt.Errorf("asking Prometheus, %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("asking Prometheus, %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	var answer struct {
		Status string          `json:"status"`
		Error  string          `json:"error"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("reading the answer of Prometheus, %w", err)
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, out) //nolint:wrapcheck // the caller says what for
}

// query gives the values that a query has now; those that are no number are left out.
func (s *server) query(ctx context.Context, expr string) ([]float64, error) {
	var data struct {
		Result []struct {
			Value [2]any `json:"value"`
		} `json:"result"`
	}
	if err := s.get(ctx, "/api/v1/query?query="+url.QueryEscape(expr), &data); err != nil {
		return nil, err
	}
	var out []float64
	for _, series := range data.Result {
		text, _ := series.Value[1].(string)
		if value, err := strconv.ParseFloat(text, 64); err == nil && value == value {
			out = append(out, value)
		}
	}
	return out, nil
}

// firing names the alerts that fire now.
func (s *server) firing(ctx context.Context) (map[string]bool, error) {
	var data struct {
		Alerts []struct {
			Labels map[string]string `json:"labels"`
			State  string            `json:"state"`
		} `json:"alerts"`
	}
	if err := s.get(ctx, "/api/v1/alerts", &data); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			out[a.Labels["alertname"]] = true
		}
	}
	return out, nil
}

// unreached says which targets Prometheus cannot scrape; empty where it can all.
func (s *server) unreached(ctx context.Context) (string, error) {
	var data struct {
		ActiveTargets []struct {
			ScrapeURL string `json:"scrapeUrl"`
			Health    string `json:"health"`
			LastError string `json:"lastError"`
		} `json:"activeTargets"`
	}
	if err := s.get(ctx, "/api/v1/targets", &data); err != nil {
		return "", err
	}
	var out []string
	for _, target := range data.ActiveTargets {
		if target.Health != "up" {
			out = append(out, fmt.Sprintf("%s: %s %s", target.ScrapeURL, target.Health, target.LastError))
		}
	}
	return strings.Join(out, "; "), nil
}

func TestHowATargetIsScraped(t *testing.T) {
	for name, test := range map[string]struct {
		target target
		want   string
	}{
		"in the clear": {
			target{job: "controller", url: "http://127.0.0.1:1/metrics"},
			"job_name: controller\nmetrics_path: /metrics\nscheme: http\nstatic_configs:\n- targets:\n  - 127.0.0.1:1\n",
		},
		"over TLS with a token": {
			target{job: "controller", url: "https://127.0.0.1:1/metrics", token: "t"},
			"authorization:\n  credentials: t\n  type: Bearer\njob_name: controller\nmetrics_path: /metrics\nscheme: https\n" +
				"static_configs:\n- targets:\n  - 127.0.0.1:1\ntls_config:\n  insecure_skip_verify: true\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := scrapeConfig(test.target)
			require.NoError(t, err)
			text, err := yaml.Marshal(config)
			require.NoError(t, err)
			require.Equal(t, test.want, string(text))
		})
	}
}
