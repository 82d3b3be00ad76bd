// Package page writes generated parts into a page that people wrote around.
package page

import (
	"fmt"
	"os"
	"strings"
)

// Part is a generated part of a page.
type Part struct {
	Name string // of what is in it
	Make string // the target of make that writes it
}

// Start is the line before it.
func (p Part) Start() string { return fmt.Sprintf("<!-- %s: written by make %s -->", p.Name, p.Make) }

// End is the line behind it.
func (p Part) End() string { return fmt.Sprintf("<!-- end of %s -->", p.Name) }

// Replace puts body between the two lines of a part. Everything else stays.
func Replace(name string, p Part, body string) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), p.Start())
	_, foot, ok2 := strings.Cut(rest, p.End())
	if !ok || !ok2 {
		return fmt.Errorf("%s lacks the lines %q and %q that the results stand between", name, p.Start(), p.End())
	}
	return os.WriteFile(name, []byte(head+p.Start()+"\n\n"+strings.Trim(body, "\n")+"\n\n"+p.End()+foot), 0o644)
}
