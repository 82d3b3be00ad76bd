package ui

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Align is the side a column is pushed to.
type Align uint8

// The sides.
const (
	Left Align = iota
	Right
)

// Column is the head of one column.
type Column struct {
	Title string
	Align Align
}

// Table is rows of text under titles, printed aligned:
//
//	SNAPSHOT                      SIZE      FILES
//	vm/100/2026-11-22T10:00:00Z   8 GiB     disk.img, vm.conf
//
// Cells are cleaned; an empty table prints its titles only.
type Table struct {
	Columns []Column
	rows    [][]string
}

// Add appends a row; missing cells are empty.
func (t *Table) Add(cells ...string) {
	row := make([]string, len(t.Columns))
	for i, c := range cells[:min(len(cells), len(row))] {
		row[i] = Clean(c)
	}
	t.rows = append(t.rows, row)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write prints the table, its titles in bold on a terminal that shows it.
func (t *Table) Write(w io.Writer, p Palette) error {
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		widths[i] = width(c.Title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], width(row[i]))
		}
	}
	var b strings.Builder
	titles := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		titles[i] = c.Title
	}
	t.line(&b, widths, titles, p.Bold)
	for _, row := range t.rows {
		t.line(&b, widths, row, nil)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) line(b *strings.Builder, widths []int, cells []string, style func(string) string) {
	last := len(cells) - 1
	for last >= 0 && cells[last] == "" { // no blanks at line ends
		last--
	}
	for i := 0; i <= last; i++ {
		pad := strings.Repeat(" ", widths[i]-width(cells[i]))
		cell := cells[i]
		if style != nil {
			cell = style(cell)
		}
		switch {
		case t.Columns[i].Align == Right:
			b.WriteString(pad + cell)
		case i == last:
			b.WriteString(cell)
		default:
			b.WriteString(cell + pad)
		}
		if i < last {
			b.WriteString("   ")
		}
	}
	b.WriteByte('\n')
}

func width(s string) int { return utf8.RuneCountInString(s) }

// Clean replaces everything that a terminal could obey (control characters,
// line feeds, direction marks, invalid UTF-8) by U+FFFD.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// CleanText is [Clean] for texts of several lines.
func CleanText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// FirstLine returns the first line of a text, the part that listings show.
func FirstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
