package version

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheVersionIs(t *testing.T) {
	for name, tc := range map[string]struct {
		release string
		found   string
		want    string
	}{
		"the release where there is one":         {release: "v1.2.3", found: "v1.2.4-0.20260102150405-0123456789ab", want: "v1.2.3"},
		"what Go found in the checkout":          {found: "v1.2.4-0.20260102150405-0123456789ab+dirty", want: "v1.2.4-0.20260102150405-0123456789ab+dirty"},
		"unknown outside of a checkout":          {found: "(devel)", want: "unknown"},
		"unknown where nothing has been written": {want: "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, of(tc.release, &debug.BuildInfo{Main: debug.Module{Version: tc.found}}))
		})
	}
}
