// Command gen makes zz_generated.reasons.go, zz_generated.lines.go, docs/reasons.md and the default RepairPolicy from
// reasons.yaml. Run it with `go generate ./pkg/health`.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// Paths are relative to pkg/health.
const (
	catalogueFile = "reasons.yaml"
	goFile        = "zz_generated.reasons.go"
	linesFile     = "zz_generated.lines.go"
	markdownFile  = "../../docs/reasons.md"
	policyFile    = "../../charts/autorepair/files/default-repairpolicy.yaml"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	data, err := os.ReadFile(catalogueFile)
	if err != nil {
		return fmt.Errorf("reading the catalogue, %w", err)
	}
	files, err := generate(data)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("making the folder of %s, %w", name, err)
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return fmt.Errorf("writing %s, %w", name, err)
		}
	}
	return nil
}

// generate gives the content of every generated file, by path.
func generate(data []byte) (map[string][]byte, error) {
	c, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s, %w", catalogueFile, err)
	}
	code, err := goSource(c)
	if err != nil {
		return nil, err
	}
	lines, err := linesSource(c)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{goFile: code, linesFile: lines, markdownFile: markdown(c), policyFile: policy(c)}, nil
}
