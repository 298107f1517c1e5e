package journal

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

var update = flag.Bool("update", false, "write testdata anew with systemd-journal-remote")

const (
	machineID  = "0123456789abcdef0123456789abcdef"
	remotePath = "/lib/systemd/systemd-journal-remote" // of Debian's package of the same name
	units      = 3
)

var (
	bootA = mustID("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	bootB = mustID("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	start = time.Unix(1700000000, 0)
	both  = []Match{{Field: "_SYSTEMD_UNIT", Value: "kubelet.service"}, {Field: "_PID", Value: "1"}}
)

func mustID(text string) ID {
	id, err := ParseID(text)
	if err != nil {
		panic(err)
	}
	return id
}

// written is what the recorded files hold: entries of three units in turn, two boots, long and short messages.
func written(count int) []Entry {
	entries := make([]Entry, count)
	for i := range entries {
		e := Entry{
			Seqnum: uint64(i + 1), Realtime: start.Add(time.Duration(i) * time.Second), BootID: bootA, Priority: i % 8,
			Monotonic: time.Duration(i+1) * time.Second,
		}
		if i >= count/2 {
			e.BootID, e.Monotonic = bootB, time.Duration(i+1-count/2)*time.Second
		}
		switch i % units {
		case 0:
			e.Unit, e.Identifier, e.Message = "kubelet.service", "kubelet", fmt.Sprintf("I0102 kubelet.go:%d] message", i)
		case 1:
			e.Unit, e.Identifier, e.Message = "containerd.service", "containerd", "the same again"
		case 2:
			e.Unit, e.Identifier, e.AboutUnit = "init.scope", "systemd", "kubelet.service"
			e.Message = fmt.Sprintf("kubelet.service: %d ", i) + strings.Repeat("long enough to be compressed ", 200)
		}
		entries[i] = e
	}
	return entries
}

// exported is the journal's export format, which systemd-journal-remote reads.
func exported(entries []Entry) []byte {
	var text bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&text, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\nPRIORITY=%d\n", e.Realtime.UnixMicro(), e.Monotonic.Microseconds(), e.BootID, e.Priority)
		fmt.Fprintf(&text, "_SYSTEMD_UNIT=%s\nSYSLOG_IDENTIFIER=%s\nMESSAGE=%s\n", e.Unit, e.Identifier, e.Message)
		if e.AboutUnit != "" {
			fmt.Fprintf(&text, "_PID=1\nUNIT=%s\n", e.AboutUnit)
		}
		text.WriteString("\n")
	}
	return text.Bytes()
}

// variants of the format.
var variants = map[string][]string{
	"compact": {"SYSTEMD_JOURNAL_COMPACT=1", "SYSTEMD_JOURNAL_KEYED_HASH=1"},
	"keyed":   {"SYSTEMD_JOURNAL_COMPACT=0", "SYSTEMD_JOURNAL_KEYED_HASH=1"},
	"jenkins": {"SYSTEMD_JOURNAL_COMPACT=0", "SYSTEMD_JOURNAL_KEYED_HASH=0"},
}

// record makes a journal file with systemd's own tool, or adds to it.
func record(t testing.TB, path string, environment []string, entries []Entry) {
	t.Helper()
	if _, err := os.Stat(remotePath); err != nil {
		t.Skip("needs systemd-journal-remote: apt-get install systemd-journal-remote")
	}
	command := exec.Command(remotePath, "--compress=yes", "--output="+path, "-")
	command.Env = append(os.Environ(), environment...)
	command.Stdin = bytes.NewReader(exported(entries))
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
}

func packed(t testing.TB, name string) []byte {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name+".journal.gz"))
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	unzip, err := gzip.NewReader(file)
	require.NoError(t, err)
	content, err := io.ReadAll(unzip)
	require.NoError(t, err)
	return content
}

// journalHost has a journal folder, and gives it.
func journalHost(t testing.TB) (h host.Host, folder string) {
	t.Helper()
	h = host.New(t.TempDir())
	folder = h.Path("var/log/journal", machineID)
	require.NoError(t, os.MkdirAll(folder, 0o700))
	return h, folder
}

func pollAll(t testing.TB, r *Reader) []Entry {
	t.Helper()
	var entries []Entry
	require.NoError(t, r.Poll(func(e Entry) bool {
		entries = append(entries, e)
		return true
	}))
	for i := range entries {
		entries[i].SeqnumID = ID{}
	}
	return entries
}

func matching(entries []Entry) []Entry {
	var out []Entry
	for _, e := range entries {
		if e.Unit == "kubelet.service" || e.AboutUnit != "" {
			out = append(out, e)
		}
	}
	return out
}

func TestRecordedFilesAreRead(t *testing.T) {
	for name, environment := range variants {
		t.Run(name, func(t *testing.T) {
			if *update {
				path := filepath.Join(t.TempDir(), "x.journal")
				record(t, path, environment, written(300))
				content, err := os.ReadFile(path)
				require.NoError(t, err)
				var out bytes.Buffer
				w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
				require.NoError(t, err)
				_, err = w.Write(content)
				require.NoError(t, err)
				require.NoError(t, w.Close())
				require.NoError(t, os.WriteFile(filepath.Join("testdata", name+".journal.gz"), out.Bytes(), 0o644))
			}
			h, folder := journalHost(t)
			require.NoError(t, os.WriteFile(filepath.Join(folder, "system.journal"), packed(t, name), 0o600))
			r := Open(h, Options{Any: both})
			defer r.Close()
			require.Equal(t, matching(written(300)), pollAll(t, r))
			require.True(t, r.Seen())
			require.Empty(t, pollAll(t, r), "nothing twice")
			require.Zero(t, r.Stats())
		})
	}
}

