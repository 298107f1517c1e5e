package cli

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/cluster"
)

func TestOwnFlagsAreTakenFromTheFrontOfKubectls(t *testing.T) {
	for name, test := range map[string]struct {
		args              []string
		wantArgs          []string
		wantName, wantDir string
		wantErr           bool
	}{
		"none of ours":             {args: []string{"get", "nodes"}, wantArgs: []string{"get", "nodes"}},
		"a name":                   {args: []string{"--name", "a", "get", "nodes"}, wantArgs: []string{"get", "nodes"}, wantName: "a"},
		"a joined name and a dir":  {args: []string{"--name=a", "--dir=/x", "get"}, wantArgs: []string{"get"}, wantName: "a", wantDir: "/x"},
		"a name that is kubectl's": {args: []string{"create", "x", "--name", "a"}, wantArgs: []string{"create", "x", "--name", "a"}},
		"a name without its value": {args: []string{"--name"}, wantErr: true},
		"nothing at all":           {},
	} {
		t.Run(name, func(t *testing.T) {
			p := &program{}
			args, err := p.takeOwnFlags(test.args)
			if (err != nil) != test.wantErr {
				t.Fatalf("takeOwnFlags() = %v, want error %t", err, test.wantErr)
			}
			if !slices.Equal(args, test.wantArgs) || p.name != test.wantName || p.dir != test.wantDir {
				t.Errorf("takeOwnFlags() = %v, name %q, dir %q, want %v, %q, %q", args, p.name, p.dir, test.wantArgs, test.wantName, test.wantDir)
			}
		})
	}
}

func TestStatusTable(t *testing.T) {
	var out bytes.Buffer
	err := writeStatusTable(&out, cluster.Status{Parts: []cluster.PartStatus{
		{Name: "etcd", State: cluster.StateReady, PID: 4711, ResidentBytes: 100 << 20, Address: "http://127.0.0.1:20000"},
		{Name: "karpenter", State: cluster.StateDown, Address: "http://127.0.0.1:20001"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := `PART       STATE       PID   MEMORY   ADDRESS
etcd       ready       4711  100 MiB  http://127.0.0.1:20000
karpenter  down        -     -        http://127.0.0.1:20001
all        incomplete        100 MiB  
`
	if out.String() != want {
		t.Errorf("writeStatusTable() wrote\n%s\nwant\n%s", out.String(), want)
	}
}

func TestMistakesAreAnsweredWithWhatToWrite(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":           {args: []string{"up", "--karpnter"}, want: `"localcluster up --help" lists the flags`},
		"an unknown command":        {args: []string{"upp"}, want: "up"},
		"an unknown part":           {args: []string{"stop", "kubeproxy"}, want: "use one of etcd, apiserver"},
		"no part":                   {args: []string{"kill"}, want: "Name one or more of etcd"},
		"an unknown mode":           {args: []string{"up", "--karpenter=mine"}, want: "use stock or none"},
		"nodes without Karpenter":   {args: []string{"up", "--karpenter=none", "--nodes=3"}, want: "drop --nodes"},
		"fewer than no nodes":       {args: []string{"up", "--nodes=-1"}, want: "use 0 for none"},
		"an unknown output":         {args: []string{"status", "-o", "xml"}, want: "use table or json"},
		"a part of no cluster":      {args: []string{"stop", "etcd"}, want: `start one with "localcluster up"`},
		"kubectl without a cluster": {args: []string{"kubectl", "get", "nodes"}, want: `start one with "localcluster up"`},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			root := newRoot(&program{out: &out, err: &errOut})
			root.SetArgs(append([]string{"--dir", dir}, test.args...))
			root.SetOut(&out)
			root.SetErr(&errOut)
			err := root.ExecuteContext(t.Context())
			if err == nil || errors.Is(err, errIncomplete) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v = %v, want an error with %q", test.args, err, test.want)
			}
		})
	}
}
