package main

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// plugin are the fields of krew's manifest (https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/).
type plugin struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string     `json:"version"`
		Homepage         string     `json:"homepage"`
		ShortDescription string     `json:"shortDescription"`
		Description      string     `json:"description"`
		Caveats          string     `json:"caveats"`
		Platforms        []platform `json:"platforms"`
	} `json:"spec"`
}

type platform struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	URI    string `json:"uri"`
	Sha256 string `json:"sha256"`
	Bin    string `json:"bin"`
	Files  []struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"files"`
}

// release fills the template in as krew-release-bot does for a tag.
func release(t *testing.T, tag string) plugin {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", ".krew.yaml"))
	require.NoError(t, err)
	render := func(text string) string {
		var out bytes.Buffer
		functions := template.FuncMap{"addURIAndSha": func(uri, tag string) string {
			return "uri: " + strings.ReplaceAll(uri, "{{ .TagName }}", tag) + "\n      sha256: " + strings.Repeat("a", 64)
		}}
		require.NoError(t, template.Must(template.New("").Funcs(functions).Parse(text)).Execute(&out, map[string]string{"TagName": tag}))
		return out.String()
	}
	var p plugin
	require.NoError(t, yaml.UnmarshalStrict([]byte(render(string(text))), &p))
	return p
}

func TestKrewTakesTheManifest(t *testing.T) {
	p := release(t, "v1.2.3")
	require.Equal(t, "krew.googlecontainertools.github.com/v1alpha2", p.APIVersion)
	require.Equal(t, "Plugin", p.Kind)
	require.Equal(t, "autorepair", p.Metadata.Name)
	require.Regexp(t, regexp.MustCompile(`^v\d+\.\d+\.\d+$`), p.Spec.Version)
	require.NotEmpty(t, p.Spec.Description)
	require.NotEmpty(t, p.Spec.Caveats)
	require.NotEmpty(t, p.Spec.ShortDescription)
	require.LessOrEqual(t, len(p.Spec.ShortDescription), 50, "krew's guide asks for at most 50 characters")
	require.False(t, strings.HasSuffix(p.Spec.ShortDescription, "."))
	homepage, err := url.Parse(p.Spec.Homepage)
	require.NoError(t, err)
	require.Equal(t, "https", homepage.Scheme)
	for _, platform := range p.Spec.Platforms {
		os, arch := platform.Selector.MatchLabels["os"], platform.Selector.MatchLabels["arch"]
		require.NotEmpty(t, os)
		require.NotEmpty(t, arch)
		require.Equal(t, "https://github.com/autorepair-sh/karpenter-autorepair/releases/download/v1.2.3/kubectl-autorepair_"+os+"_"+arch+".tar.gz", platform.URI)
		require.Len(t, platform.Sha256, 64)
		require.Equal(t, map[bool]string{true: "kubectl-autorepair.exe", false: "kubectl-autorepair"}[os == "windows"], platform.Bin)
		require.Len(t, platform.Files, 2)
		require.Equal(t, platform.Bin, platform.Files[0].From, "bin has to be among the files")
		require.Equal(t, "LICENSE", platform.Files[1].From, "krew-index asks for the licence")
	}
}

func TestThePlatformsAreThoseThatAreBuilt(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	require.NoError(t, err)
	built := regexp.MustCompile(`(?m)^PLATFORMS = (.*)$`).FindSubmatch(makefile)
	require.NotNil(t, built)
	var named []string
	for _, platform := range release(t, "v1.2.3").Spec.Platforms {
		named = append(named, platform.Selector.MatchLabels["os"]+"_"+platform.Selector.MatchLabels["arch"])
	}
	require.ElementsMatch(t, strings.Fields(string(built[1])), named)
}
