package binaries

import (
	"runtime/debug"
	"testing"

	"golang.org/x/mod/modfile"
)

func TestBuiltAsPinned(t *testing.T) {
	const gomod = `module example.com/tool

require (
	example.com/program v1.2.3
	example.com/library v0.1.0
	example.com/replaced v0.0.0
	example.com/unused v0.9.0
)

replace example.com/replaced => example.com/replaced v0.36.3
`
	module, err := modfile.Parse("go.mod", []byte(gomod), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*debug.BuildInfo)
		want   bool
	}{
		"the very versions": {change: func(*debug.BuildInfo) {}, want: true},
		"another version of the program": {
			change: func(info *debug.BuildInfo) { info.Main.Version = "v1.2.4" },
		},
		"another version of a library": {
			change: func(info *debug.BuildInfo) { info.Deps[0].Version = "v0.0.9" },
		},
		"another replacement": {
			change: func(info *debug.BuildInfo) { info.Deps[1].Replace.Version = "v0.36.2" },
		},
		"a library that is pinned no more": {
			change: func(info *debug.BuildInfo) {
				info.Deps = append(info.Deps, &debug.Module{Path: "example.com/gone", Version: "v1.0.0"})
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			info := &debug.BuildInfo{
				Main: debug.Module{Path: "example.com/program", Version: "v1.2.3"},
				Deps: []*debug.Module{
					{Path: "example.com/library", Version: "v0.1.0"},
					{
						Path: "example.com/replaced", Version: "v0.0.0",
						Replace: &debug.Module{Path: "example.com/replaced", Version: "v0.36.3"},
					},
				},
			}
			test.change(info)
			if got := builtAsPinned(info, versions(module)); got != test.want {
				t.Errorf("builtAsPinned() = %t, want %t", got, test.want)
			}
		})
	}
}

func TestCurrentNeedsABinary(t *testing.T) {
	if current(t.TempDir()+"/none", Karpenter, new(modfile.File)) {
		t.Error("current() = true without a binary")
	}
}

func TestProgramsArePinned(t *testing.T) {
	module, err := Builder{Source: "../.."}.readModule()
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []Program{Karpenter, Kwok} {
		if versions(module)[program.Module] == "" {
			t.Errorf("go.mod does not pin %s", program.Module)
		}
	}
}
