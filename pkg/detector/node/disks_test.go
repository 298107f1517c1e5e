package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// disksMachine has its root on nvme0, a volume of a pod on nvme1, and nvme2 that nobody uses. Names with colons are
// made here, for not every checkout can hold them.
func disksMachine(t *testing.T, files map[string]string) string {
	t.Helper()
	recorded := map[string]string{
		"proc/1/mountinfo": "21 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw\n" +
			"30 21 259:2 / /var/lib/kubelet/pods/1/volumes/v rw - ext4 /dev/nvme1n1 rw\n",
		"sys/class/nvme/nvme0/state":                    "live\n",
		"sys/class/nvme/nvme1/state":                    "live\n",
		"sys/class/nvme/nvme2/state":                    "live\n",
		"sys/devices/nvme0/nvme0n1/nvme0n1p1/partition": "1\n",
		"sys/devices/nvme1/nvme1n1/size":                "1\n",
		"sys/class/nvme/nvme0/nvme0n1/size":             "1\n",
		"sys/class/nvme/nvme1/nvme1n1/size":             "1\n",
		"sys/dev/block/keep":                            "",
		"sys/class/block/keep":                          "",
	}
	for name, content := range files {
		recorded[name] = content
	}
	root := tree(t, recorded)
	for link, target := range map[string]string{
		"sys/dev/block/259:1":       "../../devices/nvme0/nvme0n1/nvme0n1p1",
		"sys/dev/block/259:2":       "../../devices/nvme1/nvme1n1",
		"sys/class/block/nvme0n1p1": "../../devices/nvme0/nvme0n1/nvme0n1p1",
		"sys/class/block/nvme0n1":   "../../devices/nvme0/nvme0n1",
		"sys/class/block/nvme1n1":   "../../devices/nvme1/nvme1n1",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(root, link)))
	}
	return root
}

func disksOn(root string) (*Disks, *clocktesting.FakeClock) {
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	h := host.New(root)
	return NewDisks(h, NewDevices(h, clk, FilesystemsOptions{}), DisksOptions{}), clk
}

const mdstatHead = "Personalities : [raid0] [raid1] [raid6] [raid5] [raid4]\n"

func TestStatesOfDisks(t *testing.T) {
	for name, tc := range map[string]struct {
		files        map[string]string
		wantReason   string
		wantSubject  string
		wantSeverity v1alpha1.Severity
		wantConfirm  time.Duration
	}{
		"all live": {},
		"the root's controller is dead": {files: map[string]string{"sys/class/nvme/nvme0/state": "dead\n"},
			wantReason: health.ReasonNVMeControllerFailure, wantSubject: "nvme0", wantSeverity: v1alpha1.SeverityFatal},
		"that of a pod's volume is dead": {files: map[string]string{"sys/class/nvme/nvme1/state": "dead\n"},
			wantReason: health.ReasonNVMeControllerFailure, wantSubject: "nvme1", wantSeverity: v1alpha1.SeverityWarning},
		"one that nobody uses is dead": {files: map[string]string{"sys/class/nvme/nvme2/state": "dead\n"},
			wantReason: health.ReasonNVMeControllerFailure, wantSubject: "nvme2", wantSeverity: v1alpha1.SeverityWarning},
		"the root's is resetting, which may pass": {files: map[string]string{"sys/class/nvme/nvme0/state": "resetting\n"},
			wantReason: health.ReasonNVMeControllerFailure, wantSubject: "nvme0", wantSeverity: v1alpha1.SeverityFatal, wantConfirm: disksResetMay},
		"one is detached as it should be": {files: map[string]string{"sys/class/nvme/nvme2/state": "deleting (no IO)\n"}},
		"healthy arrays": {files: map[string]string{"proc/mdstat": mdstatHead +
			"md0 : active raid0 nvme2n1[1] nvme1n1[0]\n      3749733376 blocks super 1.2 512k chunks\n\n" +
			"md1 : active raid1 sdb1[1] sda1[0]\n      523968 blocks super 1.2 [2/2] [UU]\n\nunused devices: <none>\n"}},
		"an array with a failed disk": {files: map[string]string{"proc/mdstat": mdstatHead +
			"md1 : active raid1 sdb1[1](F) sda1[0]\n      523968 blocks super 1.2 [2/1] [U_]\n\nunused devices: <none>\n"},
			wantReason: health.ReasonRAIDArrayFailure, wantSubject: "md1"},
		"an array whose failed disk has been taken out": {files: map[string]string{"proc/mdstat": mdstatHead +
			"md1 : active raid1 sda1[0]\n      523968 blocks super 1.2 [2/1] [U_]\n\nunused devices: <none>\n"},
			wantReason: health.ReasonRAIDArrayFailure, wantSubject: "md1"},
		"a new RAID 5 that builds its parity": {files: map[string]string{"proc/mdstat": mdstatHead +
			"md5 : active raid5 sdc[3] sdb[1] sda[0]\n      2095104 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/2] [UU_]\n" +
			"      [=====>...............]  recovery = 28.5% (299008/1047552) finish=0.1min speed=74752K/sec\n\nunused devices: <none>\n"}},
		"processes wait": {files: map[string]string{"proc/pressure/io": "some avg10=99.00 avg60=97.10 avg300=80.00 total=1\nfull avg10=96.00 avg60=91.30 avg300=70.00 total=1\n"},
			wantReason: health.ReasonIODelays, wantConfirm: disksDelayFor},
		"some processes wait while others work": {files: map[string]string{"proc/pressure/io": "some avg10=99.00 avg60=97.10 avg300=80.00 total=1\nfull avg10=1.00 avg60=12.30 avg300=7.00 total=1\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := disksOn(disksMachine(t, tc.files))
			look, err := d.Look(context.Background())
			require.NoError(t, err)
			require.Empty(t, look.Degraded)
			if tc.wantReason == "" {
				require.Empty(t, look.Faults)
				return
			}
			require.Len(t, look.Faults, 1)
			fault := look.Faults[0]
			require.Equal(t, tc.wantReason, fault.Reason)
			require.Equal(t, tc.wantSubject, fault.Subject)
			require.Equal(t, tc.wantSeverity, fault.Severity)
			if tc.wantConfirm > 0 {
				require.Equal(t, tc.wantConfirm, *fault.ConfirmAfter)
			} else {
				require.Nil(t, fault.ConfirmAfter)
			}
		})
	}
}

