package process

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, owner Owner, program string, args ...string) Record {
	t.Helper()
	record, err := Start(owner, Command{
		Path:    program,
		Args:    args,
		Env:     []string{"PATH=" + os.Getenv("PATH")},
		LogFile: filepath.Join(owner.Directory, "log"),
	})
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	t.Cleanup(func() {
		if err := record.Kill(t.Context(), owner); err != nil {
			t.Errorf("Kill() = %v", err)
		}
	})
	return record
}

func TestAliveOnlyForTheOneThatWasStarted(t *testing.T) {
	owner := Owner{Directory: t.TempDir(), Part: "etcd"}
	record := start(t, owner, "/bin/sleep", "60")

	for name, test := range map[string]struct {
		owner  Owner
		change func(*Record)
		want   bool
	}{
		"the recorded process of its owner":       {owner: owner, want: true},
		"a process of another cluster":            {owner: Owner{Directory: owner.Directory + "x", Part: "etcd"}},
		"another part of the same cluster":        {owner: Owner{Directory: owner.Directory, Part: "apiserver"}},
		"a recycled pid, started at another time": {owner: owner, change: func(r *Record) { r.StartTicks++ }},
		"a record from before a reboot":           {owner: owner, change: func(r *Record) { r.BootID = "other" }},
		"a pid that nobody has":                   {owner: owner, change: func(r *Record) { r.PID = 1 << 30 }},
		"an empty record":                         {owner: owner, change: func(r *Record) { *r = Record{} }},
	} {
		t.Run(name, func(t *testing.T) {
			changed := record
			if test.change != nil {
				test.change(&changed)
			}
			if got := changed.Alive(test.owner); got != test.want {
				t.Errorf("Alive() = %t, want %t", got, test.want)
			}
		})
	}
}

func TestForeignProcessesAreNeverSignalled(t *testing.T) {
	owner := Owner{Directory: t.TempDir(), Part: "etcd"}
	record := start(t, owner, "/bin/sleep", "60")

	recycled := record
	recycled.StartTicks++
	if err := recycled.Kill(t.Context(), owner); err != nil {
		t.Fatalf("Kill() = %v", err)
	}
	if err := record.Stop(t.Context(), Owner{Directory: "/elsewhere", Part: "etcd"}, time.Second); err != nil {
		t.Fatalf("Stop() = %v", err)
	}
	if !record.Alive(owner) {
		t.Error("a process was ended under a record or an owner that is not its own")
	}
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	owner := Owner{Directory: t.TempDir(), Part: "deaf"}
	record := start(t, owner, "/bin/sh", "-c", `trap "" TERM; while :; do sleep 1; done`)
	time.Sleep(100 * time.Millisecond) // until the trap is set

	if err := record.Signal(owner, syscall.SIGTERM); err != nil {
		t.Fatalf("Signal() = %v", err)
	}
	if !record.Alive(owner) {
		t.Fatal("the process ended at SIGTERM, so that this test shows nothing")
	}
	if err := record.Stop(t.Context(), owner, 50*time.Millisecond); err != nil {
		t.Fatalf("Stop() = %v", err)
	}
	if record.Alive(owner) {
		t.Error("still alive after Stop()")
	}
}

func TestFindSeesWhatWasNeverRecorded(t *testing.T) {
	directory := t.TempDir()
	owner := Owner{Directory: directory, Part: "kwok"}
	record := start(t, owner, "/bin/sleep", "60")

	found, err := Find(directory)
	if err != nil {
		t.Fatalf("Find() = %v", err)
	}
	if len(found) != 1 || len(found["kwok"]) != 1 || found["kwok"][0] != record {
		t.Errorf("Find() = %v, want %v as kwok", found, record)
	}
	if found, err = Find(directory + "x"); err != nil || len(found) != 0 {
		t.Errorf("Find() of another cluster = %v, %v, want nothing", found, err)
	}
}

func TestParseStat(t *testing.T) {
	for name, test := range map[string]struct {
		text    string
		want    stat
		wantErr bool
	}{
		"a plain line": {
			text: "12 (sleep) S 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 5 6 7",
			want: stat{state: "S", startTicks: 987654},
		},
		"a name with parentheses and spaces": {
			text: "12 (a) Z (b) R 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 42 5 6 7",
			want: stat{state: "R", startTicks: 42},
		},
		"no name":          {text: "12 sleep S 1", wantErr: true},
		"too few fields":   {text: "12 (sleep) S 1 2 3", wantErr: true},
		"nothing":          {text: "", wantErr: true},
		"a start in words": {text: "12 (sleep) S 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 soon 5", wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat(test.text)
			if (err != nil) != test.wantErr || got != test.want {
				t.Errorf("parseStat() = %v, %v, want %v, error %t", got, err, test.want, test.wantErr)
			}
		})
	}
}
