package cli

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
	"github.com/autorepair-sh/karpenter-autorepair/test/golden"
)

// now is the time of all tests.
var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// world is a command line with a cluster in memory behind it.
type world struct {
	*Options
	client client.WithWatch
	// out and errOut are what was printed.
	out, errOut *bytes.Buffer
}

// newWorld makes a cluster in memory that holds the objects, at now. Nobody sits at the terminal.
func newWorld(objects ...client.Object) *world {
	builder := fake.NewClientBuilder().WithScheme(scheme.New()).WithReturnManagedFields().WithObjects(objects...).WithStatusSubresource(&v1alpha1.NodeRepair{}, &v1alpha1.RepairPolicy{})
	for _, index := range scheme.Indexes {
		builder = builder.WithIndex(index.Object, index.Field, index.Extract)
	}
	builder = builder.WithIndex(&coordinationv1.Lease{}, "metadata.name", func(o client.Object) []string { return []string{o.GetName()} })
	w := &world{client: builder.Build(), out: &bytes.Buffer{}, errOut: &bytes.Buffer{}}
	w.Options = &Options{
		IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: w.out, ErrOut: w.errOut},
		Config:    genericclioptions.NewConfigFlags(false),
		Clock:     clocktesting.NewFakeClock(now),
		Version:   "test",
		Output:    FormatTable,
		Getenv:    func(string) string { return "" },
		connect: func(*Options) (*Cluster, error) {
			return &Cluster{WithWatch: w.client, Server: "https://cluster.test"}, nil
		},
	}
	return w
}

// answer is what the person at the terminal will type.
func (w *world) answer(text string) *world {
	w.In, w.Interactive = io.NopCloser(strings.NewReader(text)), true
	return w
}

// run runs one command line and gives what it printed to standard output.
func (w *world) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	w.out.Reset()
	root := NewRoot(w.Options)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return w.out.String(), err
}

// requireGolden compares a text with testdata/name.
func requireGolden(t *testing.T, name, got string) {
	t.Helper()
	golden.Require(t, filepath.Join("testdata", name), got)
}