func TestAControllerThatIsGoneWhileItsFilesystemIsMounted(t *testing.T) {
	for name, tc := range map[string]struct {
		controller, link, block string
		want                    v1alpha1.Severity
	}{
		"the root's":      {controller: "nvme0", link: "259:1", block: "nvme0n1p1", want: v1alpha1.SeverityFatal},
		"that of a pod's": {controller: "nvme1", link: "259:2", block: "nvme1n1", want: v1alpha1.SeverityWarning},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				root := disksMachine(t, nil)
				d, clk := disksOn(root)
				look, err := d.Look(context.Background())
				require.NoError(t, err)
				require.Empty(t, look.Faults)
				require.NoError(t, os.RemoveAll(filepath.Join(root, "sys/class/nvme", tc.controller)))
				require.NoError(t, os.Remove(filepath.Join(root, "sys/dev/block", tc.link)))
				require.NoError(t, os.Remove(filepath.Join(root, "sys/class/block", tc.block)))
				if restarted {
					d, clk = disksOn(root)
				}
				clk.Step(disksInterval)
				look, err = d.Look(context.Background())
				require.NoError(t, err)
				require.Len(t, look.Faults, 1)
				require.Equal(t, tc.controller, look.Faults[0].Subject)
				require.Equal(t, tc.want, look.Faults[0].Severity)
				require.Contains(t, look.Faults[0].Message, "is gone")
			})
		}
	}
}

func TestAVolumeThatIsDetachedAfterItsUnmountIsNoFailure(t *testing.T) {
	root := disksMachine(t, nil)
	d, clk := disksOn(root)
	_, err := d.Look(context.Background())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "proc/1/mountinfo"), []byte("21 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw\n"), 0o644))
	require.NoError(t, os.RemoveAll(filepath.Join(root, "sys/class/nvme/nvme1")))
	require.NoError(t, os.Remove(filepath.Join(root, "sys/dev/block/259:2")))
	clk.Step(disksInterval)
	look, err := d.Look(context.Background())
	require.NoError(t, err)
	require.Empty(t, look.Faults)
}

func TestArraysThatCannotBeReadAreNoCure(t *testing.T) {
	broken := mdstatHead + "md1 : active raid1 sda1[0]\n      523968 blocks super 1.2 [2/1] [U_]\n\nunused devices: <none>\n"
	root := disksMachine(t, map[string]string{"proc/mdstat": broken})
	d, _ := disksOn(root)
	look, err := d.Look(context.Background())
	require.NoError(t, err)
	require.Len(t, look.Faults, 1)
	require.NoError(t, os.WriteFile(filepath.Join(root, "proc/mdstat"), []byte(strings.ReplaceAll(broken, "blocks", "")), 0o644))
	_, err = d.Look(context.Background())
	require.Error(t, err)
	fresh, _ := disksOn(root)
	look, err = fresh.Look(context.Background())
	require.NoError(t, err)
	require.Contains(t, look.Degraded, "RAID arrays cannot be read")
}

func TestAMachineWithoutAnyOfItHasNoSuchSource(t *testing.T) {
	d, _ := disksOn(tree(t, map[string]string{"proc/1/mountinfo": "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"}))
	look, err := d.Look(context.Background())
	require.ErrorIs(t, err, detector.ErrNotPresent)
	require.Equal(t, tracking.Look{}, look)
}

func TestThisMachinesDisks(t *testing.T) {
	d, _ := disksOn("")
	_, err := d.Look(context.Background())
	if err != nil {
		require.ErrorIs(t, err, detector.ErrNotPresent)
	}
}
