package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

func execute(in string, args ...string) (string, error) {
	var out bytes.Buffer
	command := New("test")
	command.SetArgs(args)
	command.SetIn(strings.NewReader(in))
	command.SetOut(&out)
	command.SetErr(io.Discard)
	err := command.Execute()
	return out.String(), err
}

const softLockup = `{"reason":"SoftLockup","category":"Kernel","severity":"Warning","subject":"","message":"watchdog: BUG: soft lockup - CPU#3 stuck for 22s!"}` + "\n"

func TestClassify(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string // after classify --source
		in   string
		want string
	}{
		"a line that means something is told in one object": {
			args: []string{"kmsg"}, in: "watchdog: BUG: soft lockup - CPU#3 stuck for 22s!\n", want: softLockup,
		},
		"a line without end is one too": {
			args: []string{"kmsg"}, in: "[   12.345678] watchdog: BUG: soft lockup - CPU#3 stuck for 22s!", want: softLockup,
		},
		"every line has an answer, in order": {
			args: []string{"kmsg"}, in: "\nordinary\n<2>watchdog: BUG: soft lockup - CPU#3 stuck for 22s!\n\n", want: "{}\n{}\n" + softLockup + "{}\n",
		},
		"what is Fatal from the first is Fatal": {
			args: []string{"kmsg"}, in: "nvme nvme0: Removing after probe failure status: -19\n",
			want: `{"reason":"NVMeControllerFailure","category":"Storage","severity":"Fatal","subject":"nvme0","message":"nvme nvme0: Removing after probe failure status: -19"}` + "\n",
		},
		"what hangs on the filesystem is a Warning": {
			args: []string{"kmsg"}, in: "EXT4-fs (sda1): Remounting filesystem read-only\n",
			want: `{"reason":"FilesystemReadOnly","category":"Storage","severity":"Warning","subject":"sda1","message":"EXT4-fs (sda1): Remounting filesystem read-only"}` + "\n",
		},
		"a recovery means nothing alone": {
			args: []string{"kmsg"}, in: "nfs: server 10.0.0.1 OK\n", want: "{}\n",
		},
		"marks of HTML stay as they are": {
			args: []string{"kmsg"}, in: "INFO: task <a&b>:4711 blocked for more than 120 seconds.\n",
			want: `{"reason":"AppBlocked","category":"Kernel","severity":"Warning","subject":"<a&b>","message":"INFO: task <a&b>:4711 blocked for more than 120 seconds."}` + "\n",
		},
		"a raw record has one answer, whatever its lines": {
			args: []string{"kmsg", "--raw"},
			in:   "6,1,100,-;ordinary\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:1f.0\n2,2,200,-,caller=T1;watchdog: BUG: soft lockup\\x20- CPU#3 stuck for 22s!\n",
			want: "{}\n" + softLockup,
		},
		"a raw record of a program means nothing": {
			args: []string{"kmsg", "--raw"}, in: "12,2,200,-;watchdog: BUG: soft lockup - CPU#3 stuck for 22s!\n", want: "{}\n",
		},
		"what is no raw record means nothing": {
			args: []string{"kmsg", "--raw"}, in: "watchdog: BUG: soft lockup - CPU#3 stuck for 22s!\n\n", want: "{}\n{}\n",
		},
		"in messages the program chooses": {
			args: []string{"messages"},
			in: "Nov 23 10:00:00 host kernel: watchdog: BUG: soft lockup - CPU#3 stuck for 22s!\n" +
				"Nov 23 10:00:00 host app[12]: watchdog: BUG: soft lockup - CPU#3 stuck for 22s!\n" +
				"2026-11-23T10:00:00.123456+00:00 host kernel: [   12.345678] watchdog: BUG: soft lockup - CPU#3 stuck for 22s!\n",
			want: softLockup + "{}\n" + softLockup,
		},
		"a line of a mebibyte is cut": {
			args: []string{"kmsg"}, in: "watchdog: BUG: soft lockup - CPU#3 stuck for 22s!\n" + strings.Repeat("x", 1<<20) + "\nordinary\n", want: softLockup + "{}\n{}\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := execute(tc.in, append([]string{"classify", "--source"}, tc.args...)...)
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestClassifyCutsTheMessageOfALongLine(t *testing.T) {
	got, err := execute("nvme nvme0: Removing after probe failure status: -19 \x1b[31m\xff"+strings.Repeat("é", 1<<19)+"\n", "classify", "--source=kmsg")
	require.NoError(t, err)
	var a answer
	require.NoError(t, json.Unmarshal([]byte(got), &a))
	require.Equal(t, "NVMeControllerFailure", a.Reason)
	require.LessOrEqual(t, len(a.Message), 512)
	require.True(t, utf8.ValidString(got))
	require.NotContains(t, a.Message, "\x1b")
}

func TestClassifyRefuses(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(wrong, []byte("reasons:\n  SoftLockup:\n    severity: Bad\n"), 0o600))
	for name, tc := range map[string]struct {
		in        string
		args      []string
		wantError string
	}{
		"no source":                {in: "x\n", wantError: `--source="": write one of kmsg, kubelet, containerd, systemd, ipamd, kube-proxy, messages`},
		"an unknown source":        {in: "x\n", args: []string{"--source=syslog"}, wantError: `--source="syslog": write one of kmsg`},
		"no input":                 {args: []string{"--source=kmsg"}, wantError: "no input: write lines to standard input"},
		"raw records of a kubelet": {in: "x\n", args: []string{"--source=kubelet", "--raw"}, wantError: "--raw: only the kernel's log has records"},
		"a wrong configuration":    {in: "x\n", args: []string{"--source=kmsg", "--config=" + wrong}, wantError: "line 3: reasons.SoftLockup.severity: \"Bad\": write Fatal or Warning"},
		"an argument":              {in: "x\n", args: []string{"--source=kmsg", "file"}, wantError: "unknown command"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := execute(tc.in, append([]string{"classify"}, tc.args...)...)
			require.ErrorContains(t, err, tc.wantError)
		})
	}
}

