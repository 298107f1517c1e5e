package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// entry of a layer or of an archive; a directory has no opener.
type entry struct {
	name string
	mode int64
	size int64
	open func() (io.ReadCloser, error)
}

func directory(name string, mode int64) entry { return entry{name: name + "/", mode: mode} }

func text(name string, content []byte) entry {
	return entry{name: name, mode: 0o644, size: int64(len(content)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

func file(name, path string, mode int64) (entry, error) {
	info, err := os.Stat(path)
	if err != nil {
		return entry{}, err
	}
	return entry{name: name, mode: mode, size: info.Size(), open: func() (io.ReadCloser, error) { return os.Open(path) }}, nil
}

// writeTar writes the entries in their order, all root's and of one time.
func writeTar(w io.Writer, entries []entry, at time.Time) error {
	archive := tar.NewWriter(w)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: e.size, ModTime: at, Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
		if e.open == nil {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if err := e.copyTo(archive); err != nil {
			return fmt.Errorf("packing %s, %w", e.name, err)
		}
	}
	return archive.Close()
}

func (e entry) copyTo(w io.Writer) error {
	if e.open == nil {
		return nil
	}
	r, err := e.open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

func layer(entries []entry, at time.Time) (v1.Layer, error) {
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(writeTar(w, entries, at)) }()
		return r, nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// base is what programs expect of a system: users' names, a place for temporary files, whom to trust.
func base() []entry {
	user := fmt.Sprintf("nonroot:x:%d:%d:nonroot:/:/nonexistent\n", nonRoot, nonRoot)
	return []entry{
		directory("etc", 0o755),
		text("etc/group", fmt.Appendf(nil, "root:x:0:\nadm:x:4:\nnonroot:x:%d:\n", nonRoot)),
		text("etc/passwd", []byte("root:x:0:0:root:/:/nonexistent\n"+user)),
		directory("etc/ssl", 0o755),
		directory("etc/ssl/certs", 0o755),
		text("etc/ssl/certs/ca-certificates.crt", authorities()),
		directory("tmp", 0o1777),
	}
}

// authorities are Mozilla's. Those that it trusts under a condition are left out, since a file cannot say a condition.
func authorities() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
		}
	}
	return out.Bytes()
}
