package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

func TestOnlyAgentsNeedMoreThanARestrictedNamespace(t *testing.T) {
	t.Parallel()
	s := begin(t, "pod-security")
	rendered, err := cluster.RenderChart(s.ctx)
	require.NoError(t, err)
	deployment, job, daemonSet := &appsv1.Deployment{}, &batchv1.Job{}, &appsv1.DaemonSet{}
	require.NoError(t, rendered.Into("Deployment", "autorepair-controller", deployment))
	require.NoError(t, rendered.Into("Job", "autorepair-cleanup", job))
	require.NoError(t, rendered.Into("DaemonSet", "autorepair-agent", daemonSet))
	restricted := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pod-security-restricted", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	require.NoError(t, s.c.Create(s.ctx, restricted))
	t.Cleanup(func() { _ = s.c.Client.Delete(s.ctx, restricted) })
	try := func(template corev1.PodTemplateSpec, namespace string) error {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: template.Spec.ServiceAccountName}}
		require.NoError(t, client.IgnoreAlreadyExists(s.c.Client.Create(s.ctx, account)))
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "it"}, Spec: template.Spec}
		return s.c.Client.Create(s.ctx, pod, client.DryRunAll) //nolint:wrapcheck // a test's
	}
	require.NoError(t, try(deployment.Spec.Template, restricted.Name), "the controller")
	require.NoError(t, try(job.Spec.Template, restricted.Name), "the clean-up before an uninstall")
	err = try(daemonSet.Spec.Template, restricted.Name)
	require.True(t, apierrors.IsForbidden(err), "the agent: %v", err)
	require.ErrorContains(t, err, "PodSecurity")
	require.NoError(t, try(daemonSet.Spec.Template, s.name), "the agent, where it is let")
}
