package rules

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a Catalogue keeps is small beside the 30 MiB that the agent may take: the tables of the automata, since no
// pattern is compiled before a line asks for it.
func TestACatalogueIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c, err := New(Custom{})
	require.NoError(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(2<<20))
	states := 0
	for _, m := range c.streams {
		states += len(m.hits)
		require.Empty(t, m.always)
	}
	t.Logf("%d states, %d KiB", states, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
	runtime.KeepAlive(c)
}
