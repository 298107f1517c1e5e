package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// BenchmarkMountsOfABusyNode is one look at a node with 110 pods: a tmpfs, an overlay and a volume for each.
func BenchmarkMountsOfABusyNode(b *testing.B) {
	var table strings.Builder
	table.WriteString("21 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw,attr2,inode64,logbufs=8\n")
	for i := range 110 {
		pod := fmt.Sprintf("/var/lib/kubelet/pods/8d1f7a4c-0000-4000-8000-%012d", i)
		fmt.Fprintf(&table, "%d 21 0:%d / %s/volumes/kubernetes.io~projected/kube-api-access rw,relatime shared:9 - tmpfs tmpfs rw,size=1k\n", 4*i+30, i+100, pod)
		fmt.Fprintf(&table, "%d 21 0:%d / /run/containerd/io.containerd.runtime.v2.task/k8s.io/%064d/rootfs rw - overlay overlay rw,lowerdir=%s,upperdir=/u,workdir=/w\n", 4*i+31, i+300, i, strings.Repeat("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs:", 8))
		fmt.Fprintf(&table, "%d 21 0:%d / /run/netns/cni-%032d rw - nsfs nsfs rw\n", 4*i+32, i+500, i)
		fmt.Fprintf(&table, "%d 21 259:%d / %s/volumes/kubernetes.io~csi/pvc/mount rw - ext4 /dev/nvme%dn1 rw,discard\n", 4*i+33, i%25+10, pod, i%25+1)
	}
	root := b.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "proc/1"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "proc/1/mountinfo"), []byte(table.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	h := host.New(root)
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	m := NewMounts(h, clk, NewDevices(h, clk, FilesystemsOptions{}))
	b.ReportAllocs()
	for b.Loop() {
		if look, err := m.Look(context.Background()); err != nil || len(look.Faults) > 0 {
			b.Fatal(look, err)
		}
	}
}
