package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/process"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/realnode"
)

const pauseImage = "ghcr.io/autorepair-sh/karpenter-autorepair/pause:latest"

func TestARealNode(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster with a real node")
	}
	if missing := realnode.Missing(); missing != "" {
		t.Skip("SKIPPED: " + missing)
	}
	root := t.TempDir()
	images := filepath.Join(root, "images")
	build := exec.CommandContext(t.Context(), "go", "run", ".", "--root=../..", "--out="+images, "--arch="+runtime.GOARCH, "pause")
	build.Dir = filepath.Join("..", "image")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the pause image, %v\n%s", err, out)
	}
	l := localcluster{t, filepath.Join(root, "real")}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		stop := exec.Command(os.Args[0], "--dir", l.dir, "down")
		stop.Env = append(os.Environ(), asMain+"=1")
		if out, err := stop.CombinedOutput(); err != nil {
			t.Errorf("ending %s, %v\n%s", l.dir, err, out)
		}
		l.wantNoProcesses()
		wantNoNode(t)
	})
	l.must("up", "--karpenter=none", "--real-node", "--real-node-images="+images)
	l.must("kubectl", "run", "sleeper", "--image="+pauseImage, "--image-pull-policy=Never")
	l.must("kubectl", "wait", "--for=condition=Ready", "pod/sleeper", "--timeout=2m")

	t.Run("a pod lives on when containerd is started anew", func(t *testing.T) {
		before := shims(t, l.dir)
		l.must("restart", "containerd")
		// The kubelet connects anew in its own time.
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Millisecond) {
			if _, err := l.run("kubectl", "exec", "sleeper", "--", "/pause", "--version"); err == nil {
				break
			} else if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		if after := shims(t, l.dir); len(before) == 0 || strings.Join(before, " ") != strings.Join(after, " ") {
			t.Errorf("its processes were %v and are %v", before, after)
		}
	})
	t.Run("a machine has one real node", func(t *testing.T) {
		other := localcluster{t, filepath.Join(root, "other")}
		if _, err := other.run("up", "--karpenter=none", "--real-node", "--real-node-images="+images); err == nil {
			t.Error("a second one was taken")
		}
		other.wantNoProcesses()
	})
	t.Run("a node of which a part has died is made anew", func(t *testing.T) {
		l.must("kill", "kubelet")
		if l.status().Complete {
			t.Error("the cluster is complete without the kubelet")
		}
		l.must("up")
		if !l.status().Complete {
			t.Error("the cluster is not complete")
		}
		l.must("kubectl", "wait", "--for=condition=Ready", "node/"+realnode.Name, "--timeout=1m")
	})
}

// shims are those of the pods of a cluster, by their pids.
func shims(t *testing.T, dir string) []string {
	t.Helper()
	found, err := process.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, record := range found["containerd"] {
		if record.Name() == "containerd-shim" {
			pids = append(pids, strconv.Itoa(record.PID))
		}
	}
	return pids
}

func wantNoNode(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"/sys/class/net/localcluster*", "/sys/fs/cgroup/localcluster-*", "/sys/fs/cgroup/*/localcluster-*"} {
		left, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) > 0 {
			t.Errorf("left on the machine: %v", left)
		}
	}
}
