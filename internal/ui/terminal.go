package ui

import (
	"os"

	"golang.org/x/term"
)

// IsTerminal reports whether w is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Palette styles words, or leaves them alone.
type Palette struct{ on bool }

// NewPalette decides for one writer: colours only on a terminal, and not with
// NO_COLOR set or on a dumb one.
func NewPalette(w any, getenv func(string) string) Palette {
	return Palette{on: IsTerminal(w) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
}

func (p Palette) style(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Bold is for titles.
func (p Palette) Bold(s string) string { return p.style("1", s) }

// Dim is for what matters less.
func (p Palette) Dim(s string) string { return p.style("2", s) }

// Red is for failures.
func (p Palette) Red(s string) string { return p.style("31", s) }

// Green is for success.
func (p Palette) Green(s string) string { return p.style("32", s) }

// Yellow is for warnings.
func (p Palette) Yellow(s string) string { return p.style("33", s) }
