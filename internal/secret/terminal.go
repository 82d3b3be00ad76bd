package secret

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// Terminal asks on a terminal without echo.
type Terminal struct {
	In  *os.File
	Out io.Writer // where the question goes: standard error
}

// OnTerminal returns an Asker if in is a terminal, else nil.
func OnTerminal(in io.Reader, out io.Writer) Asker {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return Terminal{In: f, Out: out}
	}
	return nil
}

// Ask implements Asker.
func (t Terminal) Ask(prompt string) (Secret, error) {
	if _, err := fmt.Fprint(t.Out, prompt); err != nil {
		return Secret{}, err
	}
	b, err := term.ReadPassword(int(t.In.Fd()))
	_, _ = fmt.Fprintln(t.Out)
	if err != nil {
		return Secret{}, fmt.Errorf("read the password from the terminal: %w", err)
	}
	return New(b), nil
}
