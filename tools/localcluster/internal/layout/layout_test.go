package layout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeModule(t *testing.T, dir, module string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+module+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRepositoryIsFoundFromWithin(t *testing.T) {
	root := t.TempDir()
	tool := filepath.Join(root, "tools", "localcluster")
	writeModule(t, root, Module)
	writeModule(t, tool, Module+"/tools/localcluster")

	for name, from := range map[string]string{
		"the root itself":                   root,
		"a package":                         filepath.Join(root, "pkg", "repair"),
		"the module of this tool, not that": tool,
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Repository(from); err != nil || got != root {
				t.Errorf("Repository(%s) = %s, %v, want %s", from, got, err, root)
			}
		})
	}
	if got, err := Repository(t.TempDir(), tool); err != nil || got != root {
		t.Errorf("Repository() with the second of two = %s, %v, want %s", got, err, root)
	}
	if got, err := Repository(t.TempDir()); err == nil {
		t.Errorf("Repository() outside of one = %s, want an error", got)
	}
}

func TestClusterDirectory(t *testing.T) {
	const root = "/repository"
	for name, test := range map[string]struct {
		repository, dir, cluster string
		want, wantErr            string
	}{
		"no name is the default cluster":       {repository: root, want: root + "/.localcluster/default"},
		"a name is beside it":                  {repository: root, cluster: "bench-1", want: root + "/.localcluster/bench-1"},
		"a directory wins over the name":       {repository: root, dir: "/tmp/x/../y", cluster: "a", want: "/tmp/y"},
		"a directory needs no repository":      {dir: "/tmp/y", want: "/tmp/y"},
		"a name needs a repository":            {cluster: "a", wantErr: "run localcluster inside it"},
		"a name that leaves the directory":     {repository: root, cluster: "../x", wantErr: "no cluster name"},
		"the name of the binaries":             {repository: root, cluster: "bin", wantErr: "no cluster name"},
		"the directory of the binaries":        {repository: root, dir: root + "/.localcluster/bin", wantErr: "holds other things"},
		"the repository itself as a directory": {repository: root, dir: root, wantErr: "holds other things"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ClusterDirectory(test.repository, test.dir, test.cluster)
			if got != test.want {
				t.Errorf("ClusterDirectory() = %q, want %q", got, test.want)
			}
			switch {
			case test.wantErr == "" && err != nil:
				t.Errorf("ClusterDirectory() = %v, want no error", err)
			case test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)):
				t.Errorf("ClusterDirectory() = %v, want an error with %q", err, test.wantErr)
			}
		})
	}
}
