package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func karpenterDeployment() *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "karpenter", Labels: map[string]string{"app.kubernetes.io/name": "karpenter"}}}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "controller", Image: "example.invalid/karpenter/controller:1.15.0"}}
	return d
}

// writeFile writes a file of a folder of its own.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// unblocked is a cluster in which some nodes are repaired, some wait, and one is at work.
func unblocked() []client.Object {
	f := &fleet{}
	f.add(repairPolicy("default", nil), nodePool("default", "1", nil), nodePool("batch", "2", nil))
	f.machines("default", 12)
	f.machines("batch", 12)
	f.machine("default", "ip-10-0-0-1", finding("InterfaceNotUp", "eth1", 20*time.Minute))
	f.machine("default", "ip-10-0-0-2", finding("InterfaceNotUp", "eth1", 40*time.Minute))
	f.machine("default", "ip-10-0-0-3", finding("InterfaceNotUp", "eth1", time.Minute))
	f.machine("batch", "ip-10-0-1-1", finding("ReadonlyFilesystem", "/", 20*time.Minute))
	return withKarpenter(f.objects)
}

const newPolicy = `# nodes of batch are rebooted, and those of default are tolerated for half an hour
apiVersion: autorepair.sh/v1alpha1
kind: RepairPolicy
metadata: {name: batch}
spec:
  weight: 50
  nodeClaimSelector: {matchLabels: {karpenter.sh/nodepool: batch}}
  rules:
  - {name: reboot, match: {reasonPattern: ".*"}, tolerate: 10m, action: Reboot}
---
apiVersion: autorepair.sh/v1alpha1
kind: RepairPolicy
metadata: {name: default}
spec:
  rules:
  - {name: all, match: {reasonPattern: ".*"}, tolerate: 30m, drainBound: 30m}
`

func TestSimulatePrints(t *testing.T) {
	for name, test := range map[string]struct {
		objects []client.Object
		args    func(*testing.T) []string
	}{
		"storm":     {objects: withKarpenter(storm())},
		"unblocked": {objects: unblocked()},
		"quiet":     {objects: oneNode()},
		"later":     {objects: unblocked(), args: func(*testing.T) []string { return []string{"--now", "2026-11-25T12:09:00Z"} }},
		"policy":    {objects: unblocked(), args: func(t *testing.T) []string { return []string{"--policy", writeFile(t, "new.yaml", newPolicy)} }},
		"old-karpenter": {objects: unblocked(), args: func(*testing.T) []string {
			return []string{"--karpenter-version", "1.9.0", "--karpenter-node-repair", "true"}
		}},
	} {
		for _, format := range Formats {
			t.Run(name+" as "+format, func(t *testing.T) {
				args := []string{"simulate", "-o", format}
				if test.args != nil {
					args = append(args, test.args(t)...)
				}
				got, err := newWorld(test.objects...).run(t, args...)
				require.NoError(t, err)
				requireGolden(t, "simulate/"+name+"."+format, got)
			})
		}
	}
}

// What is recorded, and read again at the same time, is decided about as the cluster itself.
func TestARecordingIsDecidedAboutAsTheCluster(t *testing.T) {
	for name, objects := range map[string][]client.Object{"storm": withKarpenter(storm()), "unblocked": unblocked()} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(objects...)
			want, err := w.run(t, "simulate", "-o", "json")
			require.NoError(t, err)
			file := filepath.Join(t.TempDir(), "recording.json")
			_, err = w.run(t, "simulate", "--record", file)
			require.NoError(t, err)
			require.Contains(t, w.errOut.String(), "simulate -f "+file+" --now 2026-11-25T12:00:00Z")

			empty := newWorld()
			got, err := empty.run(t, "simulate", "-o", "json", "-f", file)
			require.NoError(t, err)
			require.Empty(t, empty.errOut.String(), "no warnings")
			require.Equal(t, want, got)

			explained, err := newWorld(objects...).run(t, "explain", "ip-10-0-0-2", "-o", "json")
			require.NoError(t, err)
			again, err := newWorld().run(t, "explain", "ip-10-0-0-2", "-o", "json", "-f", file)
			require.NoError(t, err)
			require.Equal(t, explained, again)

			w.In = strings.NewReader(readAll(t, file))
			piped, err := w.run(t, "simulate", "-o", "json", "-f", "-")
			require.NoError(t, err)
			require.Equal(t, want, piped)
		})
	}
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestSimulateOfFilesSaysWhatIsMissing(t *testing.T) {
	w := newWorld()
	got, err := w.run(t, "simulate", "-f", writeFile(t, "policies.yaml", newPolicy+"---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"))
	require.NoError(t, err)
	requireGolden(t, "simulate/files-missing.table", got)
	requireGolden(t, "simulate/files-missing.warnings", w.errOut.String())
}

