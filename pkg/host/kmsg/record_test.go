package kmsg

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		record string
		want   Record
	}{
		"a record of the kernel": {
			record: "6,339,5140900,-;NET: Registered PF_INET protocol family\n",
			want:   Record{Level: 6, Sequence: 339, HasSequence: true, SinceBoot: 5140900 * time.Microsecond, Flags: "-", Text: "NET: Registered PF_INET protocol family"},
		},
		"a record of a program, with its caller and a field of a later kernel": {
			record: "14,7,1,c,caller=T1234,colour=blue;hello",
			want:   Record{Facility: 1, Level: 6, Sequence: 7, HasSequence: true, SinceBoot: time.Microsecond, Flags: "c", Caller: "T1234", Text: "hello"},
		},
		"a record with a dictionary": {
			record: "3,1,2,+,caller=C3;nvme nvme0: I/O timeout\n SUBSYSTEM=nvme\n DEVICE=c242:0\nnot of the dictionary\n",
			want: Record{
				Level: 3, Sequence: 1, HasSequence: true, SinceBoot: 2 * time.Microsecond, Flags: "+", Caller: "C3", Text: "nvme nvme0: I/O timeout",
				Fields: []Field{{Key: "SUBSYSTEM", Value: "nvme"}, {Key: "DEVICE", Value: "c242:0"}},
			},
		},
		"escapes, of which control characters become spaces": {
			record: `4,1,2,-;caf\xc3\xa9\x0abell\x07 back\x5cslash \xzz \xff`,
			want:   Record{Level: 4, Sequence: 1, HasSequence: true, SinceBoot: 2 * time.Microsecond, Flags: "-", Text: "café bell  back\\slash \\xzz \ufffd"},
		},
		"text with a semicolon": {
			record: "4,1,2,-;a;b",
			want:   Record{Level: 4, Sequence: 1, HasSequence: true, SinceBoot: 2 * time.Microsecond, Flags: "-", Text: "a;b"},
		},
		"a record of 8 KiB": {
			record: "4,1,2,-;" + strings.Repeat("x", 8<<10),
			want:   Record{Level: 4, Sequence: 1, HasSequence: true, SinceBoot: 2 * time.Microsecond, Flags: "-", Text: strings.Repeat("x", 8<<10)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(tc.record))
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, record := range map[string]string{
		"nothing":              "",
		"text alone":           "NET: Registered PF_INET protocol family",
		"too few fields":       "6,339;text",
		"a negative priority":  "-6,339,1,-;text",
		"a priority in words":  "err,339,1,-;text",
		"a sequence too large": "6,99999999999999999999,1,-;text",
		"a time in words":      "6,339,now,-;text",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(record))
			require.ErrorIs(t, err, errRecord)
		})
	}
}

func TestParseSyslogLine(t *testing.T) {
	for name, tc := range map[string]struct {
		line string
		want Record
	}{
		"with a time": {
			line: "<6>[    5.140900] NET: Registered PF_INET protocol family",
			want: Record{Level: 6, SinceBoot: 5140900 * time.Microsecond, Flags: "-", Text: "NET: Registered PF_INET protocol family"},
		},
		"with a caller, of a program": {
			line: "<14>[12345.678901][ T1234] hello",
			want: Record{Facility: 1, Level: 6, SinceBoot: 12345678901 * time.Microsecond, Flags: "-", Caller: "T1234", Text: "hello"},
		},
		"without a time": {
			line: "<3>[drm] error",
			want: Record{Level: 3, Flags: "-", Text: "[drm] error"},
		},
		"with text in brackets after the time": {
			line: "<3>[    1.000001] [drm] error",
			want: Record{Level: 3, SinceBoot: 1000001 * time.Microsecond, Flags: "-", Text: "[drm] error"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseSyslogLine([]byte(tc.line))
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
	for _, line := range []string{"", "text", "<", "<6", "<x>text", "<-1>text"} {
		_, err := parseSyslogLine([]byte(line))
		require.ErrorIs(t, err, errRecord, line)
	}
}

func requireShowable(t *testing.T, r Record) {
	t.Helper()
	texts := []string{r.Text}
	for _, field := range r.Fields {
		texts = append(texts, field.Key, field.Value)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			t.Fatalf("%q is not fit to be shown", text)
		}
	}
	if r.Facility < 0 || r.Level < 0 || r.Level > 7 || r.SinceBoot < 0 {
		t.Fatalf("%+v is out of bounds", r)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("6,339,5140900,-,caller=T1;text \\x0a\\xc3\\xa9\n SUBSYSTEM=net\n DEVICE=+pci:0000:00:1f.2\n"))
	f.Add([]byte("6,339,9007199254740991,c;\\x"))
	f.Add([]byte(";\n =\n"))
	f.Fuzz(func(t *testing.T, record []byte) {
		if r, err := Parse(record); err == nil {
			requireShowable(t, r)
		}
	})
}

func FuzzSyslogLine(f *testing.F) {
	f.Add([]byte("<6>[    5.140900][    T1] text"))
	f.Add([]byte("<2147483647>[8589934591.999999][C"))
	f.Add([]byte("<0>[.]"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if r, err := parseSyslogLine(line); err == nil {
			requireShowable(t, r)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	record := []byte("6,339,5140900,-;Out of memory: Killed process 1234 (java) total-vm:8388608kB, anon-rss:4194304kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:9000kB oom_score_adj:1000\n")
	b.SetBytes(int64(len(record)))
	for b.Loop() {
		if _, err := Parse(record); err != nil {
			b.Fatal(err)
		}
	}
}
