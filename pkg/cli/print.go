package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"
)

// View is what a command shows. For json and yaml it is marshalled as it is; Sections are for people.
type View interface {
	// Sections in the order in which they are shown. Wide has what else there is to say.
	Sections(wide bool) []Section
}

// Section is a part of a view for people: a table, or lines of text, below a title.
type Section struct {
	// Title in capitals; empty for none.
	Title string
	Lines []string
	Table *Table
	// After are lines below the table.
	After []string
}

// Table is a table for people. A column whose name ends in + is shown with --output=wide only.
type Table struct {
	Columns []string
	Rows    [][]string
}

// Print prints a view to standard output as --output asks.
func (o *Options) Print(view View) error { return o.printTo(o.Out, view) }

func (o *Options) printTo(out io.Writer, view View) error {
	switch o.Output {
	case FormatJSON:
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(view); err != nil {
			return fmt.Errorf("printing as json, %w", err)
		}
		return nil
	case FormatYAML:
		text, err := yaml.Marshal(view)
		if err != nil {
			return fmt.Errorf("printing as yaml, %w", err)
		}
		_, err = out.Write(text)
		return err //nolint:wrapcheck // nothing to add
	default:
		return o.printSections(out, view.Sections(o.Output == FormatWide))
	}
}

func (o *Options) printSections(out io.Writer, sections []Section) error {
	colours := o.colours()
	var text bytes.Buffer
	for i, section := range sections {
		if i > 0 {
			fmt.Fprintln(&text)
		}
		if section.Title != "" {
			fmt.Fprintln(&text, colours.title(section.Title))
		}
		for _, line := range section.Lines {
			fmt.Fprintln(&text, colours.line(printable(line)))
		}
		if section.Table == nil {
			continue
		}
		lines, err := section.Table.render(o.Output == FormatWide)
		if err != nil {
			return err
		}
		fmt.Fprint(&text, colours.table(lines))
		for _, line := range section.After {
			fmt.Fprintln(&text, printable(line))
		}
	}
	_, err := out.Write(text.Bytes())
	return err //nolint:wrapcheck // nothing to add
}

// render lays the table out as kubectl lays out its own.
func (t *Table) render(wide bool) (string, error) {
	table := &metav1.Table{}
	for _, name := range t.Columns {
		column := metav1.TableColumnDefinition{Name: name, Type: "string"}
		if name[len(name)-1] == '+' {
			column.Name, column.Priority = name[:len(name)-1], 1
		}
		table.ColumnDefinitions = append(table.ColumnDefinitions, column)
	}
	for _, row := range t.Rows {
		cells := make([]any, len(row))
		for i, cell := range row {
			cells[i] = cell
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: cells})
	}
	var text bytes.Buffer
	if err := printers.NewTablePrinter(printers.PrintOptions{Wide: wide}).PrintObj(table, &text); err != nil {
		return "", fmt.Errorf("printing a table, %w", err)
	}
	return text.String(), nil
}

// printable lets nothing through that a terminal obeys: messages come from nodes.
func printable(text string) string {
	var out bytes.Buffer
	_ = printers.WriteEscaped(&out, text)
	return out.String()
}
