package helm

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// root is who may run as root, and why.
var root = map[string]string{
	"autorepair-agent": "the sockets of systemd and of the container runtime and the files of the journal are root's",
}

// capabilities that a workload may add to none.
var capabilities = map[string][]corev1.Capability{"autorepair-agent": {"SYSLOG", "NET_ADMIN"}}

// hostPaths that a workload may mount, and whether it may write there.
var hostPaths = map[string]map[string]bool{"autorepair-agent": {
	"/proc": false, "/sys": false, "/var/log": false, "/run/log/journal": false, "/etc/cni/net.d": false,
	"/run/containerd": false, "/run/crio": false, "/run/dbus": false, "/var/lib/autorepair": true, "/var/lib/autorepair-agent": true,
}}

// needsToken are the workloads that speak with the API server.
var needsToken = []string{"autorepair-agent", "autorepair-controller", "autorepair-cleanup", "autorepair-controller-aws"}

// workloads gives the pods of every workload of the chart, by its name. A kind that is not known here fails the test.
func workloads(t *testing.T, objects cluster.Rendered) map[string]corev1.PodTemplateSpec {
	t.Helper()
	pods := map[string]corev1.PodTemplateSpec{}
	into := func(object *unstructured.Unstructured, typed any) {
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, typed, true))
	}
	for _, object := range objects {
		switch object.GetKind() {
		case "Deployment":
			d := &appsv1.Deployment{}
			into(object, d)
			pods[d.Name] = d.Spec.Template
		case "DaemonSet":
			d := &appsv1.DaemonSet{}
			into(object, d)
			pods[d.Name] = d.Spec.Template
		case "Job":
			j := &batchv1.Job{}
			into(object, j)
			pods[j.Name] = j.Spec.Template
		default:
			_, found, _ := unstructured.NestedMap(object.Object, "spec", "template", "spec")
			require.False(t, found, "%s %s makes pods: have it looked at here too", object.GetKind(), object.GetName())
		}
	}
	return pods
}

func TestNoWorkloadMayMoreThanItMust(t *testing.T) {
	for preset, args := range presets {
		for name, pod := range workloads(t, rendered(t, args...)) {
			t.Run(preset+"/"+name, func(t *testing.T) { mayNoMore(t, name, pod.Spec) })
		}
	}
}

func mayNoMore(t *testing.T, name string, pod corev1.PodSpec) {
	t.Helper()
	require.NotNil(t, pod.SecurityContext)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
	if root[name] == "" {
		require.True(t, *pod.SecurityContext.RunAsNonRoot)
		require.NotZero(t, *pod.SecurityContext.RunAsUser)
		require.False(t, pod.HostNetwork || pod.HostPID || pod.HostIPC)
	}
	require.False(t, pod.HostIPC)
	require.NotEmpty(t, pod.ServiceAccountName, "never the default account of a namespace")
	if automounts := pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken; automounts {
		require.Contains(t, needsToken, name, "it has a token that it does not use")
	}
	containers := slices.Concat(pod.InitContainers, pod.Containers)
	require.NotEmpty(t, containers)
	for i := range containers {
		c := &containers[i]
		s := c.SecurityContext
		require.NotNil(t, s)
		require.False(t, s.Privileged != nil && *s.Privileged)
		require.False(t, *s.AllowPrivilegeEscalation)
		require.True(t, *s.ReadOnlyRootFilesystem)
		require.Equal(t, []corev1.Capability{"ALL"}, s.Capabilities.Drop)
		require.Subset(t, capabilities[name], s.Capabilities.Add)
		require.Nil(t, s.ProcMount)
		require.True(t, s.SeccompProfile == nil && s.RunAsUser == nil, "it does not undo what the pod says")
		require.False(t, c.Resources.Limits.Memory().IsZero())
		require.Empty(t, c.EnvFrom)
	}
	mountsNoMore(t, name, pod, containers)
}

func mountsNoMore(t *testing.T, name string, pod corev1.PodSpec, containers []corev1.Container) {
	t.Helper()
	for _, volume := range pod.Volumes {
		if volume.HostPath == nil {
			continue
		}
		path := filepath.Clean(volume.HostPath.Path)
		writes, known := hostPaths[name][path]
		require.True(t, known, "%s of the host is not to be mounted", path)
		for i := range containers {
			for _, mount := range containers[i].VolumeMounts {
				if mount.Name == volume.Name {
					require.Equal(t, !writes, mount.ReadOnly, "whether %s of the host may be written to", path)
					require.Nil(t, mount.MountPropagation)
				}
			}
		}
	}
}

