package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// kernelSays writes a record into the kernel's log, which marks it as a program's.
func kernelSays(t *testing.T, text string) {
	t.Helper()
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("SKIPPED: needs /dev/kmsg to write to: %v", err)
	}
	defer f.Close() //nolint:errcheck // each write is a record
	// Without the end of the line the kernel holds the record back, since more could follow. The level is one that no
	// console shows: a slow one would hold up the writer.
	_, err = f.WriteString("<7>" + text + "\n")
	require.NoError(t, err)
}

// hung is what the kernel writes of a task that hangs.
func hung(s *scenario) string {
	return fmt.Sprintf("INFO: task %s:4711 blocked for more than 120 seconds.", s.name)
}

func TestRecordsOfTheKernelBecomeAConditionAndGoAgain(t *testing.T) {
	t.Parallel()
	s := begin(t, "kernel")
	s.run(func(o *cluster.AgentOptions) {
		o.Config = "detectors: {kernelLog: {allFacilities: true}}\nreasons: {KernelDeadlock: {clears: quiet 10s}}\n"
	})
	s.says(v1alpha1.CategoryKernel, metav1.ConditionTrue)
	for range 3 {
		kernelSays(t, hung(s))
		time.Sleep(time.Second)
	}
	sick := s.says(v1alpha1.CategoryKernel, metav1.ConditionFalse)
	require.Equal(t, "KernelDeadlock", sick.Reason)
	s.says(v1alpha1.CategoryKernel, metav1.ConditionTrue)
}

func TestWhatAProgramWritesIntoTheKernelsLogIsNothing(t *testing.T) {
	t.Parallel()
	s := begin(t, "forged")
	s.run()
	began := s.says(v1alpha1.CategoryKernel, metav1.ConditionTrue)
	for range 4 {
		kernelSays(t, hung(s))
	}
	s.holdsFor(12*time.Second, "the kernel is well", func() error {
		for _, said := range s.record.since(v1alpha1.CategoryKernel, began.At) {
			if said.Status != metav1.ConditionTrue {
				return errSaid(said)
			}
		}
		return nil
	})
	require.Nil(t, s.finding("KernelDeadlock"))
}

// kubeletLog is the log of a kubelet below a root of its own.
type kubeletLog struct {
	*testing.T
	path string
}

// says appends text as it is.
func (l kubeletLog) says(text string) {
	l.Helper()
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(l, err)
	_, err = f.WriteString(text)
	require.NoError(l, err)
	require.NoError(l, f.Close())
}

// outOfPIDs is what a kubelet writes that cannot start a program.
func outOfPIDs() string {
	return time.Now().UTC().Format("E0102 15:04:05.000000") + `     812 fs.go:617] "failed to collect filesystem stats - rootDiskErr: failed to exec du - fork/exec /usr/bin/nice: resource temporarily unavailable"` + "\n"
}

func TestLinesOfTheKubeletBecomeAConditionAndGoAgain(t *testing.T) {
	t.Parallel()
	s := begin(t, "klines")
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "var", "log"), 0o755))
	for _, real := range []string{"proc", "sys", "dev"} {
		require.NoError(t, os.Symlink("/"+real, filepath.Join(root, real)))
	}
	log := kubeletLog{t, filepath.Join(root, "var", "log", "kubelet.log")}
	log.says(time.Now().UTC().Format("I0102 15:04:05.000000") + "     812 server.go:100] \"Started kubelet\"\n")
	s.run(func(o *cluster.AgentOptions) {
		o.HostRoot, o.Config = root, "reasons: {ForkFailedOutOfPIDs: {clears: quiet 10s}}\n"
	})
	s.eventually("the kubelet's log is read", func() error {
		for _, source := range s.health().Sources {
			if source.Name == "kubelet-log" && source.State == v1alpha1.SourceActive {
				return nil
			}
		}
		return fmt.Errorf("its sources are %+v", s.health().Sources)
	})
	log.says(outOfPIDs())
	s.finds("ForkFailedOutOfPIDs", v1alpha1.SeverityWarning)
	// The file is rotated, and the next line is written in halves.
	require.NoError(t, os.Rename(log.path, log.path+".1"))
	line := outOfPIDs()
	log.says(line[:60])
	time.Sleep(1500 * time.Millisecond)
	log.says(line[60:])
	sick := s.says(v1alpha1.CategoryKernel, metav1.ConditionFalse)
	require.Equal(t, "ForkFailedOutOfPIDs", sick.Reason)
	s.says(v1alpha1.CategoryKernel, metav1.ConditionTrue)
}
