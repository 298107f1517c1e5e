package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

const release = "v0.0.1-test"

// check ends the test with what went wrong.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sources is a copy of what images are built from, in a directory of its own and outside of any checkout.
func sources(t *testing.T) string {
	t.Helper()
	root, copied := filepath.Join("..", ".."), t.TempDir()
	for _, part := range []string{"go.mod", "go.sum", "cmd", "pkg", "charts", filepath.Join("tools", "image")} {
		from := filepath.Join(root, part)
		check(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			target := filepath.Join(copied, name)
			if d.IsDir() {
				return os.MkdirAll(target, 0o755)
			}
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, content, 0o600)
		}))
	}
	return copied
}

func build(t *testing.T, root, arch string, images ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "images")
	check(t, run(t.Context(), append([]string{"--root", root, "--out", out, "--version", release, "--arch", arch}, images...)))
	return out
}

// unpacked gives the images in an archive by their architectures, and what is attached to them.
func unpacked(t *testing.T, archive string) (name string, images map[string]v1.Image, attached map[v1.Hash]*v1.Manifest) {
	t.Helper()
	dir := t.TempDir()
	file, err := os.Open(archive)
	check(t, err)
	defer file.Close()
	check(t, untar(file, func(h *tar.Header, r io.Reader) error {
		path := filepath.Join(dir, h.Name) //nolint:gosec // our own archive
		if h.Typeflag == tar.TypeDir {
			return os.MkdirAll(path, 0o755)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o600)
	}))
	index, err := layout.ImageIndexFromPath(dir)
	check(t, err)
	manifest, err := index.IndexManifest()
	check(t, err)
	images, attached = map[string]v1.Image{}, map[v1.Hash]*v1.Manifest{}
	for _, d := range manifest.Manifests {
		if !d.MediaType.IsIndex() {
			a, err := index.Image(d.Digest)
			check(t, err)
			m, err := a.Manifest()
			check(t, err)
			attached[m.Subject.Digest] = m
			continue
		}
		name = d.Annotations["io.containerd.image.name"]
		inner, err := index.ImageIndex(d.Digest)
		check(t, err)
		m, err := inner.IndexManifest()
		check(t, err)
		for _, d := range m.Manifests {
			images[d.Platform.Architecture], err = inner.Image(d.Digest)
			check(t, err)
		}
	}
	return name, images, attached
}

func untar(r io.Reader, do func(*tar.Header, io.Reader) error) error {
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = do(header, archive)
		}
		if err != nil {
			return err
		}
	}
}

type content struct {
	header *tar.Header
	bytes  []byte
}

func contents(t *testing.T, i v1.Image) map[string]content {
	t.Helper()
	all := map[string]content{}
	r := mutate.Extract(i)
	defer r.Close()
	check(t, untar(r, func(h *tar.Header, r io.Reader) error {
		b, err := io.ReadAll(r)
		all[strings.TrimSuffix(h.Name, "/")] = content{header: h, bytes: b}
		return err
	}))
	return all
}

func TestTwoBuildsInTwoPlacesGiveTheSameBytes(t *testing.T) {
	images := []string{"agent", "pause"}
	one, other := build(t, sources(t), "amd64", images...), build(t, sources(t), "amd64", images...)
	entries, err := os.ReadDir(one)
	check(t, err)
	if len(entries) != 4 {
		t.Fatalf("want two archives and two bills of materials, got %v", entries)
	}
	for _, e := range entries {
		a, err := os.ReadFile(filepath.Join(one, e.Name()))
		check(t, err)
		b, err := os.ReadFile(filepath.Join(other, e.Name()))
		check(t, err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs from build to build", e.Name())
		}
	}
}

