package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// make builds an image for all architectures, and gives the path of its archive. Beside it lie the bills of materials.
func (o options) make(ctx context.Context, r recipe) (string, error) {
	work, err := os.MkdirTemp("", "image-"+r.name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return "", err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var attached []v1.Image
	for _, arch := range o.platforms {
		fmt.Printf("  %s: building for %s (the first time compiles all that it needs: some minutes)\n", r.name, arch)
		p, err := o.build(ctx, r, arch, work)
		if err != nil {
			return "", err
		}
		i, err := image(r, p, o.version, arch)
		if err != nil {
			return "", err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: plain{i}, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
		bom, err := materials(r, p, o.version, arch)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(o.out, r.name+"-"+arch+".cdx.json"), bom, 0o644); err != nil { //nolint:gosec // for all to read
			return "", err
		}
		a, err := attach(i, bom)
		if err != nil {
			return "", err
		}
		attached = append(attached, a)
	}
	return o.write(filepath.Join(work, "layout"), r, index, attached)
}

// write lays the image out as the OCI image specification says, and packs that.
func (o options) write(dir string, r recipe, index v1.ImageIndex, attached []v1.Image) (string, error) {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	// As the chart has it in its appVersion.
	tag := cmp.Or(strings.TrimPrefix(o.version, "v"), "latest")
	err = path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag,
		// What containerd names the image where it is imported.
		"io.containerd.image.name": o.repository + "/" + r.name + ":" + tag,
	}))
	if err != nil {
		return "", err
	}
	for _, a := range attached {
		if err := path.AppendImage(a); err != nil {
			return "", err
		}
	}
	return pack(dir, filepath.Join(o.out, r.name+".tar"))
}

// pack writes a directory into an archive, in the order of the names, all of one time.
func pack(dir, archive string) (string, error) {
	var entries []entry
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			entries = append(entries, directory(name, 0o755))
			return nil
		}
		e, err := file(name, path, 0o644)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return "", err
	}
	// Written beside and renamed, so that what a killed run leaves never looks like an archive.
	out, err := os.Create(archive + ".partial")
	if err != nil {
		return "", err
	}
	defer out.Close()
	if err := writeTar(out, entries, time.Unix(0, 0)); err != nil {
		return "", err
	}
	if err := out.Close(); err != nil {
		return "", err
	}
	return archive, os.Rename(archive+".partial", archive)
}