func TestClassifyWithRulesOfOnesOwn(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(config, []byte(`
reasons:
  SoftLockup: {disabled: true}
rules:
  - {reason: DiskOnFire, category: Storage, severity: Fatal, stream: kmsg, pattern: '^disk (?P<disk>\w+) burns', subject: '${disk}', sample: disk sda burns, counterSample: disk sda is warm}
`), 0o600))
	got, err := execute("disk sda burns\nwatchdog: BUG: soft lockup - CPU#3 stuck for 22s!\n", "classify", "--source=kmsg", "--config="+config)
	require.NoError(t, err)
	require.Equal(t, `{"reason":"DiskOnFire","category":"Storage","severity":"Fatal","subject":"sda","message":"disk sda burns"}`+"\n{}\n", got)
	got, err = execute("", "rules", "--config="+config)
	require.NoError(t, err)
	require.Regexp(t, `(?m)^SoftLockup +Kernel +disabled `, got)
	require.Regexp(t, `(?m)^DiskOnFire +Storage +Fatal `, got)
}

// who follows a log sees the answer of a line before the next is written.
func TestClassifyAnswersAtOnce(t *testing.T) {
	catalogue, err := rules.New(rules.Custom{})
	require.NoError(t, err)
	unwrap, err := unwrapper("kmsg", false)
	require.NoError(t, err)
	in, lines := io.Pipe()
	answers, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- (classifier{catalogue: catalogue, unwrap: unwrap}).run(in, out) }()
	for range 2 {
		_, err = lines.Write([]byte("ordinary\n"))
		require.NoError(t, err)
		answer := make([]byte, 3)
		_, err = io.ReadFull(answers, answer)
		require.NoError(t, err)
		require.Equal(t, "{}\n", string(answer))
	}
	require.NoError(t, lines.Close())
	require.NoError(t, <-done)
}

func TestRulesListsEveryReason(t *testing.T) {
	table, err := execute("", "rules")
	require.NoError(t, err)
	require.Equal(t, len(health.Reasons)+1, strings.Count(table, "\n"))
	asJSON, err := execute("", "rules", "-o", "json")
	require.NoError(t, err)
	var list struct{ Reasons []reasonView }
	require.NoError(t, json.Unmarshal([]byte(asJSON), &list))
	require.Len(t, list.Reasons, len(health.Reasons))
	for _, r := range list.Reasons {
		require.NotEmpty(t, r.Reason)
		require.NotEmpty(t, r.Category)
		require.NotEmpty(t, r.Severity)
		require.NotEmpty(t, r.Sample, r.Reason)
		require.NotEmpty(t, r.Explanation, r.Reason)
		require.NotEmpty(t, r.Remedy, r.Reason)
		require.Contains(t, table, r.Remedy, "people read in the table what to do")
	}
	_, err = execute("", "rules", "-o", "yaml")
	require.ErrorContains(t, err, "write table or json")
}

func BenchmarkClassifyOrdinaryKernelLines(b *testing.B) {
	corpus, err := os.ReadFile(filepath.Join("..", "..", "rules", "testdata", "ordinary-kmsg.txt"))
	require.NoError(b, err)
	catalogue, err := rules.New(rules.Custom{})
	require.NoError(b, err)
	unwrap, err := unwrapper("kmsg", false)
	require.NoError(b, err)
	c := classifier{catalogue: catalogue, unwrap: unwrap}
	b.SetBytes(int64(len(corpus)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.run(bytes.NewReader(corpus), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*bytes.Count(corpus, []byte("\n")))/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkClassifyOutOfMemoryFlood(b *testing.B) {
	const line = "Memory cgroup out of memory: Killed process 4711 (java) total-vm:4194304kB, anon-rss:1048576kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:2200kB oom_score_adj:984\n"
	flood := strings.Repeat(line, 1000)
	catalogue, err := rules.New(rules.Custom{})
	require.NoError(b, err)
	unwrap, err := unwrapper("kmsg", false)
	require.NoError(b, err)
	c := classifier{catalogue: catalogue, unwrap: unwrap}
	for b.Loop() {
		if err := c.run(strings.NewReader(flood), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*1000)/b.Elapsed().Seconds(), "lines/s")
}
