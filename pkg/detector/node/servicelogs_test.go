package node_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/node"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

const pidsText = "runtime: failed to create new OS thread (have 12 already; errno=11)"

func serviceLog(t testing.TB, h host.Host, name string, o node.ServiceLogsOptions) *node.ServiceLog {
	t.Helper()
	for _, d := range node.NewServiceLogs(h, clock.RealClock{}, logCatalogue(t, rules.Custom{}), o) {
		if d.Spec().Name == name {
			return d.(*node.ServiceLog)
		}
	}
	t.Fatalf("no detector %s", name)
	return nil
}

func ago(d time.Duration) time.Time { return time.Now().UTC().Add(-d) }

// lines of each way in which the logs of services are written, at a time.
func klogLine(at time.Time, text string) string {
	return fmt.Sprintf("E%s    1 server.go:1] %s\n", at.Format("0102 15:04:05.000000"), text)
}
func syslogLine(at time.Time, tag, text string) string {
	return fmt.Sprintf("%s host %s[1]: %s\n", at.Format(time.Stamp), tag, text)
}
func zapLine(at time.Time, text string) string {
	return fmt.Sprintf("{\"level\":\"error\",\"ts\":%q,\"caller\":\"ipamd/ipamd.go:1\",\"msg\":%q}\n", at.Format(time.RFC3339Nano), text)
}

func TestServiceLogsAreFoundAndRead(t *testing.T) {
	const ipamd = "Unable to reach API Server"
	for name, tc := range map[string]struct {
		detector string
		path     string
		text     string
		want     []string
	}{
		"the kubelet's own file":           {detector: "kubelet-log", path: "var/log/kubelet.log", text: klogLine(ago(time.Minute), pidsText), want: []string{health.ReasonForkFailedOutOfPIDs}},
		"the kubelet's lines in syslog":    {detector: "kubelet-log", path: "var/log/messages", text: syslogLine(ago(time.Minute), "kubelet", pidsText), want: []string{health.ReasonForkFailedOutOfPIDs}},
		"not another's lines in syslog":    {detector: "kubelet-log", path: "var/log/messages", text: syslogLine(ago(time.Minute), "myapp", pidsText)},
		"containerd's lines in syslog":     {detector: "containerd-log", path: "var/log/syslog", text: syslogLine(ago(time.Minute), "containerd", pidsText), want: []string{health.ReasonForkFailedOutOfPIDs}},
		"ipamd's file":                     {detector: "ipamd-log", path: "var/log/aws-routed-eni/ipamd.log", text: zapLine(ago(time.Minute), ipamd), want: []string{health.ReasonIPAMDNotReady}},
		"nothing that is older than it is": {detector: "ipamd-log", path: "var/log/aws-routed-eni/ipamd.log", text: zapLine(ago(20*time.Minute), ipamd)},
		"nothing of before the boot":       {detector: "ipamd-log", path: "var/log/aws-routed-eni/ipamd.log", text: zapLine(ago(25*time.Hour), ipamd)},
		"nothing of lines without a time":  {detector: "kubelet-log", path: "var/log/kubelet.log", text: pidsText + "\n"},
		"nothing of ordinary lines":        {detector: "kubelet-log", path: "var/log/kubelet.log", text: klogLine(ago(time.Minute), `"Starting kubelet"`)},
	} {
		t.Run(name, func(t *testing.T) {
			h := logHost(t)
			require.NoError(t, os.MkdirAll(filepath.Dir(h.Path(tc.path)), 0o700))
			writeFile(t, h.Path(tc.path), tc.text)
			s := serviceLog(t, h, tc.detector, node.ServiceLogsOptions{})
			s.Start(t.Context())
			look, err := s.Look(t.Context())
			require.NoError(t, err)
			var reasons []string
			for _, seen := range look.Sightings {
				reasons = append(reasons, seen.Reason)
				require.WithinDuration(t, ago(time.Minute), seen.At, 2*time.Second, "the time of the line")
			}
			require.Equal(t, tc.want, reasons)
		})
	}
}

func TestServiceLogsAreWhereTheOptionsSay(t *testing.T) {
	h := logHost(t)
	writeFile(t, h.Path("var/log/k3s.log"), klogLine(ago(time.Minute), pidsText))
	s := serviceLog(t, h, "kubelet-log", node.ServiceLogsOptions{Kubelet: node.ServiceLogOptions{Files: []string{"/var/log/k3s*.log"}}})
	s.Start(t.Context())
	looked(t, s, anything)
}

func TestServiceLogsThatAreNotThere(t *testing.T) {
	for _, d := range node.NewServiceLogs(logHost(t), clock.RealClock{}, logCatalogue(t, rules.Custom{}), node.ServiceLogsOptions{}) {
		d.(detector.Starter).Start(t.Context())
		_, err := d.Look(t.Context())
		require.ErrorIs(t, err, detector.ErrNotPresent, d.Spec().Name)
	}
}