func TestAnImageHoldsOneStaticProgramAndNothingToDoHarmWith(t *testing.T) {
	out := build(t, filepath.Join("..", ".."), "amd64", "agent")
	name, images, _ := unpacked(t, filepath.Join(out, "agent.tar"))
	if want := "ghcr.io/autorepair-sh/karpenter-autorepair/agent:0.0.1-test"; name != want {
		t.Errorf("it is named %s, want %s", name, want)
	}
	i := images["amd64"]
	config, err := i.ConfigFile()
	check(t, err)
	if config.OS != "linux" || config.Architecture != "amd64" || config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/agent" {
		t.Errorf("its configuration is %+v", config)
	}
	files := contents(t, i)
	want := []string{"agent", "etc", "etc/group", "etc/passwd", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt", "tmp"}
	for _, name := range want {
		if _, ok := files[name]; !ok {
			t.Errorf("it has no %s", name)
		}
	}
	if len(files) != len(want) {
		t.Errorf("it has more than %v: %d files", want, len(files))
	}
	for name, c := range files {
		if c.header.Mode&0o6000 != 0 || (name != "tmp" && c.header.Mode&0o022 != 0) {
			t.Errorf("%s has mode %o", name, c.header.Mode)
		}
	}
	program, err := elf.NewFile(bytes.NewReader(files["agent"].bytes))
	check(t, err)
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program wants a dynamic linker, and there is none in the image")
		}
	}
}

func TestTheProgramSaysTheRelease(t *testing.T) {
	o := options{root: filepath.Join("..", ".."), version: release}
	r, err := choose([]string{"agent"})
	check(t, err)
	p, err := o.build(t.Context(), r[0], "amd64", t.TempDir())
	check(t, err)
	out, err := exec.Command(p.path, "--version").CombinedOutput() //nolint:gosec // just built
	check(t, err)
	if !strings.Contains(string(out), release) {
		t.Errorf("it says %q, want %s", out, release)
	}
}

func TestOneArchiveServesBothArchitecturesEachWithItsMaterials(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: compiles the agent for another architecture, some minutes with an empty build cache")
	}
	out := build(t, filepath.Join("..", ".."), "amd64,arm64", "agent")
	_, images, attached := unpacked(t, filepath.Join(out, "agent.tar"))
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		i := images[arch]
		program, err := elf.NewFile(bytes.NewReader(contents(t, i)["agent"].bytes))
		check(t, err)
		if program.Machine != machine {
			t.Errorf("the program for %s is for %s", arch, program.Machine)
		}
		digest, err := i.Digest()
		check(t, err)
		manifest := attached[digest]
		if manifest == nil || manifest.Config.MediaType != materialsType {
			t.Errorf("the image for %s has no materials attached: %+v", arch, manifest)
		}
		text, err := os.ReadFile(filepath.Join(out, "agent-"+arch+".cdx.json"))
		check(t, err)
		checkMaterials(t, text)
	}
}

func checkMaterials(t *testing.T, text []byte) {
	t.Helper()
	var bom cdx.BOM
	check(t, json.Unmarshal(text, &bom))
	found := map[string]cdx.Component{}
	for _, c := range *bom.Components {
		found[c.Name] = c
	}
	for _, name := range []string{"std", "k8s.io/client-go", "github.com/spf13/cobra"} {
		if c := found[name]; c.Version == "" || c.PackageURL != "pkg:golang/"+name+"@"+c.Version || (name != "std" && c.Hashes == nil) {
			t.Errorf("of %s it says %+v", name, c)
		}
	}
	if bom.Metadata.Component.Version != release {
		t.Errorf("it is of version %q", bom.Metadata.Component.Version)
	}
}

func TestPauseEndsWhenItIsTold(t *testing.T) {
	o := options{root: filepath.Join("..", "..")}
	r, err := choose([]string{"pause"})
	check(t, err)
	p, err := o.build(t.Context(), r[0], "amd64", t.TempDir())
	check(t, err)
	cmd := exec.Command(p.path) //nolint:gosec // just built
	check(t, cmd.Start())
	time.Sleep(300 * time.Millisecond)
	check(t, cmd.Process.Signal(os.Interrupt))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		check(t, err)
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		t.Fatal("it does not end")
	}
}

func TestNonsenseIsRefusedWithWhatToWrite(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"an unknown image":        {args: []string{"proxy"}, want: "write some of controller, agent, controller-aws, pause"},
		"an unknown architecture": {args: []string{"--arch=mips"}, want: "write amd64, arm64 or amd64,arm64"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), tc.args)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}
