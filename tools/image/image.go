package main

import (
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// labels say of an image what the OCI image specification has annotations for.
func labels(r recipe, p program, release string) map[string]string {
	l := map[string]string{
		"org.opencontainers.image.title":       r.name,
		"org.opencontainers.image.description": r.description,
		"org.opencontainers.image.source":      "https://github.com/autorepair-sh/karpenter-autorepair",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     p.version(release),
	}
	if revision := p.setting("vcs.revision"); revision != "" {
		l["org.opencontainers.image.revision"] = revision
	}
	return l
}

// image of one architecture: the base, and the program at the root, under its own name.
func image(r recipe, p program, release, arch string) (v1.Image, error) {
	binary, err := file(r.name, p.path, 0o755)
	if err != nil {
		return nil, err
	}
	var additions []mutate.Addendum
	for _, entries := range [][]entry{base(), {binary}} {
		l, err := layer(entries, p.created())
		if err != nil {
			return nil, err
		}
		additions = append(additions, mutate.Addendum{
			Layer:   l,
			History: v1.History{Created: v1.Time{Time: p.created()}, CreatedBy: "tools/image", Comment: entries[0].name},
		})
	}
	i, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), additions...)
	if err != nil {
		return nil, err
	}
	config, err := i.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Created = v1.Time{Time: p.created()}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + r.name},
		User:       strconv.Itoa(nonRoot) + ":" + strconv.Itoa(nonRoot),
		WorkingDir: "/",
		Env:        []string{"PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		Labels:     labels(r, p, release),
	}
	return mutate.ConfigFile(i, config)
}

// plain is an image whose descriptor does not call it an artifact, as only what is no image should be.
type plain struct{ v1.Image }

func (p plain) Descriptor() (*v1.Descriptor, error) {
	d, err := partial.Descriptor(p.Image)
	if err == nil {
		d.ArtifactType = ""
	}
	return d, err
}

// attach is an artifact that says of an image what is in it, as the OCI distribution specification's referrers do.
func attach(i v1.Image, bom []byte) (v1.Image, error) {
	subject, err := plain{i}.Descriptor()
	if err != nil {
		return nil, err
	}
	a := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), materialsType)
	a, err = mutate.AppendLayers(a, static.NewLayer(bom, materialsType))
	if err != nil {
		return nil, err
	}
	return mutate.Subject(a, *subject).(v1.Image), nil
}