func TestServiceLogIsFollowedAndGoesOn(t *testing.T) {
	h := logHost(t)
	path := h.Path("var/log/kubelet.log")
	writeFile(t, path, klogLine(ago(time.Minute), pidsText))
	s := serviceLog(t, h, "kubelet-log", node.ServiceLogsOptions{})
	ctx, stop := context.WithCancel(t.Context())
	s.Start(ctx)
	looked(t, s, anything)
	appendFile(t, path, pidsText+"\n")
	look := looked(t, s, anything)
	require.WithinDuration(t, time.Now(), look.Sightings[0].At, 20*time.Second, "a new line without a time is of now")
	require.NoError(t, os.Rename(path, path+".1"))
	appendFile(t, path, klogLine(ago(0), pidsText))
	looked(t, s, anything)
	cursor := s.Cursor()
	stop()

	require.NoError(t, os.Rename(path, path+".2"))
	appendFile(t, path+".2", klogLine(ago(0), "runtime/cgo: pthread_create failed: Resource temporarily unavailable"))
	writeFile(t, path, "")
	again := serviceLog(t, h, "kubelet-log", node.ServiceLogsOptions{})
	again.Resume(cursor, true)
	again.Start(t.Context())
	look = looked(t, again, anything)
	require.Len(t, look.Sightings, 1, "what was told before is not told again")
	require.EqualValues(t, 1, look.Sightings[0].Count)
	require.Contains(t, look.Sightings[0].Evidence, "pthread_create")
}

func TestServiceLogGoesToTheNextContainer(t *testing.T) {
	h := logHost(t)
	folder := h.Path("var/log/pods/kube-system_kube-proxy-abcde_0123/kube-proxy")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	catalogue := logCatalogue(t, rules.Custom{Rules: []rules.Rule{{
		Reason: health.ReasonKubeProxyNotReady, Stream: health.StreamKubeProxy, Pattern: "^proxy fails", Sample: "proxy fails", CounterSample: "proxy works",
	}}})
	line := func(text string) string { return ago(0).Format(time.RFC3339Nano) + " stderr F " + text + "\n" }
	writeFile(t, filepath.Join(folder, "0.log"), line("proxy fails at first"))
	all := node.NewServiceLogs(h, clock.RealClock{}, catalogue, node.ServiceLogsOptions{})
	s := all[len(all)-1].(*node.ServiceLog)
	s.Start(t.Context())
	looked(t, s, anything)
	writeFile(t, filepath.Join(folder, "1.log"), line("proxy fails again"))
	look := looked(t, s, anything)
	require.Contains(t, look.Sightings[0].Evidence, "again")
}

func TestServiceLogInTheJournal(t *testing.T) {
	const remote = "/lib/systemd/systemd-journal-remote"
	if _, err := os.Stat(remote); err != nil {
		t.Skip("needs systemd-journal-remote: apt-get install systemd-journal-remote")
	}
	h := logHost(t)
	boot, before := "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	folder := h.Path("var/log/journal/0123456789abcdef0123456789abcdef")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	require.NoError(t, os.MkdirAll(h.Path("proc/sys/kernel/random"), 0o700))
	writeFile(t, h.Path("proc/sys/kernel/random/boot_id"), boot+"\n")
	record := func(entries ...string) {
		command := exec.Command(remote, "--output="+filepath.Join(folder, "system.journal"), "-")
		command.Stdin = bytes.NewReader(bytes.Join(byteSlices(entries), nil))
		output, err := command.CombinedOutput()
		require.NoError(t, err, "%s", output)
	}
	entry := func(at time.Time, boot, fields, text string) string {
		return fmt.Sprintf("__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n%s\nMESSAGE=%s\n\n", at.UnixMicro(), at.UnixMicro()%1e9, boot, fields, text)
	}
	const kubelet = "_SYSTEMD_UNIT=kubelet.service\nSYSLOG_IDENTIFIER=kubelet"
	record(
		entry(ago(30*time.Minute), before, kubelet, pidsText),
		entry(ago(20*time.Minute), boot, kubelet, pidsText),
		entry(ago(time.Minute), boot, kubelet, "E0102 15:04:05.000000    1 server.go:1] "+pidsText),
		entry(ago(time.Minute), boot, "_SYSTEMD_UNIT=evil.service\nSYSLOG_IDENTIFIER=kubelet", pidsText),
	)
	s := serviceLog(t, h, "kubelet-log", node.ServiceLogsOptions{})
	ctx, stop := context.WithCancel(t.Context())
	s.Start(ctx)
	look, err := s.Look(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, countOf(look))
	require.WithinDuration(t, ago(time.Minute), look.Sightings[0].At, 10*time.Second)
	record(entry(ago(0), boot, kubelet, pidsText))
	looked(t, s, anything)
	cursor := s.Cursor()
	stop()

	record(entry(ago(0), boot, kubelet, pidsText))
	again := serviceLog(t, h, "kubelet-log", node.ServiceLogsOptions{})
	again.Resume(cursor, true)
	again.Start(t.Context())
	require.EqualValues(t, 1, countOf(looked(t, again, anything)))
}

func byteSlices(texts []string) [][]byte {
	var out [][]byte
	for _, text := range texts {
		out = append(out, []byte(text))
	}
	return out
}

func TestServiceLogsLeaveNothingBehind(t *testing.T) {
	h := logHost(t)
	path := h.Path("var/log/kubelet.log")
	writeFile(t, path, klogLine(ago(time.Minute), "start"))
	before := runtime.NumGoroutine()
	ctx, stop := context.WithCancel(t.Context())
	all := node.NewServiceLogs(h, clock.RealClock{}, logCatalogue(t, rules.Custom{}), node.ServiceLogsOptions{})
	for _, d := range all {
		d.(detector.Starter).Start(ctx)
	}
	for _, d := range all {
		_, _ = d.Look(ctx)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before+2*len(all))
	stop()
	for range 500 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
}
