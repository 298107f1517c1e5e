package repair

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

func replacementNamed(name string) *karpv1.NodeClaim {
	return &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.NodeRepairLabel: name}}}
}

// A write may hang for as long as a connection does, and then it hangs for one repair only.
func TestAReplacementThatHangsHoldsUpNoOther(t *testing.T) {
	hangs, arrives, answer := make(chan struct{}), make(chan struct{}), errors.New("the connection is lost")
	api := interceptor.NewClient(fakeapi.Builder().Build(), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if o.GetName() != "slow" {
				return c.Create(ctx, o, opts...)
			}
			close(hangs)
			<-arrives
			return answer
		},
	})
	l, clk := &launching{}, clocktesting.NewFakeClock(now)
	create := func(name string, limit int32) bool {
		made, err := l.create(context.Background(), api, clk, replacementNamed(name), limit)
		require.NoError(t, err)
		return made
	}
	ended := inBackground(func() error {
		_, err := l.create(context.Background(), api, clk, replacementNamed("slow"), 1)
		return err
	})
	<-hangs
	require.True(t, create("quick", 2))
	clk.Step(time.Hour)
	require.False(t, create("third", 2), "the one that hangs keeps its place, for however long")
	close(arrives)
	require.ErrorIs(t, <-ended, answer)
	require.True(t, create("third", 2), "one that was not made gives it back")
}

func inBackground(do func() error) <-chan error {
	out := make(chan error, 1)
	go func() { out <- do() }()
	return out
}

func TestAReplacementIsCountedOnceWhetherOrNotTheCacheShowsIt(t *testing.T) {
	cache, api := fakeapi.Builder().Build(), fakeapi.Builder().Build()
	behind := interceptor.NewClient(cache, interceptor.Funcs{
		Create: func(ctx context.Context, _ client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return api.Create(ctx, o, opts...)
		},
	})
	l, clk := &launching{}, clocktesting.NewFakeClock(now)
	create := func(name string) bool {
		made, err := l.create(context.Background(), behind, clk, replacementNamed(name), 2)
		require.NoError(t, err)
		return made
	}
	require.True(t, create("a"))
	require.NoError(t, cache.Create(context.Background(), replacementNamed("a")))
	require.True(t, create("b"), "a is shown by now, and is one")
	require.False(t, create("c"), "b is not shown yet, and counts")
	require.True(t, clk.Since(now) < appearsWithin)
	clk.Step(appearsWithin)
	require.True(t, create("c"), "b has not appeared in time: it is gone")
}
