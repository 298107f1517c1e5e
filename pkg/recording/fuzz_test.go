package recording

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever a file holds, reading it ends with objects or an error that names the file; what has been read can be written,
// and read again as the same.
func FuzzRead(f *testing.F) {
	for _, pattern := range []string{"../apis/testdata/*/*.yaml", "testdata/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			require.NoError(f, err)
			f.Add(text)
		}
	}
	f.Add([]byte(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"}}]}`))
	f.Add([]byte("apiVersion: v1\nkind: NodeList\nitems:\n- {metadata: {name: a}}\n--- # more\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("{}{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := NewReading()
		if err := r.Read("f.yaml", bytes.NewReader(text)); err != nil {
			require.ErrorContains(t, err, "f.yaml")
			return
		}
		var first, second bytes.Buffer
		require.NoError(t, Write(&first, r.Objects()))
		again := NewReading()
		require.NoError(t, again.Read("f.yaml", bytes.NewReader(first.Bytes())))
		require.Len(t, again.Objects(), len(r.Objects()))
		require.NoError(t, Write(&second, again.Objects()))
		require.Equal(t, first.String(), second.String())
	})
}

func FuzzFieldPath(f *testing.F) {
	for _, path := range []string{"", "spec.rules[0].match", "metadata.annotations[a.b/c]", "[", "]", "..", "a[b"} {
		f.Add(path)
	}
	f.Fuzz(func(_ *testing.T, path string) { fieldPath(path) })
}
