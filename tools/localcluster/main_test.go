package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/cli"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/process"
)

// asMain makes the test binary behave as localcluster itself, so that the test
// needs no second build of a binary with a whole control plane in it.
const asMain = "LOCALCLUSTER_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	isPart := len(os.Args) > 1 && os.Args[1] == "run-part"
	if isPart || os.Getenv(asMain) != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// localcluster is a cluster under test.
type localcluster struct {
	t   *testing.T
	dir string
}

func (l localcluster) run(args ...string) (string, error) {
	command := exec.CommandContext(l.t.Context(), os.Args[0], append([]string{"--dir", l.dir}, args...)...)
	command.Env = append(os.Environ(), asMain+"=1")
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	err := command.Run()
	l.t.Logf("localcluster %s (%v)\n%s", strings.Join(args, " "), err, errOut.String())
	if err != nil {
		return out.String(), fmt.Errorf("running %v, %w", args, err)
	}
	return out.String(), nil
}

func (l localcluster) must(args ...string) string {
	l.t.Helper()
	out, err := l.run(args...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l localcluster) status() cluster.Status {
	l.t.Helper()
	out, _ := l.run("status", "-o", "json") // an incomplete cluster is an answer too
	var status cluster.Status
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		l.t.Fatalf("parsing status, %v\n%s", err, out)
	}
	return status
}

func (l localcluster) wantNoProcesses() {
	l.t.Helper()
	left, err := process.Find(l.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	if len(left) > 0 {
		l.t.Errorf("processes left: %v", left)
	}
}

func TestTwoClustersSideBySide(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two clusters")
	}
	root := t.TempDir()
	a, b := localcluster{t, filepath.Join(root, "a")}, localcluster{t, filepath.Join(root, "b")}
	for _, each := range []localcluster{a, b} {
		t.Cleanup(func() {
			// The test's own context has ended by now.
			stop := exec.Command(os.Args[0], "--dir", each.dir, "down")
			stop.Env = append(os.Environ(), asMain+"=1")
			if out, err := stop.CombinedOutput(); err != nil {
				t.Errorf("ending %s, %v\n%s", each.dir, err, out)
			}
			each.wantNoProcesses()
		})
	}

	var both sync.WaitGroup
	both.Go(func() { _, _ = a.run("up", "--nodes", "3", "--karpenter-feature-gates", "NodeRepair=true") })
	both.Go(func() { _, _ = b.run("up", "--karpenter=none") })
	both.Wait()
	if !a.status().Complete || !b.status().Complete {
		t.Fatal("not both are up")
	}

	t.Run("Karpenter made the nodes of the one and none of the other", func(t *testing.T) {
		if got := countNodes(a); got != 3 {
			t.Errorf("%d nodes are Ready, want 3", got)
		}
		if got := countNodes(b); got != 0 {
			t.Errorf("%d nodes in the cluster without Karpenter, want 0", got)
		}
	})
	t.Run("what runs is told by a Deployment, as in a real cluster", func(t *testing.T) {
		const path = `jsonpath={.spec.template.spec.containers[?(@.name=="controller")].env[?(@.name=="FEATURE_GATES")].value}`
		if got := a.must("kubectl", "-n", "kube-system", "get", "deployment", "karpenter", "-o", path); got != "NodeRepair=true" {
			t.Errorf("FEATURE_GATES = %q, want NodeRepair=true", got)
		}
		if _, err := b.run("kubectl", "-n", "kube-system", "get", "deployment", "karpenter"); err == nil {
			t.Error("the cluster without Karpenter has a Deployment of it")
		}
	})
	t.Run("RBAC holds for service accounts", func(t *testing.T) {
		token := strings.TrimSpace(b.must("kubectl", "create", "token", "default"))
		out, err := b.run("kubectl", "--kubeconfig", anonymous(b), "--token", token, "auth", "can-i", "list", "nodes")
		if err == nil || strings.TrimSpace(out) != "no" {
			t.Errorf("can the default service account list nodes? %q, %v, want no", out, err)
		}
	})
	t.Run("what audited service accounts ask for is noted, and of nobody else", func(t *testing.T) {
		b.must("up", "--audit", "default")
		token := strings.TrimSpace(b.must("kubectl", "create", "token", "default"))
		if _, err := b.run("kubectl", "--kubeconfig", anonymous(b), "--token", token, "get", "nodes"); err == nil {
			t.Error("the default service account listed nodes")
		}
		b.must("kubectl", "get", "nodes")
		text, err := os.ReadFile(filepath.Join(b.dir, "logs", "audit.log"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
			if !strings.Contains(line, `"system:serviceaccount:default:default"`) {
				t.Errorf("a line of somebody else: %s", line)
			}
		}
		if !strings.Contains(string(text), `"code":403`) {
			t.Errorf("no line says that it was refused:\n%s", text)
		}
		if _, err := b.run("up", "--audit", "Not_A_Namespace"); err == nil {
			t.Error("a namespace that cannot be was taken")
		}
	})
	t.Run("what was killed comes back with its data", func(t *testing.T) {
		for _, name := range []string{cluster.APIServer, cluster.Karpenter} {
			kill(a, name)
		}
		if a.status().Complete {
			t.Error("status says complete after a kill")
		}
		a.must("up")
		if !a.status().Complete || countNodes(a) != 3 {
			t.Error("the cluster is not as it was")
		}
	})
	t.Run("up of a running cluster changes nothing", func(t *testing.T) {
		before := pids(a.status())
		a.must("up")
		if after := pids(a.status()); fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("pids were %v and are %v", before, after)
		}
	})
	t.Run("a part stops and starts on its old address", func(t *testing.T) {
		b.must("stop", cluster.Kwok)
		before := part(b.status(), cluster.Kwok)
		b.must("start", cluster.Kwok)
		after := part(b.status(), cluster.Kwok)
		if before.State != cluster.StateDown || after.State != cluster.StateReady || before.Address != after.Address {
			t.Errorf("before %+v, after %+v", before, after)
		}
	})
	t.Run("down ends the one and leaves the other", func(t *testing.T) {
		b.must("down")
		b.wantNoProcesses()
		if !a.status().Complete {
			t.Error("the other cluster is not complete any more")
		}
	})
	t.Run("a start that was broken off is cleaned up", func(t *testing.T) {
		breakOff(b)
		b.must("up", "--karpenter=none")
		if !b.status().Complete {
			t.Error("the cluster is not complete")
		}
	})
	t.Run("down without a record still finds what runs", func(t *testing.T) {
		if err := os.RemoveAll(b.dir); err != nil {
			t.Fatal(err)
		}
		b.must("down")
		b.wantNoProcesses()
	})
}

