package cluster

import (
	"path/filepath"
	"strconv"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/stages"
)

const (
	// Clients of the control plane must not be what limits hundreds of nodes
	// that come or go at once.
	clientQPS   = "500"
	clientBurst = "1000"

	// nodeLeaseSeconds is the kubelet's default lease duration.
	nodeLeaseSeconds = "40"

	serviceAccountIssuer = "https://kubernetes.default.svc.cluster.local"
	serviceRange         = "10.96.0.0/16"

	// karpenterNamespace is where Karpenter's own charts suggest to install it.
	karpenterNamespace = "kube-system"
)

func etcdArguments(c *Cluster) []string {
	return []string{
		"--data-dir=" + c.etcdDirectory(),
		"--listen-client-url=http://127.0.0.1:" + c.port(portEtcd),
	}
}

func apiServerArguments(c *Cluster) []string {
	files := c.credentials()
	return append(auditArguments(c),
		"--etcd-servers=http://127.0.0.1:"+c.port(portEtcd),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port="+c.port(portAPIServer),
		// Loopback is no valid endpoint of the kubernetes Service, so it gets none.
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range="+serviceRange,
		"--cert-dir="+filepath.Dir(files.ServerCertificate),
		"--tls-cert-file="+files.ServerCertificate,
		"--tls-private-key-file="+files.ServerKey,
		"--client-ca-file="+files.CertificateAuthority,
		"--token-auth-file="+files.Tokens,
		"--authorization-mode=Node,RBAC",
		// As some distributions do: who makes an object hold up the deletion of its owner needs the right to.
		"--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
		"--service-account-issuer="+serviceAccountIssuer,
		"--service-account-key-file="+files.ServiceAccountKey,
		"--service-account-signing-key-file="+files.ServiceAccountKey,
		"--allow-privileged=true",
		"--kubelet-client-certificate="+files.KubeletClientCertificate,
		"--kubelet-client-key="+files.KubeletClientKey,
		"--kubelet-preferred-address-types=InternalIP",
	)
}

func controllerManagerArguments(c *Cluster) []string {
	files := c.credentials()
	return []string{
		"--kubeconfig=" + files.Kubeconfig(ControllerManager),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=" + clientQPS,
		"--kube-api-burst=" + clientBurst,
		"--root-ca-file=" + files.CertificateAuthority,
		"--service-account-private-key-file=" + files.ServiceAccountKey,
	}
}

func schedulerArguments(c *Cluster) []string {
	return []string{
		"--kubeconfig=" + c.credentials().Kubeconfig(Scheduler),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=" + clientQPS,
		"--kube-api-burst=" + clientBurst,
	}
}

func kwokArguments(c *Cluster) []string {
	return []string{
		"--kubeconfig=" + c.credentials().Kubeconfig(Kwok),
		"--config=" + c.kwokConfiguration(),
		"--manage-nodes-with-annotation-selector=" + stages.NodeSelector,
		"--node-lease-duration-seconds=" + nodeLeaseSeconds,
		"--server-address=127.0.0.1:" + c.port(portKwok),
	}
}

// apiServerEnvironment spends memory on time: most of the cores' work is the API server's, a quarter of that was its
// garbage collection's.
func apiServerEnvironment(*Cluster) []string { return []string{"GOGC=300"} }

func karpenterEnvironment(c *Cluster) []string {
	environment := []string{
		"KUBECONFIG=" + c.credentials().Kubeconfig(Karpenter),
		"SYSTEM_NAMESPACE=" + karpenterNamespace,
		"DISABLE_LEADER_ELECTION=true",
		"KARPENTER_SERVICE=karpenter",
		"METRICS_PORT=" + c.port(portKarpenterMetrics),
		"HEALTH_PROBE_PORT=" + c.port(portKarpenterHealth),
	}
	if gates := c.state.Karpenter.FeatureGates; gates != "" {
		environment = append(environment, "FEATURE_GATES="+gates)
	}
	return append(environment, c.state.Karpenter.Env...)
}

func (c *Cluster) port(name string) string { return strconv.Itoa(c.state.Ports[name]) }
