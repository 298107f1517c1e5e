package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

func root(t *testing.T) string {
	t.Helper()
	root, err := cluster.Root()
	require.NoError(t, err)
	return root
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// A link that leads nowhere is worse than none.
func TestEveryRelativeLinkLeadsSomewhere(t *testing.T) {
	root := root(t)
	files, err := Files(root)
	require.NoError(t, err)
	seen := 0
	for _, file := range files {
		text := readFile(t, filepath.Join(root, file))
		for _, target := range Links(text) {
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			seen++
			path, anchor, _ := strings.Cut(target, "#")
			there := filepath.Join(root, file)
			if path != "" {
				there = filepath.Join(root, filepath.Dir(file), path)
			}
			if _, err := os.Stat(there); err != nil {
				t.Errorf("%s: the link to %s leads nowhere: there is no file %s", file, target, path)
				continue
			}
			if anchor != "" && !slices.Contains(Anchors(readFile(t, there)), anchor) {
				t.Errorf("%s: the link to %s leads nowhere: no heading gives #%s", file, target, anchor)
			}
		}
	}
	require.Greater(t, seen, 30, "too few links for this test to mean anything")
}

// Whoever looks for something begins with an index.
func TestEveryDocumentIsInItsIndex(t *testing.T) {
	root := root(t)
	for folder, index := range map[string]string{"docs": "docs/README.md", "designs": "designs/README.md"} {
		links := Links(readFile(t, filepath.Join(root, index)))
		paths, err := filepath.Glob(filepath.Join(root, folder, "*.md"))
		require.NoError(t, err)
		for _, path := range paths {
			if name := filepath.Base(path); name != "README.md" {
				require.Contains(t, links, name, "%s does not lead to it", index)
			}
		}
	}
}

func TestDocumentsAreRead(t *testing.T) {
	text := "# A [word](x.md) & `code`\n## Twice\n[to](a.md#b) `[not](c.md)`\n```sh\n# no heading, [no](link.md)\n```\n## Twice\n### `X<n>Y` &lt;n&gt; (z)\n"
	require.Equal(t, []string{"a-word--code", "twice", "twice-1", "xny-n-z"}, Anchors(text))
	require.Equal(t, []string{"x.md", "a.md#b"}, Links(text))

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.md"), []byte("<!-- marked -->\n```sh\none\ntwo\n```\n\n````yaml\n```\n````\n"), 0o600))
	blocks, err := Blocks(dir, "a.md")
	require.NoError(t, err)
	require.Equal(t, []Block{
		{File: "a.md", Line: 2, Language: "sh", Mark: "marked", Text: "one\ntwo\n"},
		{File: "a.md", Line: 7, Language: "yaml", Text: "```\n"},
	}, blocks)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.md"), []byte("```sh\none\n"), 0o600))
	_, err = Blocks(dir, "a.md")
	require.ErrorContains(t, err, "has no end")
}