// countNodes counts the Ready nodes.
func countNodes(l localcluster) int {
	l.t.Helper()
	out := l.must("kubectl", "get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
	return strings.Count(out, "True")
}

// anonymous writes a kubeconfig without a user.
func anonymous(l localcluster) string {
	l.t.Helper()
	text, err := os.ReadFile(strings.TrimSpace(l.must("kubeconfig")))
	if err != nil {
		l.t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	kept := lines[:0]
	for _, line := range lines {
		if !strings.HasPrefix(strings.TrimSpace(line), "token:") {
			kept = append(kept, line)
		}
	}
	path := filepath.Join(l.t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(strings.Join(kept, "\n")), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// kill ends a part behind localcluster's back.
func kill(l localcluster, name string) {
	l.t.Helper()
	found, err := process.Find(l.dir)
	if err != nil || len(found[name]) != 1 {
		l.t.Fatalf("finding %s, %v, %v", name, found[name], err)
	}
	if err := found[name][0].Kill(l.t.Context(), process.Owner{Directory: l.dir, Part: name}); err != nil {
		l.t.Fatal(err)
	}
}

// breakOff kills an "up" as soon as it has started something.
func breakOff(l localcluster) {
	l.t.Helper()
	command := exec.CommandContext(l.t.Context(), os.Args[0], "--dir", l.dir, "up", "--karpenter=none")
	command.Env = append(os.Environ(), asMain+"=1")
	if err := command.Start(); err != nil {
		l.t.Fatal(err)
	}
	for found := map[string][]process.Record{}; len(found) == 0; {
		var err error
		if found, err = process.Find(l.dir); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := command.Process.Signal(syscall.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
	_ = command.Wait()
}

func part(status cluster.Status, name string) cluster.PartStatus {
	for _, each := range status.Parts {
		if each.Name == name {
			return each
		}
	}
	return cluster.PartStatus{}
}

func pids(status cluster.Status) []int {
	var found []int
	for _, each := range status.Parts {
		found = append(found, each.PID)
	}
	return found
}
