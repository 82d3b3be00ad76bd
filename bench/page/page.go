// Package page writes generated parts into a page that people wrote around.
package page

import (
	"fmt"
	"os"
	"strings"
)

// Replace puts body between the lines start and end of the page. Everything
// else stays.
func Replace(name, start, end, body string) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), start)
	_, foot, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s lacks the lines %q and %q that the results stand between", name, start, end)
	}
	return os.WriteFile(name, []byte(head+start+"\n\n"+body+end+foot), 0o644)
}
