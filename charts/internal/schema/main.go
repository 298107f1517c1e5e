// Command schema makes values.schema.json of each chart from its values.yaml. It fails on a value that has no
// description or of which nothing is said about what it takes. Run it with `make generate`.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	for _, chart := range os.Args[1:] {
		if err := write(chart); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func write(chart string) error {
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return fmt.Errorf("reading the values, %w", err)
	}
	schema, err := generate(text)
	if err != nil {
		return fmt.Errorf("reading %s/values.yaml, %w", chart, err)
	}
	if err := os.WriteFile(filepath.Join(chart, "values.schema.json"), schema, 0o644); err != nil {
		return fmt.Errorf("writing the schema, %w", err)
	}
	return nil
}