// A role lists verbs and resources one by one; and nothing gives a way to more rights, to Secrets, or into a pod.
func TestRolesListWhatTheyAllowOneByOne(t *testing.T) {
	for preset, args := range presets {
		for _, object := range rendered(t, args...) {
			if object.GetKind() != "ClusterRole" && object.GetKind() != "Role" {
				continue
			}
			t.Run(preset+"/"+object.GetKind()+"/"+object.GetName(), func(t *testing.T) {
				role := &rbacv1.ClusterRole{}
				require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, role))
				require.Nil(t, role.AggregationRule)
				require.NotContains(t, strings.Join(keys(object.GetLabels()), " "), "aggregate-to", "it widens no role of others")
				for _, rule := range role.Rules {
					all := slices.Concat(rule.Verbs, rule.Resources, rule.APIGroups, rule.NonResourceURLs, rule.ResourceNames)
					require.False(t, slices.ContainsFunc(all, func(word string) bool { return strings.Contains(word, "*") }), "%v", rule)
					for _, verb := range []string{"escalate", "bind", "impersonate", "deletecollection"} {
						require.NotContains(t, rule.Verbs, verb)
					}
					for _, resource := range []string{"secrets", "configmaps", "serviceaccounts/token", "pods/exec", "pods/attach", "pods/eviction", "nodes/proxy", "nodes/status", "clusterrolebindings", "rolebindings"} {
						require.NotContains(t, rule.Resources, resource)
					}
				}
			})
		}
	}
}

func keys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for key := range m {
		out = append(out, key)
	}
	return out
}

// arguments of the container of a workload; nil where there is no such workload.
func arguments(t *testing.T, objects cluster.Rendered, workload string) []string {
	t.Helper()
	pod, ok := workloads(t, objects)[workload]
	if !ok {
		return nil
	}
	return pod.Spec.Containers[0].Args
}

func has(objects cluster.Rendered, kind, name string) bool {
	return slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind && o.GetName() == name })
}

func TestMetricsAreShownToNobodyWhoIsNotMeant(t *testing.T) {
	for name, test := range map[string]struct {
		set                   string
		controller, agent     string
		reviews, agentService bool
	}{
		"by default": {
			controller: "--metrics-bind-address=:8080 --metrics-secure=true", agent: "--metrics-bind-address=127.0.0.1:9464 --metrics-secure=true",
			reviews: true,
		},
		"with certificates": {
			set:        "controller.metrics.certSecret=a,agent.metrics.certSecret=b",
			controller: "--metrics-bind-address=:8080 --metrics-secure=true --metrics-cert-dir=/etc/autorepair-metrics",
			agent:      "--metrics-bind-address=:9464 --metrics-secure=true --metrics-cert-dir=/etc/autorepair-metrics",
			reviews:    true, agentService: true,
		},
		"to everybody, where that is wanted": {
			set:        "controller.metrics.secure=false,agent.metrics.secure=false",
			controller: "--metrics-bind-address=:8080 --metrics-secure=false", agent: "--metrics-bind-address=:9464 --metrics-secure=false",
			agentService: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects := rendered(t, "--set="+test.set)
			require.Contains(t, strings.Join(arguments(t, objects, "autorepair-controller"), " "), test.controller)
			require.Contains(t, strings.Join(arguments(t, objects, "autorepair-agent"), " "), test.agent)
			require.Equal(t, strings.Contains(test.controller, "cert-dir"), strings.Contains(strings.Join(arguments(t, objects, "autorepair-controller"), " "), "cert-dir"))
			require.Equal(t, strings.Contains(test.agent, "cert-dir"), strings.Contains(strings.Join(arguments(t, objects, "autorepair-agent"), " "), "cert-dir"))
			require.Equal(t, test.reviews, has(objects, "ClusterRole", "autorepair-metrics-auth"))
			require.Equal(t, test.reviews, has(objects, "ClusterRoleBinding", "autorepair-metrics-auth"))
			require.Equal(t, test.agentService, has(objects, "Service", "autorepair-agent"))
			require.False(t, has(objects, "ClusterRoleBinding", "autorepair-metrics-reader"), "nobody reads them who is not let")
		})
	}
}
