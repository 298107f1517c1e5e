package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// materialsType is the media type of a bill of materials.
const materialsType = "application/vnd.cyclonedx+json"

// materials is the bill of materials of an image as CycloneDX: the modules that Go says are in the program, with their
// checksums as go.sum has them, Go's own library, and nothing that differs from build to build.
func materials(r recipe, p program, release, arch string) ([]byte, error) {
	main := module(debug.Module{Path: p.info.Main.Path, Version: p.version(release)})
	main.Type, main.Name = cdx.ComponentTypeContainer, main.Name+"/"+r.name
	main.Properties = &[]cdx.Property{{Name: "architecture", Value: arch}, {Name: "revision", Value: p.setting("vcs.revision")}}
	library := module(debug.Module{Path: "std", Version: strings.TrimPrefix(p.info.GoVersion, "go")})
	components := []cdx.Component{library}
	for _, dependency := range p.info.Deps {
		if dependency.Replace != nil {
			dependency = dependency.Replace
		}
		components = append(components, module(*dependency))
	}
	uses := []string{}
	for _, c := range components {
		uses = append(uses, c.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: p.created().Format(time.RFC3339), Component: &main}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &uses}}
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("writing the bill of materials, %w", err)
	}
	return out.Bytes(), nil
}

func module(m debug.Module) cdx.Component {
	purl := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
	c := cdx.Component{Type: cdx.ComponentTypeLibrary, BOMRef: purl, Name: m.Path, Version: m.Version, PackageURL: purl}
	// As go.sum has it: h1: and the SHA-256 of the list of the files' own.
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) > 0 {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	}
	return c
}
