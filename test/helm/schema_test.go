package helm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// What a person may get wrong, and what Helm must say of it: where it is, and what would be right.
func TestWrongValuesAreRefusedWithWhatToWriteInstead(t *testing.T) {
	needHelm(t)
	for name, test := range map[string]struct {
		set  string
		want []string
	}{
		"a misspelt key":                            {`controller={"replica": 3}`, []string{"/controller", "additional properties 'replica' not allowed"}},
		"a misspelt key at the top":                 {`agents={"enabled": false}`, []string{"additional properties 'agents' not allowed"}},
		"a text for a number":                       {`controller.replicas="two"`, []string{"/controller/replicas", "got string, want integer"}},
		"a number of replicas below none":           {`controller.replicas=-1`, []string{"/controller/replicas", "minimum: got -1, want 0"}},
		"a text for a switch":                       {`agent.enabled="no"`, []string{"/agent/enabled", "got string, want boolean"}},
		"a level that does not exist":               {`controller.logLevel="warn"`, []string{"/controller/logLevel", "'debug', 'info', 'error'"}},
		"a format that does not exist":              {`controller.logFormat="text"`, []string{"/controller/logFormat", "'json', 'console'"}},
		"a mode that does not exist":                {`defaultRepairPolicy.mode="Dry"`, []string{"/defaultRepairPolicy/mode", "'Enforce', 'DryRun', 'Paused'"}},
		"a digest that is cut short":                {`controller.image.digest="sha256:abc"`, []string{"/controller/image/digest", "sha256:[a-f0-9]{64}"}},
		"a tag in the repository":                   {`agent.image.repository="example.com/agent:v1"`, []string{"/agent/image/repository", "does not match"}},
		"a number for a tag":                        {`agent.image.tag=1.1`, []string{"/agent/image/tag", "got number, want string"}},
		"a pull policy that does not exist":         {`image.pullPolicy="Sometimes"`, []string{"/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"}},
		"a pull secret by its name alone":           {`image.pullSecrets=["registry"]`, []string{"/image/pullSecrets/0", "got string, want object"}},
		"a version that is none":                    {`karpenter.version="latest"`, []string{"/karpenter/version", "does not match"}},
		"anything but true, false or auto":          {`karpenter.nodeRepair="maybe"`, []string{"/karpenter/nodeRepair", "'auto', 'true', 'false'"}},
		"a capability that the agent has no use of": {`agent.capabilities=["SYS_ADMIN"]`, []string{"/agent/capabilities/0", "'SYSLOG', 'NET_ADMIN'"}},
		"the whole filesystem of the node":          {`agent.hostPaths.containerRuntime="/"`, []string{"/agent/hostPaths/containerRuntime", "'/run/containerd'"}},
		"a state outside of /var/lib":               {`agent.hostPaths.state="/etc"`, []string{"/agent/hostPaths/state", "^/var/lib/"}},
		"a part of the configuration misspelt":      {`agent.config={"detector": {}}`, []string{"/agent/config", "additional properties 'detector' not allowed"}},
		"a setting of a detector misspelt":          {`agent.config={"detectors": {"interfaces": {"inclde": ["eth0"]}}}`, []string{"/agent/config/detectors/interfaces", "additional properties 'inclde' not allowed"}},
		"a duration without its quotes":             {`agent.config={"detectors": {"routes": {"interval": 10}}}`, []string{"/agent/config/detectors/routes/interval", "got number, want string"}},
		"a reason of a severity that is none":       {`agent.config={"reasons": {"OOMKilling": {"severity": "Bad"}}}`, []string{"/agent/config/reasons/OOMKilling/severity", "'Fatal', 'Warning'"}},
		"a rule without a pattern":                  {`agent.config={"rules": [{"reason": "A", "stream": "kmsg", "sample": "a", "counterSample": "b"}]}`, []string{"/agent/config/rules/0", "missing property 'pattern'"}},
		"a privileged port":                         {`controller.metrics.port=80`, []string{"/controller/metrics/port", "minimum: got 80, want 1,024"}},
		"a flag without its dashes":                 {`controller.extraArgs=["log-level=debug"]`, []string{"/controller/extraArgs/0", "does not match"}},
		"a node condition without a category":       {`controller.nodeConditions=[{"conditionType":"A","conditionStatus":"True","finding":{"severity":"Fatal"}}]`, []string{"/controller/nodeConditions/0/finding", "missing property 'category'"}},
		"a node condition whose status is a switch": {`controller.nodeConditions=[{"conditionType":"A","conditionStatus":true,"finding":{"category":"Kernel","severity":"Fatal"}}]`, []string{"/controller/nodeConditions/0/conditionStatus", "'True', 'False', 'Unknown'"}},
		"a share without its sign":                  {`agent.updateStrategy.maxUnavailable="10"`, []string{"/agent/updateStrategy/maxUnavailable", "%$"}},
		"an interval without a unit":                {`metrics.podMonitor.interval="30"`, []string{"/metrics/podMonitor/interval", "(ms|s|m|h)"}},
		"a label that is a number":                  {`metrics.podMonitor.labels={"release": 1}`, []string{"/metrics/podMonitor/labels/release", "got number, want string"}},
		"a policy of one's own that is the default": {`repairPolicies={"default": {"rules": []}}`, []string{"repairPolicies.default", "give yours another name, or set defaultRepairPolicy.enabled=false"}},
		"a policy whose name is none":               {`repairPolicies={"GPU": {"rules": []}}`, []string{"/repairPolicies", "additional properties 'GPU' not allowed"}},
		"a policy without rules":                    {`repairPolicies={"gpu": {"weight": 1}}`, []string{"/repairPolicies/gpu", "missing property 'rules'"}},
		"a reason that EC2 cannot give":             {`aws.take=["KernelPanic"]`, []string{"/aws/take/0", "AttachedEBSStatusImpaired"}},
		"the name of a cluster for its ARN":         {`aws.clusterARN="main"`, []string{"/aws/clusterARN", "arn:aws"}},
		"a time between questions without a unit":   {`aws.interval="60"`, []string{"/aws/interval", "(s|m)"}},
		"a memory limit in the words of Kubernetes": {`controller.goMemLimit="230Mi"`, []string{"/controller/goMemLimit", "[KMGT]i)?B"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cluster.RenderChart(t.Context(), "--set-json="+test.set)
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

// Twins of the above: what is unusual and right is taken.
func TestUnusualValuesAreTaken(t *testing.T) {
	needHelm(t)
	for name, set := range map[string]string{
		"no replicas at all, to stop everything": `controller.replicas=0`,
		"a registry with a port":                 `agent.image.repository="registry.example:5000/a/b"`,
		"true, and not in quotes":                `karpenter.nodeRepair=true`,
		"a version with a v":                     `karpenter.version="v1.15.0"`,
		"a default that is taken away":           `controller.affinity=null`,
		"a cluster in China":                     `aws.clusterARN="arn:aws-cn:eks:cn-north-1:111122223333:cluster/main"`,
		"no capability":                          `agent.capabilities=[]`,
		"no priority":                            `agent.priorityClassName=""`,
		"values of a chart that this is part of": `global={"a": "b"}`,
		"an empty configuration":                 `agent.config=null`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cluster.RenderChart(t.Context(), "--set-json="+set)
			require.NoError(t, err)
		})
	}
}
