package cli

import (
	"context"
	"errors"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// manager is how the API server calls what this program writes; status and RepairBlocked tell it to those who ask who
// has paused something.
const manager = "kubectl-autorepair"

// fieldOwner is the manager with the name of the person, as far as the API server tells it.
func fieldOwner(ctx context.Context, cluster *Cluster) client.FieldOwner {
	review := &authenticationv1.SelfSubjectReview{}
	if err := cluster.Create(ctx, review); err != nil || review.Status.UserInfo.Username == "" {
		return manager
	}
	return client.FieldOwner(fmt.Sprintf("%s (%s)", manager, printable(decision.Clip(review.Status.UserInfo.Username))))
}

// modify reads an object anew, changes it, and writes the difference against the version that was read; again where
// somebody else has written meanwhile. change says why it may not be changed any more.
func modify[T client.Object](object T, change func(T) error) write {
	key, uid := client.ObjectKeyFromObject(object), object.GetUID()
	return func(ctx context.Context, cluster *Cluster, options writeOptions) error {
		return retry.RetryOnConflict(retry.DefaultBackoff, func() error { //nolint:wrapcheck // carryOut says what was written
			if err := cluster.Get(ctx, key, object); err != nil {
				return err //nolint:wrapcheck // carryOut says what was written
			}
			if object.GetUID() != uid {
				return errors.New("it has been deleted meanwhile, and another of the same name has come")
			}
			before, ok := object.DeepCopyObject().(T)
			if !ok {
				return fmt.Errorf("%T copies itself into another type", object)
			}
			if err := change(object); err != nil {
				return err
			}
			patch := []client.PatchOption{options.owner}
			if options.dryRun {
				patch = append(patch, client.DryRunAll)
			}
			return cluster.Patch(ctx, object, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), patch...) //nolint:wrapcheck // carryOut says what was written
		})
	}
}

// annotate sets an annotation, or removes it where value is empty, if it still has the value that the person was told of.
func annotate[T client.Object](object T, key, value string) write {
	told := object.GetAnnotations()[key]
	return modify(object, func(object T) error {
		annotations := object.GetAnnotations()
		if is := annotations[key]; is != told {
			return fmt.Errorf("the annotation %s has changed meanwhile, from %q to %q: look again", key, told, is)
		}
		if value == "" {
			delete(annotations, key)
		} else {
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[key] = value
		}
		object.SetAnnotations(annotations)
		return nil
	})
}

// create makes an object.
func create(object client.Object) write {
	return func(ctx context.Context, cluster *Cluster, options writeOptions) error {
		opts := []client.CreateOption{options.owner}
		if options.dryRun {
			opts = append(opts, client.DryRunAll)
		}
		return cluster.Create(ctx, object, opts...) //nolint:wrapcheck // carryOut says what was written
	}
}

// remove deletes an object, and no later one of the same name.
func remove(object client.Object) write {
	return func(ctx context.Context, cluster *Cluster, options writeOptions) error {
		opts := []client.DeleteOption{client.Preconditions{UID: new(object.GetUID())}}
		if options.dryRun {
			opts = append(opts, client.DryRunAll)
		}
		return client.IgnoreNotFound(cluster.Delete(ctx, object, opts...)) //nolint:wrapcheck // carryOut says what was written
	}
}

// explainRefusal says what to do about a refusal of the API server.
func explainRefusal(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("you may not: ask for a ClusterRole that allows it (%s)", reasonOf(err))
	}
	return err
}

// withoutAnnotation gives a copy of an object without an annotation.
func withoutAnnotation[T client.Object](object T, key string) T {
	out, ok := object.DeepCopyObject().(T)
	if !ok {
		return object
	}
	annotations := out.GetAnnotations()
	delete(annotations, key)
	out.SetAnnotations(annotations)
	return out
}