func TestSimulateSaysHowOldFilesAre(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recording.json")
	_, err := newWorld(unblocked()...).run(t, "simulate", "--record", file)
	require.NoError(t, err)
	for name, test := range map[string]struct{ now, want string }{
		"at the same time nothing is said": {now: "2026-11-25T12:00:00Z"},
		"a day later":                      {now: "2026-11-26T12:00:00Z", want: "Warning: the newest time in the files is 2026-11-25T11:59:00Z, 24h before the time of this look"},
		"before":                           {now: "2026-11-25T10:00:00Z", want: "Warning: the files know of 2026-11-25T11:59:00Z, which is after the time of this look, 2026-11-25T10:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			_, err := w.run(t, "simulate", "-f", file, "--now", test.now)
			require.NoError(t, err)
			if test.want == "" {
				require.Empty(t, w.errOut.String())
				return
			}
			require.Contains(t, w.errOut.String(), test.want)
		})
	}
}

func TestSimulateReadsDirectories(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(newPolicy), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("not: [yaml"), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "inner"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "inner", "b.yml"), []byte(strings.ReplaceAll(newPolicy, "{name: ", "{name: x")), 0o600))
	for name, test := range map[string]struct {
		args []string
		want int
	}{
		"of a directory its files":     {want: 2},
		"and those of its directories": {args: []string{"-R"}, want: 4},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newWorld().run(t, append([]string{"simulate", "-o", "json", "-f", dir}, test.args...)...)
			require.NoError(t, err)
			require.Equal(t, test.want, strings.Count(got, `"weight"`))
		})
	}
}

func TestSimulateRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		args func(*testing.T) []string
		want string
	}{
		"a file that is not there":  {args: func(*testing.T) []string { return []string{"-f", "nowhere.yaml"} }, want: "nowhere.yaml: no such file"},
		"a directory without files": {args: func(t *testing.T) []string { return []string{"-f", t.TempDir()} }, want: "holds no file that ends in .yaml, .yml or .json"},
		"a file that does not parse": {
			args: func(t *testing.T) []string { return []string{"-f", writeFile(t, "bad.yaml", newPolicy+"---\na: [b\n")} },
			want: "bad.yaml:18 (document 3): yaml: did not find expected ',' or ']'",
		},
		"a policy that the API server would refuse": {
			args: func(t *testing.T) []string {
				return []string{"--policy", writeFile(t, "bad.yaml", strings.Replace(newPolicy, "tolerate: 30m", "tolerate: 30", 1))}
			},
			want: `line 16: spec.rules[0].tolerate: Invalid value: "integer": spec.rules[0].tolerate in body must be of type string: "integer"`,
		},
		"anything but policies as --policy": {
			args: func(t *testing.T) []string {
				return []string{"--policy", writeFile(t, "node.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: node-a}\n")}
			},
			want: "--policy takes RepairPolicies only, and the files hold a Node node-a: name it with --filename",
		},
		"no policies as --policy": {args: func(t *testing.T) []string { return []string{"--policy", writeFile(t, "e.yaml", "# nothing\n")} }, want: "the files of --policy hold no RepairPolicy"},
		"a recording of files":    {args: func(*testing.T) []string { return []string{"--record", "a", "-f", "b"} }, want: "--record writes what the cluster is now"},
		"standard input twice":    {args: func(*testing.T) []string { return []string{"--policy", "-", "-f", "-"} }, want: "standard input can be read once"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newWorld(oneNode()...).run(t, append([]string{"simulate"}, test.args(t)...)...)
			require.ErrorContains(t, err, test.want)
		})
	}
}
