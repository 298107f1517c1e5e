package rules_test

import (
	"fmt"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// klogText and klogJSON give what klog writes of one message and its fields.
func klogText(message, fields string) string {
	return "E1123 10:00:00.123456    1825 file.go:12] " + fmt.Sprintf("%q", message) + fields
}

func TestLinesThatSayThatProcessIDsHaveRunOut(t *testing.T) {
	const reason = "ForkFailedOutOfPIDs"
	testWordings(t, health.StreamKubelet, map[string]wording{
		"du of the kubelet": {
			line:       `E0626 20:28:37.242405    1086 fsHandler.go:121] failed to collect filesystem stats - rootDiskErr: failed to exec du - fork/exec /usr/bin/nice: resource temporarily unavailable, rootInodeErr: failed to exec cmd [find /var/lib/docker/overlay2/2710/diff -xdev -printf .] - fork/exec /usr/bin/find: resource temporarily unavailable; stderr: `,
			wantReason: reason,
		},
		"the same in the journal's short form": {
			line:       `Jun 26 20:28:37 node03 kubelet[1086]: E0626 20:28:37.242405    1086 fsHandler.go:121] failed to collect filesystem stats - rootDiskErr: failed to exec du - fork/exec /usr/bin/nice: resource temporarily unavailable`,
			wantReason: reason,
		},
		"a mount": {
			line:       klogText("MountVolume.SetUp failed for volume", ` err="mount failed: fork/exec /usr/bin/systemd-run: resource temporarily unavailable\nMounting command: systemd-run" pod="default/web-0"`),
			wantReason: reason,
		},
		"iptables": {
			line:       klogText("Could not set up iptables canary", ` err="error creating chain \"KUBE-KUBELET-CANARY\": fork/exec /usr/sbin/iptables: resource temporarily unavailable: " table="mangle" chain="KUBE-KUBELET-CANARY"`),
			wantReason: reason,
		},
		"a program that is found in the path": {line: `E0626 20:28:37.242405    1086 x.go:1] failed to run: fork/exec mount: resource temporarily unavailable`, wantReason: reason},
		"a sandbox whose shim does not start": {line: klogText("RunPodSandbox from runtime service failed", ` err="rpc error: code = Unknown desc = failed to create containerd task: failed to start shim: fork/exec /usr/bin/containerd-shim-runc-v2: resource temporarily unavailable: unknown"`), wantReason: reason},
		"a sandbox whose runc does not start": {line: klogText("RunPodSandbox from runtime service failed", ` err="rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: unable to start init: fork/exec /proc/self/fd/7: resource temporarily unavailable: unknown"`), wantReason: reason},
		"a sandbox of Docker":                 {line: `E0408 09:08:36.000001    4211 remote_runtime.go:92] RunPodSandbox from runtime service failed: rpc error: code = Unknown desc = failed to start sandbox container for pod "web-0": Error response from daemon: failed to start shim: fork/exec /usr/bin/docker-containerd-shim: resource temporarily unavailable: unknown`, wantReason: reason},
		"a sandbox whose CNI plugin has no thread": {
			line:       klogText("RunPodSandbox from runtime service failed", ` err="rpc error: code = Unknown desc = failed to setup network for sandbox \"5c1d\": plugin type=\"aws-cni\" name=\"aws-cni\" failed (add): netplugin failed: \"runtime: failed to create new OS thread (have 2 already; errno=11)\\nruntime: may need to increase max user processes (ulimit -u)\\nfatal error: newosproc\""`),
			wantReason: reason,
		},
		"in JSON": {
			line:       `{"ts":1732356000123.4,"caller":"cri/fs.go:121","msg":"failed to collect filesystem stats","err":"failed to exec du - fork/exec /usr/bin/nice: resource temporarily unavailable"}`,
			wantReason: reason,
		},
		"the kubelet's own thread":             {line: "runtime: failed to create new OS thread (have 12 already; errno=11)", wantReason: reason},
		"the kubelet's own thread, elsewhere":  {line: "runtime: failed to create new OS thread (have 12 already; errno=EAGAIN)", wantReason: reason},
		"the kubelet's own thread, through C":  {line: "runtime/cgo: pthread_create failed: Resource temporarily unavailable", wantReason: reason},
		"a shell that the kubelet has started": {line: "/usr/libexec/kubernetes/plugin.sh: fork: retry: Resource temporarily unavailable", wantReason: reason},
		"nsenter":                              {line: "nsenter: fork failed: Resource temporarily unavailable", wantReason: reason},
		"the echo of a sandbox": {
			line:       klogText("Error syncing pod, skipping", ` err="failed to \"CreatePodSandbox\" for \"web-0_default(0c4e)\" with CreatePodSandboxError: \"Failed to create sandbox for pod \\\"web-0_default(0c4e)\\\": rpc error: code = Unknown desc = failed to start shim: fork/exec /usr/bin/containerd-shim-runc-v2: resource temporarily unavailable: unknown\"" pod="default/web-0"`),
			wantReason: reason, wantEcho: true,
		},
		"the echo of it in an event": {
			line:       klogText("Event occurred", ` object="default/web-0" kind="Pod" reason="FailedCreatePodSandBox" message="Failed to create pod sandbox: rpc error: code = Unknown desc = failed to start shim: fork/exec /usr/bin/containerd-shim-runc-v2: resource temporarily unavailable: unknown"`),
			wantReason: reason, wantEcho: true,
		},

		"a probe in a pod at its own limit": {
			line: klogText("ExecSync cmd from runtime service failed", ` err="rpc error: code = Unknown desc = failed to exec in container: failed to start exec \"8e\": OCI runtime exec failed: exec failed: unable to start container process: error starting setns process: fork/exec /proc/self/exe: resource temporarily unavailable: unknown" containerID="4f" cmd=["cat","/tmp/healthy"]`),
		},
		"a probe that failed in a pod at its own limit": {
			line: klogText("Probe failed", ` probeType="Liveness" pod="default/web-0" podUID="0c4e" containerName="web" probeResult="failure" output="fork/exec /bin/sh: resource temporarily unavailable"`),
		},
		"a probe that could not run in a pod at its own limit": {
			line: klogText("Probe errored", ` err="rpc error: code = Unknown desc = failed to exec in container: failed to start exec \"8e\": OCI runtime exec failed: exec failed: unable to start container process: error starting setns process: fork/exec /proc/self/fd/6: resource temporarily unavailable: unknown" probeType="Readiness" pod="default/web-0" containerName="web"`),
		},
		"a hook in a pod at its own limit": {
			line: klogText("Exec lifecycle hook for Container in Pod failed", ` err="command '/bin/sh -c /stop' exited with 1: fork/exec /bin/sleep: resource temporarily unavailable" execCommand=["/bin/sh"] containerName="web" pod="default/web-0"`),
		},
		"an event of a probe in a pod at its own limit": {
			line: klogText("Event occurred", ` object="default/web-0" kind="Pod" reason="Unhealthy" message="Liveness probe failed: fork/exec /bin/sh: resource temporarily unavailable"`),
		},
		"a container whose runc does not start": {
			line:       klogText("StartContainer from runtime service failed", ` err="rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: unable to start init: fork/exec /proc/self/exe: resource temporarily unavailable: unknown" containerID="4f"`),
			wantReason: reason,
		},
		"a container whose hook does not start": {
			line:       klogText("StartContainer from runtime service failed", ` err="rpc error: code = Unknown desc = failed to create containerd task: OCI runtime create failed: container_linux.go:370: starting container process caused: process_linux.go:459: container init caused: Running hook #0:: fork/exec /proc/24330/exe: resource temporarily unavailable: unknown" containerID="4f"`),
			wantReason: reason,
		},
		"a hook of a pod that ran into runc exec": {
			line: klogText("Error syncing pod, skipping", ` err="failed to \"StartContainer\" for \"web\" with PostStartHookError: \"rpc error: code = Unknown desc = failed to exec in container: failed to start exec \\\"8e\\\": OCI runtime exec failed: exec failed: unable to start container process: error starting setns process: fork/exec /proc/self/exe: resource temporarily unavailable: unknown\"" pod="default/web-0"`),
		},
		"a container in a pod at its own limit": {
			line: klogText("StartContainer from runtime service failed", ` err="rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: runtime: failed to create new OS thread (have 2 already; errno=11): unknown" containerID="4f"`),
		},
		"a probe whose program has no thread": {
			line: klogText("Probe failed", ` probeType="Liveness" pod="default/web-0" containerName="web" probeResult="failure" output="runtime/cgo: pthread_create failed: Resource temporarily unavailable\nSIGABRT: abort"`),
		},
		"a thread that failed for another reason": {line: "runtime: failed to create new OS thread (have 2 already; errno=22)"},
		"what follows on a thread that failed":    {line: "runtime: may need to increase max user processes (ulimit -u)"},
		"a program that is not there":             {line: klogText("failed to collect filesystem stats", ` err="failed to exec du - fork/exec /usr/bin/nice: no such file or directory"`)},
		"a socket that would block":               {line: klogText("Failed to read from connection", ` err="read: resource temporarily unavailable"`)},
	})
	testWordings(t, health.StreamContainerd, map[string]wording{
		"the shim": {
			line:       `time="2024-05-14T09:12:44.123456789Z" level=error msg="RunPodSandbox for &PodSandboxMetadata{Name:web-0,Uid:0c4e,Namespace:default,Attempt:0,} failed, error" error="failed to create containerd task: failed to start shim: fork/exec /usr/bin/containerd-shim-runc-v2: resource temporarily unavailable: unknown"`,
			wantReason: reason,
		},
		"the shim, in JSON": {
			line:       `{"error":"failed to start sandbox container task \"5c1d\": failed to start shim: fork/exec /usr/local/bin/containerd-shim-runc-v2: resource temporarily unavailable: unknown","level":"error","msg":"RunPodSandbox for \u0026PodSandboxMetadata{Name:web-0,Uid:0c4e,Namespace:default,Attempt:0,} failed, error","time":"2024-05-14T09:12:44.123456789Z"}`,
			wantReason: reason,
		},
		"runc for a probe": {
			line:       `time="2024-05-14T09:12:44.123456789Z" level=error msg="ExecSync for \"4f1d\" failed" error="failed to exec in container: failed to start exec \"8e\": fork/exec /usr/bin/runc: resource temporarily unavailable: unknown"`,
			wantReason: reason,
		},
		"runc for a sandbox": {
			line:       `time="2024-05-14T09:12:44.123456789Z" level=error msg="RunPodSandbox for &PodSandboxMetadata{Name:web-0,Uid:0c4e,Namespace:default,Attempt:0,} failed, error" error="failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: unable to start init: fork/exec /proc/self/exe: resource temporarily unavailable: unknown"`,
			wantReason: reason,
		},
		"containerd's own thread":            {line: "runtime: failed to create new OS thread (have 40 already; errno=11)", wantReason: reason},
		"containerd's own thread, through C": {line: "runtime/cgo: pthread_create failed: Resource temporarily unavailable", wantReason: reason},
		"a probe in a pod at its own limit": {
			line: `time="2024-05-14T09:12:44.123456789Z" level=error msg="ExecSync for \"4f1d\" failed" error="failed to exec in container: failed to start exec \"8e\": OCI runtime exec failed: exec failed: unable to start container process: error starting setns process: fork/exec /proc/self/exe: resource temporarily unavailable: unknown"`,
		},
	})
}

func TestLinesThatSayThatTheRuntimeFails(t *testing.T) {
	const reason = "ContainerRuntimeFailed"
	run := func(err string) string {
		return klogText("RunPodSandbox from runtime service failed", fmt.Sprintf(" err=%q", err))
	}
	testWordings(t, health.StreamKubelet, map[string]wording{
		"the runtime does not listen": {line: run(`rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial unix /run/containerd/containerd.sock: connect: connection refused"`), wantReason: reason, wantSubject: "sandboxes"},
		"the runtime takes too long":  {line: run(`rpc error: code = DeadlineExceeded desc = context deadline exceeded`), wantReason: reason, wantSubject: "sandboxes"},
		"the runtime takes too long, before klog had fields": {
			line:       `E0207 02:49:40.738973   24578 remote_runtime.go:105] RunPodSandbox from runtime service failed: rpc error: code = DeadlineExceeded desc = context deadline exceeded`,
			wantReason: reason, wantSubject: "sandboxes",
		},
		"the runtime takes too long, in JSON": {
			line:       `{"ts":1732356000123.4,"caller":"remote/remote_runtime.go:193","msg":"RunPodSandbox from runtime service failed","err":"rpc error: code = DeadlineExceeded desc = context deadline exceeded"}`,
			wantReason: reason, wantSubject: "sandboxes",
		},
		"Docker takes too long": {
			line:       `E0220 18:04:20.060377   20893 remote_runtime.go:92] RunPodSandbox from runtime service failed: rpc error: code = Unknown desc = failed to create a sandbox for pod "web-0": operation timeout: context deadline exceeded`,
			wantReason: reason, wantSubject: "sandboxes",
		},
		"a name that an earlier try holds":             {line: run(`rpc error: code = Unknown desc = failed to reserve sandbox name "web-0_default_0c4e_0": name "web-0_default_0c4e_0" is reserved for "5c1d"`), wantReason: reason, wantSubject: "sandboxes"},
		"a name that an earlier try holds, in CRI-O":   {line: run(`rpc error: code = Unknown desc = error reserving pod name k8s_web-0_default_0c4e_0 for id f032: name is reserved`), wantReason: reason, wantSubject: "sandboxes"},
		"the shim does not start":                      {line: run(`rpc error: code = Unknown desc = failed to create containerd task: failed to start shim: mkdir /run/containerd/io.containerd.runtime.v2.task/k8s.io/5c1d: file exists: unknown`), wantReason: reason, wantSubject: "sandboxes"},
		"the shim dies":                                {line: run(`rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: ttrpc: closed: unknown`), wantReason: reason, wantSubject: "sandboxes"},
		"the disk is full":                             {line: run(`rpc error: code = Unknown desc = failed to create sandbox root directory "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/5c1d": mkdir /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/5c1d: no space left on device`), wantReason: reason, wantSubject: "sandboxes"},
		"the disk is broken":                           {line: run(`rpc error: code = Unknown desc = failed to create containerd container: failed to mount /var/lib/containerd/tmpmounts/containerd-mount1: input/output error`), wantReason: reason, wantSubject: "sandboxes"},
		"the disk is read-only":                        {line: run(`rpc error: code = Unknown desc = failed to create containerd container: mkdir /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/new-1: read-only file system`), wantReason: reason, wantSubject: "sandboxes"},
		"the kernel has no memory for cgroups":         {line: run(`rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: mkdir /sys/fs/cgroup/memory/kubepods/burstable/pod0c4e/5c1d: cannot allocate memory: unknown`), wantReason: reason, wantSubject: "sandboxes"},
		"systemd does not make the scope":              {line: run(`rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: unable to apply cgroup configuration: unable to start unit "cri-containerd-5c1d.scope" (properties [...]): Message recipient disconnected from message bus without replying: unknown`), wantReason: reason, wantSubject: "sandboxes"},
		"the cgroup driver is not that of the kubelet": {line: run(`rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/kubepods/pod0c4e/5c1d" instead: unknown`), wantReason: reason, wantSubject: "sandboxes"},
		"the snapshotter is not there":                 {line: run(`rpc error: code = Unknown desc = failed to create containerd container: create snapshot: snapshotter not loaded: nydus: invalid argument`), wantReason: reason, wantSubject: "sandboxes"},
		"the echo of a sandbox":                        {line: klogText("Failed to create sandbox for pod", ` err="rpc error: code = DeadlineExceeded desc = context deadline exceeded" pod="default/web-0"`), wantReason: reason, wantSubject: "sandboxes", wantEcho: true},
		"the echo of it, further up":                   {line: klogText("CreatePodSandbox for pod failed", ` err="rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial unix /run/containerd/containerd.sock: connect: connection refused\"" pod="default/web-0"`), wantReason: reason, wantSubject: "sandboxes", wantEcho: true},
		"the echo of it, before klog had fields": {
			line:       `E0527 17:05:52.997953    6528 kuberuntime_sandbox.go:68] CreatePodSandbox for pod "web-0_default(0c4e)" failed: rpc error: code = Unknown desc = failed to reserve sandbox name "web-0_default_0c4e_1": name "web-0_default_0c4e_1" is reserved for "081b"`,
			wantReason: reason, wantSubject: "sandboxes", wantEcho: true,
		},
		"the echo of it at the top": {
			line:       klogText("Error syncing pod, skipping", ` err="failed to \"CreatePodSandbox\" for \"web-0_default(0c4e)\" with CreatePodSandboxError: \"Failed to create sandbox for pod \\\"web-0_default(0c4e)\\\": rpc error: code = Unknown desc = failed to reserve sandbox name \\\"web-0_default_0c4e_0\\\": name is reserved\"" pod="default/web-0" podUID="0c4e"`),
			wantReason: reason, wantSubject: "sandboxes", wantEcho: true,
		},
		"the echo of it in an event": {
			line:       klogText("Event occurred", ` object="default/web-0" kind="Pod" reason="FailedCreatePodSandBox" message="Failed to create pod sandbox: rpc error: code = Unavailable desc = connection error"`),
			wantReason: reason, wantSubject: "sandboxes", wantEcho: true,
		},
		"the echo of it in an event, alone": {
			line:       `Failed to create pod sandbox: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing dial unix /run/containerd/containerd.sock: connect: connection refused"`,
			wantReason: reason, wantSubject: "sandboxes", wantEcho: true,
		},
		"no answer for minutes":                  {line: klogText("Skipping pod synchronization", ` err="PLEG is not healthy: pleg was last seen active 3m5.112s ago; threshold is 3m0s"`), wantReason: reason, wantSubject: "runtime"},
		"no answer for minutes, both":            {line: klogText("Skipping pod synchronization", ` err="[container runtime is down, PLEG is not healthy: pleg was last seen active 5m2s ago; threshold is 3m0s]"`), wantReason: reason, wantSubject: "runtime"},
		"no answer for minutes, in the old form": {line: `I0102 06:42:00.569834  250135 kubelet.go:1771] skipping pod synchronization - [container runtime is down PLEG is not healthy: pleg was last seen active 66h20m49.03s ago; threshold is 3m0s]`, wantReason: reason, wantSubject: "runtime"},
		"no answer to a call for the status":     {line: klogText("Container runtime sanity check failed", ` err="rpc error: code = DeadlineExceeded desc = context deadline exceeded"`), wantReason: reason, wantSubject: "runtime"},
		"the runtime says that it is not ready":  {line: klogText("Container runtime not ready", ` runtimeReady="RuntimeReady=false reason:ContainerdHasDeprecationWarnings message:x"`), wantReason: reason, wantSubject: "runtime"},
		"no answer to a call for the sandboxes":  {line: klogText("ListPodSandbox with filter from runtime service failed", ` err="rpc error: code = DeadlineExceeded desc = context deadline exceeded" filter="nil"`), wantReason: reason, wantSubject: "runtime"},
		"no answer to a call for the containers": {line: `E0102 06:43:18.110305  250135 remote_runtime.go:169] ListContainers with filter &ContainerFilter{Id:,State:nil,PodSandboxId:,LabelSelector:map[string]string{},} from runtime service failed: rpc error: code = DeadlineExceeded desc = context deadline exceeded`, wantReason: reason, wantSubject: "runtime"},
		"the runtime is down, in a condition":    {line: klogText("Node became not ready", ` node="x" condition={"type":"Ready","status":"False","reason":"KubeletNotReady","message":"container runtime is down"}`), wantReason: reason, wantSubject: "runtime"},
		"nobody listens": {
			line:       klogText("ListPodSandbox with filter from runtime service failed", ` err="rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial unix /run/containerd/containerd.sock: connect: connection refused\"" filter="nil"`),
			wantReason: reason, wantSubject: "runtime",
		},
		"nobody listens, before klog had fields": {
			line:       `E0405 20:10:50.759597    1825 remote_runtime.go:207] ListPodSandbox with filter nil from runtime service failed: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing dial unix /run/containerd/containerd.sock: connect: connection refused"`,
			wantReason: reason, wantSubject: "runtime",
		},
		"a container takes too long": {line: klogText("CreateContainer in sandbox from runtime service failed", ` err="rpc error: code = DeadlineExceeded desc = context deadline exceeded" podSandboxID="5c1d"`), wantReason: reason, wantSubject: "containers"},
		"a container on a full disk": {line: klogText("StartContainer from runtime service failed", ` err="rpc error: code = Unknown desc = failed to create containerd task: failed to mount rootfs component: no space left on device: unknown" containerID="4f"`), wantReason: reason, wantSubject: "containers"},
		"a container on a full disk, before klog had fields": {
			line:       `E0220 18:04:20.060377   20893 remote_runtime.go:213] StartContainer "d3f920b852eb" from runtime service failed: rpc error: code = Unknown desc = failed to start shim: no space left on device: unknown`,
			wantReason: reason, wantSubject: "containers",
		},

		"the CNI is not there yet":               {line: run(`rpc error: code = Unknown desc = failed to setup network for sandbox "5c1d": plugin type="aws-cni" name="aws-cni" failed (add): add cmd: Error received from AddNetwork gRPC call: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:50051: connect: connection refused"`)},
		"the echo of that":                       {line: klogText("Failed to create sandbox for pod", ` err="rpc error: code = Unknown desc = failed to setup network for sandbox \"5c1d\": plugin type=\"aws-cni\" name=\"aws-cni\" failed (add): add cmd: Error received from AddNetwork gRPC call: rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial tcp 127.0.0.1:50051: connect: connection refused\"" pod="default/web-0"`)},
		"the CNI has no address":                 {line: run(`rpc error: code = Unknown desc = failed to setup network for sandbox "5c1d": plugin type="aws-cni" name="aws-cni" failed (add): add cmd: failed to assign an IP address to container`)},
		"the CNI has no plugin":                  {line: run(`rpc error: code = Unknown desc = failed to setup network for sandbox "5c1d": failed to find plugin "loopback" in path [/opt/cni/bin]`)},
		"Calico is not there yet":                {line: run(`rpc error: code = Unknown desc = failed to setup network for sandbox "5c1d": plugin type="calico" failed (add): stat /var/lib/calico/nodename: no such file or directory: check that the calico/node container is running and has mounted /var/lib/calico/`)},
		"the image of the sandbox":               {line: run(`rpc error: code = Unknown desc = failed to get sandbox image "registry.k8s.io/pause:3.9": failed to pull image "registry.k8s.io/pause:3.9": failed to resolve reference: dial tcp 34.96.108.209:443: i/o timeout`)},
		"a runtime class that is not there":      {line: run(`rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "runsc" is configured`)},
		"a sysctl that is not there":             {line: run(`rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: write sysctl key net.core.foo: open /proc/sys/net/core/foo: no such file or directory: unknown`)},
		"a limit of memory that is too low":      {line: run(`rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: container init was OOM-killed (memory limit too low?): unknown`)},
		"a program that is not in the image":     {line: klogText("StartContainer from runtime service failed", ` err="rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"serve\": executable file not found in $PATH: unknown" containerID="4f"`)},
		"a file that is mounted on a folder":     {line: klogText("StartContainer from runtime service failed", ` err="rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting \"/var/lib/kubelet/pods/0c4e/volume-subpaths/config/app/0\" to rootfs at \"/etc/app.conf\": not a directory: Are you trying to mount a directory onto a file (or vice-versa)?: unknown" containerID="4f"`)},
		"a container that crashes":               {line: klogText("Error syncing pod, skipping", ` err="failed to \"StartContainer\" for \"web\" with CrashLoopBackOff: \"back-off 5m0s restarting failed container=web pod=web-0_default(0c4e)\"" pod="default/web-0" podUID="0c4e"`)},
		"a secret that is not there":             {line: klogText("Error syncing pod, skipping", ` err="failed to \"StartContainer\" for \"web\" with CreateContainerConfigError: \"secret \\\"app\\\" not found\"" pod="default/web-0" podUID="0c4e"`)},
		"an image that is not there":             {line: klogText("PullImage from image service failed", ` err="rpc error: code = NotFound desc = failed to pull and unpack image \"docker.io/library/nope:latest\": failed to resolve reference \"docker.io/library/nope:latest\": docker.io/library/nope:latest: not found" image="nope:latest"`)},
		"an image that takes too long":           {line: klogText("PullImage from image service failed", ` err="rpc error: code = DeadlineExceeded desc = context deadline exceeded" image="big:latest"`)},
		"the kubelet has just started":           {line: klogText("Skipping pod synchronization", ` err="[container runtime status check may not have completed yet, PLEG is not healthy: pleg has yet to be successful]"`)},
		"the network is not ready":               {line: klogText("Container runtime network not ready", ` networkReady="NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized"`)},
		"a device plugin that has stopped":       {line: klogText("Failed to dial device plugin", ` err="dial unix /var/lib/kubelet/device-plugins/gpu.sock: connect: connection refused"`)},
		"a driver for volumes that has not come": {line: klogText("MountVolume.MountDevice failed", ` err="rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial unix /var/lib/kubelet/plugins/ebs.csi.aws.com/csi.sock: connect: connection refused\"" pod="default/web-0"`)},
		"a probe that takes too long":            {line: klogText("ExecSync cmd from runtime service failed", ` err="rpc error: code = DeadlineExceeded desc = failed to exec in container: timeout 1s exceeded: context deadline exceeded" containerID="4f" cmd=["cat","/tmp/healthy"]`)},
		"a container that is gone":               {line: klogText("ContainerStatus from runtime service failed", ` err="rpc error: code = NotFound desc = an error occurred when try to find container \"4f\": not found" containerID="4f"`)},
	})

	const sandbox = `time="2024-05-14T09:12:44.123456789Z" level=error msg="RunPodSandbox for &PodSandboxMetadata{Name:web-0,Uid:0c4e,Namespace:default,Attempt:0,} failed, error" error=`
	testWordings(t, health.StreamContainerd, map[string]wording{
		"the disk is full":                 {line: sandbox + `"failed to create containerd task: failed to start shim: write /run/containerd/io.containerd.runtime.v2.task/k8s.io/5c1d/config.json: no space left on device: unknown"`, wantReason: reason, wantSubject: "sandboxes"},
		"the shim does not start":          {line: sandbox + `"failed to create containerd task: failed to start shim: exec: \"containerd-shim-runc-v2\": executable file not found in $PATH: unknown"`, wantReason: reason, wantSubject: "sandboxes"},
		"the shim dies":                    {line: sandbox + `"rpc error: code = Unknown desc = failed to start sandbox \"5c1d\": failed to create containerd task: failed to create shim task: ttrpc: closed: unknown"`, wantReason: reason, wantSubject: "sandboxes"},
		"a name that an earlier try holds": {line: sandbox + `"failed to reserve sandbox name \"web-0_default_0c4e_0\": name \"web-0_default_0c4e_0\" is reserved for \"5c1d\""`, wantReason: reason, wantSubject: "sandboxes"},
		"systemd does not make the scope":  {line: sandbox + `"failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: unable to apply cgroup configuration: unable to start unit \"cri-containerd-5c1d.scope\": Connection timed out: unknown"`, wantReason: reason, wantSubject: "sandboxes"},
		"the snapshot takes too long":      {line: sandbox + `"rpc error: code = DeadlineExceeded desc = failed to create containerd container: context deadline exceeded"`, wantReason: reason, wantSubject: "sandboxes"},
		"the same in JSON": {
			line:       `{"error":"failed to create containerd task: failed to create shim: no space left on device: unknown","level":"error","msg":"RunPodSandbox for \u0026PodSandboxMetadata{Name:web-0,Uid:0c4e,Namespace:default,Attempt:0,} failed, error","time":"2024-05-14T09:12:44.123456789Z"}`,
			wantReason: reason, wantSubject: "sandboxes",
		},
		"a container on a broken disk":        {line: `time="2024-05-14T09:12:44.123456789Z" level=error msg="StartContainer for \"4f1d\" failed" error="failed to create containerd task: failed to mount rootfs component: input/output error: unknown"`, wantReason: reason, wantSubject: "containers"},
		"a container that an earlier try has": {line: `time="2024-05-14T09:12:44.123456789Z" level=error msg="CreateContainer within sandbox \"5c1d\" for &ContainerMetadata{Name:web,Attempt:0,} failed" error="failed to reserve container name \"web_web-0_default_0c4e_0\": name is reserved for \"4f\""`, wantReason: reason, wantSubject: "containers"},
		"the CNI has no address":              {line: sandbox + `"failed to setup network for sandbox \"5c1d\": plugin type=\"aws-cni\" name=\"aws-cni\" failed (add): add cmd: failed to assign an IP address to container"`},
		"the CNI takes too long":              {line: sandbox + `"failed to setup network for sandbox \"5c1d\": plugin type=\"calico\" failed (add): netplugin failed with no error message: context deadline exceeded"`},
		"a sysctl that is not there":          {line: sandbox + `"failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: write sysctl key net.core.foo: no such file or directory: unknown"`},
		"a program that is not in the image":  {line: `time="2024-05-14T09:12:44.123456789Z" level=error msg="StartContainer for \"4f1d\" failed" error="failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"serve\": executable file not found in $PATH: unknown"`},
		"an image that does not fit":          {line: `time="2024-05-14T09:12:44.123456789Z" level=error msg="PullImage \"big:latest\" failed" error="failed to pull and unpack image \"docker.io/library/big:latest\": failed to extract layer sha256:12: no space left on device"`},
		"a sandbox that starts":               {line: `time="2024-05-14T09:12:44.123456789Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:web-0,Uid:0c4e,Namespace:default,Attempt:0,} returns sandbox id \"5c1d\""`},
	})
}

func TestLinesOfTheKubeletAboutStorage(t *testing.T) {
	testWordings(t, health.StreamKubelet, map[string]wording{
		"disk usage": {
			line:       `I0531 07:12:11.262610    1825 fsHandler.go:133] fs: disk usage and inodes count on following dirs took 1.262610491s: [/var/lib/docker/overlay2/709e/diff /var/lib/docker/containers/1587]; will not log again for this container unless duration exceeds 2s`,
			wantReason: "KubeletDiskUsageSlow",
		},
		"disk usage, in JSON": {
			line:       `{"ts":1732356000123.4,"caller":"common/fsHandler.go:135","msg":"fs: disk usage and inodes count on following dirs took 59.124197608s: [/var/lib/containerd/x]; will not log again for this container unless duration exceeds 4s"}`,
			wantReason: "KubeletDiskUsageSlow",
		},
		"/etc/hosts": {
			line:       klogText("StartContainer from runtime service failed", ` err="rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting \"/var/lib/kubelet/pods/c02d9022-7bc8-4df0-b899-f315edce7112/etc-hosts\" to rootfs at \"/etc/hosts\": mount src: no such file or directory: unknown" containerID="4f"`),
			wantReason: "EtcHostsMountFailed",
		},
		"/etc/hosts, of the older runc": {
			line:       `E0116 11:19:33.930641    1754 pod_workers.go:186] Error syncing pod 277ece5d ("test4_default(277ece5d)"), skipping: failed to "StartContainer" for "main" with CreateContainerError: "container create failed: container_linux.go:274: starting container process caused \"process_linux.go:366: container init caused \\\"rootfs_linux.go:57: mounting \\\\\\\"/var/lib/kubelet/pods/277ece5d-faf2-11e7-b013-d481d7de48ad/etc-hosts\\\\\\\" to rootfs \\\\\\\"/var/lib/containers/storage/overlay/ea92/merged\\\\\\\" at \\\\\\\"/etc/hosts\\\\\\\" caused \\\\\\\"no such file or directory\\\\\\\"\\\"\"\n"`,
			wantReason: "EtcHostsMountFailed",
		},
		"/etc/hosts is gone": {
			line:       klogText("container start failed", ` err="open /var/lib/kubelet/pods/d1b03e68f1957bd0567379ca57c2517a/etc-hosts: no such file or directory" pod="kube-system/x"`),
			wantReason: "EtcHostsMountFailed",
		},
		"/etc/hosts does not mount": {line: klogText("Failed", ` err="failed to mount /var/lib/kubelet/pods/d1b03e68/etc-hosts: no such file or directory"`), wantReason: "EtcHostsMountFailed"},
		"another file of the pod":   {line: klogText("StartContainer from runtime service failed", ` err="rpc error: code = Unknown desc = error mounting \"/var/lib/kubelet/pods/c02d/volumes/kubernetes.io~configmap/etc-hosts-extra\" to rootfs at \"/etc/hosts.d\": not a directory: unknown" containerID="4f"`)},
		"the file is made":          {line: klogText("Managing hosts file", ` path="/var/lib/kubelet/pods/c02d/etc-hosts" pod="default/web-0"`)},
	})
}

func TestLinesOfSystemd(t *testing.T) {
	testWordings(t, health.StreamSystemd, map[string]wording{
		"the kubelet restarts":                    {line: "kubelet.service: Scheduled restart job, restart counter is at 5.", wantReason: "KubeletRepeatedRestart", wantSubject: "kubelet.service"},
		"the kubelet restarts, in the journal":    {line: "Nov 23 10:00:00 ip-10-0-1-17 systemd[1]: kubelet.service: Scheduled restart job, restart counter is at 5.", wantReason: "KubeletRepeatedRestart", wantSubject: "kubelet.service"},
		"the kubelet restarts, systemd 219":       {line: "kubelet.service holdoff time over, scheduling restart.", wantReason: "KubeletRepeatedRestart", wantSubject: "kubelet.service"},
		"the agent of k3s restarts":               {line: "k3s-agent.service: Scheduled restart job, restart counter is at 2.", wantReason: "KubeletRepeatedRestart", wantSubject: "k3s-agent.service"},
		"the kubelet of the snap restarts":        {line: "snap.kubelet-eks.daemon.service: Scheduled restart job, restart counter is at 2.", wantReason: "KubeletRepeatedRestart", wantSubject: "snap.kubelet-eks.daemon.service"},
		"containerd restarts":                     {line: "containerd.service: Scheduled restart job, restart counter is at 12.", wantReason: "RuntimeRepeatedRestart", wantSubject: "containerd.service"},
		"Docker restarts":                         {line: "docker.service: Scheduled restart job, restart counter is at 1.", wantReason: "RuntimeRepeatedRestart", wantSubject: "docker.service"},
		"Docker restarts, systemd 219":            {line: "docker.service holdoff time over, scheduling restart.", wantReason: "RuntimeRepeatedRestart", wantSubject: "docker.service"},
		"CRI-O restarts":                          {line: "crio.service: Scheduled restart job, restart counter is at 3.", wantReason: "RuntimeRepeatedRestart", wantSubject: "crio.service"},
		"another service restarts":                {line: "sshd.service: Scheduled restart job, restart counter is at 3."},
		"a service named after the kubelet":       {line: "kubelet-exporter.service: Scheduled restart job, restart counter is at 3."},
		"what comes before the restart":           {line: "kubelet.service: Service RestartSec=10s expired, scheduling restart."},
		"what comes before the restart, older":    {line: "kubelet.service: Service hold-off time over, scheduling restart."},
		"what comes before the restart, at once":  {line: "kubelet.service: Service has no hold-off time (RestartSec=0), scheduling restart."},
		"the kubelet starts":                      {line: "Started kubelet.service - Kubernetes Kubelet."},
		"the kubelet starts, before 248":          {line: "Started Kubernetes Kubelet."},
		"a person restarts the kubelet":           {line: "Stopping kubelet.service - Kubernetes Kubelet..."},
		"a person has stopped the kubelet":        {line: "Stopped Kubernetes Kubelet."},
		"the kubelet ends":                        {line: "kubelet.service: Main process exited, code=exited, status=1/FAILURE"},
		"the kubelet has failed":                  {line: "kubelet.service: Failed with result 'exit-code'."},
		"the kubelet does not start":              {line: "Failed to start kubelet.service - Kubernetes Kubelet.", wantReason: "ServiceFailedToStart", wantSubject: "kubelet.service"},
		"Docker does not start, before 248":       {line: "Failed to start Docker Application Container Engine.", wantReason: "ServiceFailedToStart", wantSubject: "Docker Application Container Engine"},
		"sshd does not start":                     {line: "Failed to start OpenSSH server daemon.", wantReason: "ServiceFailedToStart", wantSubject: "OpenSSH server daemon"},
		"containerd does not start, before 248":   {line: "Failed to start containerd container runtime.", wantReason: "ServiceFailedToStart", wantSubject: "containerd container runtime"},
		"the kubelet does not start, before 248":  {line: "Failed to start kubelet: The Kubernetes Node Agent.", wantReason: "ServiceFailedToStart", wantSubject: "kubelet: The Kubernetes Node Agent"},
		"auditd does not start, before 248":       {line: "Failed to start Security Auditing Service.", wantReason: "ServiceFailedToStart", wantSubject: "Security Auditing Service"},
		"udev does not start, before 248":         {line: "Failed to start udev Kernel Device Manager.", wantReason: "ServiceFailedToStart", wantSubject: "udev Kernel Device Manager"},
		"what someone ran, before 248":            {line: "Failed to start /usr/bin/backup --all."},
		"a slice, before 248":                     {line: "Failed to start Slice kubepods."},
		"an instance does not start":              {line: "Failed to start getty@tty1.service - Getty on tty1.", wantReason: "ServiceFailedToStart", wantSubject: "getty@tty1.service"},
		"a service without description":           {line: "Failed to start nginx.service.", wantReason: "ServiceFailedToStart", wantSubject: "nginx.service"},
		"a service that is called runner":         {line: "Failed to start runner.service - Runner.", wantReason: "ServiceFailedToStart", wantSubject: "runner.service"},
		"a service that is called usbmuxd":        {line: "Failed to start usbmuxd.service - Socket daemon for usbmux.", wantReason: "ServiceFailedToStart", wantSubject: "usbmuxd.service"},
		"systemd gives up":                        {line: "kubelet.service: Start request repeated too quickly.", wantReason: "ServiceFailedToStart", wantSubject: "kubelet.service"},
		"systemd gives up, systemd 219":           {line: "start request repeated too quickly for docker.service", wantReason: "ServiceFailedToStart", wantSubject: "docker.service"},
		"systemd has given up":                    {line: "nginx.service: Failed with result 'start-limit-hit'.", wantReason: "ServiceFailedToStart", wantSubject: "nginx.service"},
		"the manager of a user does not start":    {line: "Failed to start user@1000.service - User Manager for UID 1000."},
		"the folder of a user is not made":        {line: "Failed to start user-runtime-dir@1000.service - User Runtime Directory /run/user/1000."},
		"a session does not start":                {line: "Failed to start Session 12 of user ec2-user."},
		"the manager of a user, before 248":       {line: "Failed to start User Manager for UID 1000."},
		"the scope of a container does not start": {line: "Failed to start cri-containerd-4f1d0c.scope - libcontainer container 4f1d0c."},
		"the scope of a container, before 248":    {line: "Failed to start libcontainer container 4f1d0c."},
		"what someone ran with systemd-run":       {line: "Failed to start run-u123.service - /usr/bin/backup."},
		"what the kubelet mounts":                 {line: "Failed to start run-r0a1b2c3d4e5f.scope - /usr/bin/systemd-run."},
		"a mount":                                 {line: "var-lib-kubelet-pods-0c4e-volumes-x.mount: Deactivated successfully."},
		"a service of the user gives up":          {line: "user@1000.service: Start request repeated too quickly."},
	})
}

func TestLinesOfIPAMD(t *testing.T) {
	zap := func(level, msg string) string {
		return fmt.Sprintf(`{"level":%q,"ts":"2025-03-24T06:01:41.092Z","caller":"ipamd/ipamd.go:661","msg":%q}`, level, msg)
	}
	testWordings(t, health.StreamIPAMD, map[string]wording{
		"no answer":                            {line: zap("error", `Unable to reach API Server: Get "https://10.100.0.1:443/version?timeout=5s": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)`), wantReason: "IPAMDNotReady"},
		"no answer, in older words":            {line: zap("error", `Unable to reach API Server, Get "https://10.100.0.1:443/version?timeout=5s": net/http: request canceled`), wantReason: "IPAMDNotReady"},
		"no answer, in few words":              {line: zap("debug", `Unable to reach API Server`), wantReason: "IPAMDNotReady"},
		"no answer, and it ends":               {line: zap("error", `Failed to check API server connectivity: error communicating with apiserver: Get "https://10.100.0.1:443/version?timeout=5s": dial tcp 10.100.0.1:443: i/o timeout`), wantReason: "IPAMDNotReady"},
		"no answer, before 1.7":                {line: zap("error", `Failed to create client: error communicating with apiserver: Get https://10.77.0.1:443/version?timeout=32s: dial tcp 10.77.0.1:443: i/o timeout`), wantReason: "IPAMDNotReady"},
		"no answer, before zap":                {line: `2018-07-02T15:00:33Z [ERROR] Failed to create client: error communicating with apiserver: Get https://10.100.0.1:443/version: dial tcp 10.100.0.1:443: i/o timeout`, wantReason: "IPAMDNotReady"},
		"no token":                             {line: zap("error", `Failed to check API server connectivity: invalid configuration: no configuration has been provided, try setting KUBERNETES_MASTER environment variable`), wantReason: "IPAMDNotReady"},
		"still no answer":                      {line: zap("debug", `Still waiting for API server connectivity in background: Get "https://10.100.0.1:443/version?timeout=5s": context deadline exceeded`), wantReason: "IPAMDNotReady"},
		"no answer to a question for the node": {line: zap("error", `Failed to get node, Get "https://10.100.0.1:443/api/v1/nodes/ip-10-0-1-17.ec2.internal": dial tcp 10.100.0.1:443: connect: no route to host`), wantReason: "IPAMDNotReady"},
		"no answer to a list":                  {line: zap("error", `Failed to watch *v1alpha1.CNINode: failed to list *v1alpha1.CNINode: Get "https://10.100.0.1:443/apis/vpcresources.k8s.aws/v1alpha1/cninodes?limit=500": dial tcp 10.100.0.1:443: connect: connection refused`), wantReason: "IPAMDNotReady"},
		"no answer, and the request unknown":   {line: zap("error", `Failed to list pods: dial tcp 10.100.0.1:443: i/o timeout`), wantReason: "IPAMDNotReady"},
		"an answer":                            {line: zap("info", `Successful communication with the Cluster! Cluster Version is: v1.31+. git version: v1.31.4-eks-2d5f260. git tree state: clean. commit: 0123. platform: linux/amd64`), wantReason: "IPAMDNotReady", wantRecovers: true},
		"an answer, in newer words":            {line: zap("info", `API server connectivity established.`), wantReason: "IPAMDNotReady", wantRecovers: true},
		"an answer in the background":          {line: zap("info", `API server connectivity established in background! Cluster Version is: v1.31.4-eks-2d5f260`), wantReason: "IPAMDNotReady", wantRecovers: true},
		"no address":                           {line: zap("error", `DataStore has no available IP/Prefix addresses`), wantReason: "IPAMDNoIPs"},
		"no address, before prefixes":          {line: zap("error", `DataStore has no available IP addresses`), wantReason: "IPAMDNoIPs"},
		"no address in an answer":              {line: zap("info", `Send AddNetworkReply: IPv4Addr: , IPv6Addr: , DeviceNumber: -1, err: AssignPodIPv4Address: no available IP/Prefix addresses`), wantReason: "IPAMDNoIPs"},
		"no address in the subnet":             {line: zap("error", `Failed to allocate a private IP/Prefix addresses on ENI eni-0a8a: operation error EC2: AssignPrivateIpAddresses, https response error StatusCode: 400, api error InsufficientFreeAddressesInSubnet: The specified subnet does not have enough free addresses to satisfy the request.`), wantReason: "IPAMDNoIPs"},
		"no prefix in the subnet":              {line: zap("error", `failed to allocate all available IPv4 Prefixes on ENI eni-0a8a, err: api error InsufficientCidrBlocks: There are not enough free cidr blocks in the specified subnet to satisfy the request.`), wantReason: "IPAMDNoIPs"},
		"it starts":                            {line: zap("info", `Starting L-IPAMD v1.19.0  ...`), wantReason: "IPAMDRepeatedlyRestart"},
		"it starts, before zap":                {line: `2018-07-02T15:00:33Z [INFO] Starting L-IPAMD 1.0.0 ...`, wantReason: "IPAMDRepeatedlyRestart"},
		"no card at all":                       {line: zap("error", `IP pool reconcile: No ENI found at all in metadata, unable to reconcile`), wantReason: "IPAMDInconsistentState"},
		"an address that is there twice":       {line: zap("error", `Initialization failure: datastore: IP already in data store`), wantReason: "IPAMDInconsistentState"},
		"a file of another version":            {line: zap("error", `Initialization failure: datastore: unknown backing store format (vpc-cni-ipam/2 != vpc-cni-ipam/1) - wrong CNI/ipamd version? (Rebooting this node will restart local pods and probably help)`), wantReason: "IPAMDInconsistentState"},
		"a file that cannot be written":        {line: zap("warn", `Failed to update backing store: open /var/run/aws-node/ipam.json.tmp: no space left on device`), wantReason: "IPAMDInconsistentState"},
		"it begins to ask":                     {line: zap("info", `Testing communication with server`)},
		"it waits for an answer":               {line: zap("info", `Waiting to connect API server for upto 30s...`)},
		"EC2 does not answer":                  {line: zap("error", `Failed to call ec2:DescribeNetworkInterfaces for [eni-0a8a]: operation error EC2: DescribeNetworkInterfaces, Post "https://ec2.us-west-2.amazonaws.com/": dial tcp 52.94.211.10:443: i/o timeout`)},
		"the metadata service does not answer": {line: zap("error", `IP pool reconcile: Failed to get attached ENI info: Get "http://169.254.169.254/latest/meta-data/mac": dial tcp 169.254.169.254:80: connect: connection refused`)},
		"one card is full":                     {line: zap("debug", `AssignPodIPv4Address: ENI eni-0a8a63cdd53f9c6bf does not have available addresses`)},
		"one card holds no more":               {line: zap("error", `Failed to increase pool size due to not able to allocate ENI PrivateIpAddressLimitExceeded`)},
		"a pod that is gone":                   {line: zap("info", `datastore: Sandbox aws-cni/98f1/eth0 uses unknown IP Address 10.4.128.118 - presuming stale/dead`)},
	})
}

func TestLinesOfKubeProxy(t *testing.T) {
	const reason = "KubeProxyNotReady"
	testWordings(t, health.StreamKubeProxy, map[string]wording{
		"rules are not written":                  {line: `I0610 07:32:16.910860       1 proxier.go:833] "Sync failed" ipFamily="IPv4" retryingTime="30s"`, wantReason: reason},
		"rules are not written, before families": {line: `I0403 20:05:18.504306       1 proxier.go:768] "Sync failed" retryingTime="30s"`, wantReason: reason},
		"rules are not written, before fields":   {line: `I0627 09:28:54.054962       1 proxier.go:879] Sync failed; retrying in 30s`, wantReason: reason},
		"rules are not written, in JSON":         {line: `{"ts":1732356000123.4,"caller":"iptables/proxier.go:833","msg":"Sync failed","v":2,"ipFamily":"IPv4","retryingTime":"30s"}`, wantReason: reason},
		"rules are not written, in CRI's log":    {line: `2024-06-10T07:32:16.910860123Z stderr F I0610 07:32:16.910860       1 proxier.go:833] "Sync failed" ipFamily="IPv4" retryingTime="30s"`, wantReason: reason},
		"why they are not written":               {line: `E0610 07:32:16.910801       1 proxier.go:1544] "Failed to execute iptables-restore" err=<`, wantReason: reason, wantEcho: true},
		"why they are not written, in one line":  {line: `E0627 09:28:54.054954       1 proxier.go:1598] Failed to execute iptables-restore: exit status 1 (iptables-restore: line 86 failed )`, wantReason: reason, wantEcho: true},
		"why they are not written, nftables":     {line: `E0610 07:32:16.910801       1 proxier.go:1813] "nftables sync failed" err="signal: segmentation fault (core dumped)"`, wantReason: reason, wantEcho: true},
		"why there are no chains":                {line: `E0610 07:32:16.910801       1 proxier.go:862] "Failed to ensure chain exists" err="error creating chain \"KUBE-EXTERNAL-SERVICES\": exit status 4" table="filter" chain="KUBE-EXTERNAL-SERVICES"`, wantReason: reason, wantEcho: true},
		"someone holds the lock":                 {line: `Another app is currently holding the xtables lock; still 5s 0us time ahead to have a chance to grab the lock...`, wantReason: reason, wantEcho: true},
		"the lock is not there":                  {line: `E0610 07:32:16.910801       1 iptables.go:12] Fatal: can't open lock file /run/xtables.lock: Permission denied`, wantReason: reason, wantEcho: true},
		"no answer": {
			line:       `E0622 11:01:11.000123       1 reflector.go:138] k8s.io/client-go/informers/factory.go:134: Failed to watch *v1.EndpointSlice: failed to list *v1.EndpointSlice: Get "https://10.0.0.1:443/apis/discovery.k8s.io/v1/endpointslices?limit=500&resourceVersion=0": dial tcp 10.0.0.1:443: connect: connection refused`,
			wantReason: reason,
		},
		"no answer, of the newer reflector": {
			line:       `E1001 11:01:11.000123       1 reflector.go:200] "Failed to watch" err="failed to list *v1.Service: Unauthorized" logger="UnhandledError" reflector="k8s.io/client-go/informers/factory.go:160" type="*v1.Service"`,
			wantReason: reason,
		},
		"no answer, unhandled": {
			line:       `E1001 11:01:11.000123       1 reflector.go:158] "Unhandled Error" err="k8s.io/client-go/informers/factory.go:160: Failed to watch *v1.Service: failed to list *v1.Service: Unauthorized" logger="UnhandledError"`,
			wantReason: reason,
		},
		"no answer, before 1.19": {
			line:       `E0624 12:04:06.002944       1 reflector.go:178] k8s.io/client-go/informers/factory.go:135: Failed to list *v1.Endpoints: Get https://10.0.0.1:443/api/v1/endpoints?limit=500: dial tcp 10.0.0.1:443: i/o timeout`,
			wantReason: reason,
		},
		"a kind that is not there": {
			line:       `E0624 12:04:06.002944       1 reflector.go:138] k8s.io/client-go/informers/factory.go:134: Failed to watch *v1.EndpointSlice: failed to list *v1.EndpointSlice: the server could not find the requested resource`,
			wantReason: reason,
		},
		"the warning that comes with it": {
			line:       `W0622 11:01:11.000100       1 reflector.go:324] k8s.io/client-go/informers/factory.go:134: failed to list *v1.EndpointSlice: Get "https://10.0.0.1:443/apis/discovery.k8s.io/v1/endpointslices?limit=500&resourceVersion=0": dial tcp 10.0.0.1:443: connect: connection refused`,
			wantReason: reason, wantEcho: true,
		},
		"a watch that ends":      {line: `W0622 11:01:11.000100       1 reflector.go:436] k8s.io/client-go/informers/factory.go:134: watch of *v1.EndpointSlice ended with: too old resource version: 5532112 (5533020)`},
		"rules are written":      {line: `I0610 07:32:16.910871       1 proxier.go:822] "SyncProxyRules complete" ipFamily="IPv4" elapsed="8.063544ms"`},
		"another kind is listed": {line: `W0622 11:01:11.000100       1 reflector.go:324] k8s.io/client-go/informers/factory.go:134: failed to list *v1.ConfigMap: forbidden`},
	})
}