func TestWhereTheFirstEntryIsFrom(t *testing.T) {
	all := written(300)
	for name, tc := range map[string]struct {
		options Options
		want    []Entry
	}{
		"the start":                     {options: Options{Any: both}, want: all},
		"a time":                        {options: Options{Any: both, Since: all[200].Realtime}, want: all[200:]},
		"a time before all":             {options: Options{Any: both, Since: start.Add(-time.Hour)}, want: all},
		"a time after all":              {options: Options{Any: both, Since: start.Add(time.Hour)}},
		"a boot":                        {options: Options{Any: both, BootID: bootB}, want: all[150:]},
		"a boot that is not there":      {options: Options{Any: both, BootID: mustID(machineID)}},
		"a unit that is not there":      {options: Options{Any: []Match{{Field: "_SYSTEMD_UNIT", Value: "ssh.service"}}}},
		"the time in a cursor":          {options: Options{Any: both, Cursor: Cursor{Realtime: uint64(all[99].Realtime.UnixMicro())}}, want: all[100:]},
		"a cursor that is of no use":    {options: Options{Any: both, Cursor: Cursor{Seqnums: map[string]uint64{"rubbish": 7, machineID: 9}}}, want: all},
		"one unit alone, and few of it": {options: Options{Any: both[:1], Since: all[297].Realtime}, want: all[297:298]},
	} {
		t.Run(name, func(t *testing.T) {
			h, folder := journalHost(t)
			require.NoError(t, os.WriteFile(filepath.Join(folder, "system.journal"), packed(t, "compact"), 0o600))
			r := Open(h, tc.options)
			defer r.Close()
			require.Equal(t, matching(tc.want), pollAll(t, r))
		})
	}
}

func TestAReaderGoesOnAtItsCursor(t *testing.T) {
	h, folder := journalHost(t)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "system.journal"), packed(t, "keyed"), 0o600))
	first := Open(h, Options{Any: both})
	var before []Entry
	require.NoError(t, first.Poll(func(e Entry) bool {
		e.SeqnumID = ID{}
		before = append(before, e)
		return len(before) < 50
	}))
	state, err := json.Marshal(first.Cursor())
	require.NoError(t, err)
	rest := pollAll(t, first)
	first.Close()
	var cursor Cursor
	require.NoError(t, json.Unmarshal(state, &cursor))
	second := Open(h, Options{Any: both, Cursor: cursor})
	defer second.Close()
	require.Equal(t, rest, pollAll(t, second))
	require.Equal(t, matching(written(300)), append(before, rest...))
}

func TestAHostWithoutAJournal(t *testing.T) {
	r := Open(host.New(t.TempDir()), Options{Any: both})
	require.ErrorIs(t, r.Poll(nil), fs.ErrNotExist)
	h, folder := journalHost(t)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "system.journal"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "user-1000.journal"), packed(t, "compact"), 0o600))
	r = Open(h, Options{Any: both})
	defer r.Close()
	require.Empty(t, pollAll(t, r))
	require.False(t, r.Seen(), "users write what they like")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "system.journal"), packed(t, "compact"), 0o600))
	require.Len(t, pollAll(t, r), 200, "the file has got its header")
}

func TestWhatTheJournalsOwnToolSays(t *testing.T) {
	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Skip("needs journalctl: apt-get install systemd")
	}
	h, folder := journalHost(t)
	path := filepath.Join(folder, "system.journal")
	record(t, path, nil, written(2000))
	r := Open(h, Options{Any: both, BootID: bootB})
	defer r.Close()
	output, err := exec.Command("journalctl", "--file="+path, "--output=json", "--all", "--boot="+bootB.String(), "_SYSTEMD_UNIT=kubelet.service", "+", "_PID=1").Output()
	require.NoError(t, err)
	lines := bytes.Split(bytes.TrimSpace(output), []byte{'\n'})
	entries := pollAll(t, r)
	require.Len(t, entries, len(lines))
	for i, line := range lines {
		var theirs map[string]string
		require.NoError(t, json.Unmarshal(line, &theirs))
		require.Equal(t, theirs["MESSAGE"], entries[i].Message)
		require.Equal(t, theirs["__REALTIME_TIMESTAMP"], fmt.Sprint(entries[i].Realtime.UnixMicro()))
		require.Equal(t, theirs["_SYSTEMD_UNIT"], entries[i].Unit)
	}
}

func TestAFileThatGrowsAndIsRotated(t *testing.T) {
	all := written(600)
	h, folder := journalHost(t)
	path := filepath.Join(folder, "system.journal")
	record(t, path, nil, all[:200])
	r := Open(h, Options{Any: both})
	defer r.Close()
	require.Equal(t, matching(all[:200]), pollAll(t, r))
	record(t, path, nil, all[200:400])
	grown := pollAll(t, r)
	require.Equal(t, matching(all[200:400]), grown)
	require.NoError(t, os.Rename(path, filepath.Join(folder, "system@0123-0001-0002.journal")))
	record(t, path, nil, all[400:])
	require.Equal(t, messages(matching(all[400:])), messages(pollAll(t, r)))
	require.Empty(t, pollAll(t, r))
	require.Len(t, r.files, 2)
}

func messages(entries []Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Message)
	}
	return out
}
