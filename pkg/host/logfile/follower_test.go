package logfile

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	_, err = file.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

// poll gives what the follower gives within a few polls.
func poll(t *testing.T, f *Follower) []string {
	t.Helper()
	var lines []string
	for range 3 {
		err := f.Poll(func(line []byte, _ bool) bool {
			lines = append(lines, string(line))
			return true
		})
		if err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
	}
	return lines
}

// following gives a follower of a file whose first lines it has read.
func following(t *testing.T, text string) (*Follower, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path, text)
	f := New(path, Options{})
	t.Cleanup(f.Close)
	poll(t, f)
	return f, path
}

func TestAFileIsFollowedThrough(t *testing.T) {
	for name, tc := range map[string]struct {
		act  func(t *testing.T, path string)
		want []string
	}{
		"nothing that is written": {act: func(*testing.T, string) {}},
		"lines that are added":    {act: func(t *testing.T, path string) { write(t, path, "a\nb\n") }, want: []string{"a", "b"}},
		"lines with the line ends of other systems": {
			act:  func(t *testing.T, path string) { write(t, path, "a\r\n\r\nb\r\n") },
			want: []string{"a", "b"},
		},
		"a line without an end, which is not one yet": {act: func(t *testing.T, path string) { write(t, path, "half") }},
		"rotation by a new file, with a late line in the old one": {
			act: func(t *testing.T, path string) {
				write(t, path, "a\n")
				require.NoError(t, os.Rename(path, path+".1"))
				write(t, path, "c\n")
				write(t, path+".1", "b\n")
			},
			want: []string{"a", "b", "c"},
		},
		"rotation in the middle of a line": {
			act: func(t *testing.T, path string) {
				write(t, path, "unfinished")
				require.NoError(t, os.Rename(path, path+".1"))
				write(t, path, "c\n")
			},
			want: []string{"unfinished", "c"},
		},
		"truncation to nothing": {
			act: func(t *testing.T, path string) {
				require.NoError(t, os.Truncate(path, 0))
				write(t, path, "a\n")
			},
			want: []string{"a"},
		},
		"truncation that has been overtaken by what was written since": {
			act: func(t *testing.T, path string) {
				require.NoError(t, os.Truncate(path, 0))
				write(t, path, "a line that is longer than all that was there before\n")
			},
			want: []string{"a line that is longer than all that was there before"},
		},
		"truncation below a writer that does not append": {
			act: func(t *testing.T, path string) {
				require.NoError(t, os.WriteFile(path, append(make([]byte, 4000), "a\n"...), 0o600))
			},
			want: []string{"a"},
		},
		"a link that points to another file": {
			act: func(t *testing.T, path string) {
				write(t, path+".other", "a\n")
				require.NoError(t, os.Rename(path, path+".1"))
				require.NoError(t, os.Symlink(path+".other", path))
			},
			want: []string{"a"},
		},
		"a rotated file that is compressed beside it": {
			act: func(t *testing.T, path string) {
				require.NoError(t, os.Rename(path, path+".1"))
				var packed bytes.Buffer
				w := gzip.NewWriter(&packed)
				_, err := w.Write([]byte("old\n"))
				require.NoError(t, err)
				require.NoError(t, w.Close())
				require.NoError(t, os.WriteFile(path+".1.gz", packed.Bytes(), 0o600))
				require.NoError(t, os.Remove(path+".1"))
				write(t, path, "a\n")
			},
			want: []string{"a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, path := following(t, "first line\n")
			tc.act(t, path)
			require.Equal(t, tc.want, poll(t, f))
			require.Empty(t, poll(t, f), "nothing is given twice")
		})
	}
}

func TestALineInHalvesIsGivenOnce(t *testing.T) {
	f, path := following(t, "first line\n")
	write(t, path, "one ha")
	require.Empty(t, poll(t, f))
	write(t, path, "lf and the other\nnext")
	require.Equal(t, []string{"one half and the other"}, poll(t, f))
}

func TestAFileThatIsDeletedAndMadeAgain(t *testing.T) {
	f, path := following(t, "first line\n")
	require.NoError(t, os.Remove(path))
	require.Empty(t, poll(t, f))
	require.ErrorIs(t, f.Poll(nil), fs.ErrNotExist)
	require.False(t, f.Open())
	write(t, path, "again\n")
	require.Equal(t, []string{"again"}, poll(t, f))
}

func TestAFileThatAppearsLaterIsReadFromItsStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	f := New(path, Options{Backlog: -1})
	defer f.Close()
	require.ErrorIs(t, f.Poll(nil), fs.ErrNotExist)
	write(t, path, "a\n")
	require.NoError(t, f.Poll(func(line []byte, backlog bool) bool {
		require.Equal(t, "a", string(line))
		require.False(t, backlog)
		return true
	}))
}

func TestALineThatIsTooLongIsCut(t *testing.T) {
	f, path := following(t, "first line\n")
	write(t, path, strings.Repeat("x", 3*MaxLine)+"\nshort\n"+strings.Repeat("y", MaxLine)+"\n")
	lines := poll(t, f)
	require.Len(t, lines, 3)
	require.Len(t, lines[0], MaxLine)
	require.Equal(t, "short", lines[1])
	require.Len(t, lines[2], MaxLine, "a line of just the bound is whole")
	require.EqualValues(t, 1, f.Stats().Cut)
}

func TestOnlyTheEndOfALongFileIsReadAtFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path, strings.Repeat("0123456789\n", 1000)+"last\n")
	f := New(path, Options{Backlog: 20})
	defer f.Close()
	require.NoError(t, f.Poll(func(_ []byte, backlog bool) bool {
		require.True(t, backlog)
		return true
	}))
	g := New(path, Options{Backlog: 20})
	defer g.Close()
	require.Equal(t, []string{"0123456789", "last"}, poll(t, g))
	require.EqualValues(t, 1000*11+5-20, g.Stats().Skipped)
}

func TestAPollCanBeEndedAndGoesOn(t *testing.T) {
	f, path := following(t, "first line\n")
	write(t, path, "a\nb\nc\n")
	var lines []string
	one := func(line []byte, _ bool) bool {
		lines = append(lines, string(line))
		return false
	}
	for want := range 3 {
		require.NoError(t, f.Poll(one))
		require.Len(t, lines, want+1)
	}
	require.NoError(t, f.Poll(one))
	require.Equal(t, []string{"a", "b", "c"}, lines)
}

func TestAPipeIsRefusedAndNotWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	require.ErrorIs(t, New(path, Options{}).Poll(nil), ErrNotRegular)
	require.ErrorIs(t, New(t.TempDir(), Options{}).Poll(nil), ErrNotRegular)
}

func TestAFollowerGoesOnAtItsCursor(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(t *testing.T, path string)
		want      []string
	}{
		"where nothing was written": {meanwhile: func(*testing.T, string) {}},
		"where lines were added":    {meanwhile: func(t *testing.T, path string) { write(t, path, "-end\nb\n") }, want: []string{"half-end", "b"}},
		"where the file was rotated": {
			meanwhile: func(t *testing.T, path string) {
				write(t, path, "-end\n")
				require.NoError(t, os.Rename(path, path+".20260102-030405"))
				write(t, path, "c\n")
			},
			want: []string{"half-end", "c"},
		},
		"where the file was truncated": {
			meanwhile: func(t *testing.T, path string) {
				require.NoError(t, os.WriteFile(path, []byte("another file of more than the old length\n"), 0o600))
			},
			want: []string{"another file of more than the old length"},
		},
		"where the file was rotated away and deleted": {
			meanwhile: func(t *testing.T, path string) {
				require.NoError(t, os.Remove(path))
				write(t, path, "d\n")
			},
			want: []string{"d"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, path := following(t, "first line\n")
			write(t, path, "half")
			require.Empty(t, poll(t, f))
			cursor := f.Cursor()
			f.Close()
			tc.meanwhile(t, path)
			again := New(path, Options{})
			defer again.Close()
			again.Resume(cursor)
			require.Equal(t, tc.want, poll(t, again))
		})
	}
}

func TestFiveHundredRotationsLeaveNothingOpen(t *testing.T) {
	f, path := following(t, "first line\n")
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	var lines []string
	for i := range 500 {
		write(t, path, fmt.Sprintf("end of %d\n", i))
		if i%2 == 0 {
			require.NoError(t, os.Rename(path, path+".1"))
		} else {
			require.NoError(t, os.Remove(path))
		}
		write(t, path, fmt.Sprintf("start of %d\n", i+1))
		require.NoError(t, f.Poll(func(line []byte, _ bool) bool {
			lines = append(lines, string(line))
			return true
		}))
	}
	lines = append(lines, poll(t, f)...)
	require.Len(t, lines, 1000, "each line once")
	require.LessOrEqual(t, openFiles(t), fds+1)
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func FuzzCursor(f *testing.F) {
	f.Add("a\nb\n", uint64(1), int64(2), uint64(3), 4, true)
	f.Add("", uint64(0), int64(-1), uint64(0), -5, false)
	f.Add(strings.Repeat("x\n", 400), uint64(0), int64(700), uint64(0), 1<<40, true)
	f.Fuzz(func(t *testing.T, text string, inode uint64, offset int64, head uint64, length int, same bool) {
		path := filepath.Join(t.TempDir(), "0.log")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cursor := Cursor{Inode: inode, Offset: offset, Head: head, HeadLength: length}
		if same {
			if info, err := os.Stat(path); err == nil {
				id := identity(info)
				cursor.Device, cursor.Inode = id.device, id.inode
			}
		}
		follower := New(path, Options{})
		defer follower.Close()
		follower.Resume(cursor)
		given := 0
		for range 2 {
			if err := follower.Poll(func(line []byte, _ bool) bool { given += len(line); return true }); err != nil && !bytes.HasPrefix([]byte(text), []byte{0x1f, 0x8b}) {
				t.Fatal(err)
			}
		}
		if given > len(text) {
			t.Fatalf("%d bytes given of %d", given, len(text))
		}
	})
}
