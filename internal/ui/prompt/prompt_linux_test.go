package prompt_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/term"

	"github.com/holdfast-backup/holdfast/internal/ui/prompt"
	"github.com/holdfast-backup/holdfast/internal/ui/prompt/ptytest"
)

type answer struct {
	line string
	err  error
}

// reader reads lines at a terminal in the background; one for each value sent.
func reader(t *testing.T, p *ptytest.Person, complete prompt.Completer) (ask chan<- context.Context, answers <-chan answer) {
	t.Helper()
	term, err := prompt.Open(p.TTY, p.TTY, complete)
	if err != nil {
		t.Fatal(err)
	}
	in, out := make(chan context.Context), make(chan answer)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx := range in {
			line, err := term.ReadLine(ctx, "> ")
			out <- answer{line, err}
		}
	}()
	t.Cleanup(func() {
		close(in)
		<-done
		if err := term.Close(); err != nil {
			t.Error(err)
		}
	})
	return in, out
}

func TestLinesAreEditedAndRemembered(t *testing.T) {
	p := ptytest.Open(t)
	before, err := term.GetState(int(p.TTY.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ask, answers := reader(t, p, nil)
	for _, tc := range []struct{ keys, want string }{
		{"first line\r", "first line"},
		{"seconX\x7fd\r", "second"},
		{"\x1b[A\x1b[A!\r", "first line!"}, // two up
		{"b\x01a\x05c\r", "abc"},           // to the start, to the end
		{"grün\x1b[D\x1b[Du\r", "gruün"},
		{"\x1b[A\x1b[B\r", ""}, // up and down again
	} {
		ask <- t.Context()
		p.Await("> ")
		p.Type(tc.keys)
		if got := <-answers; got.err != nil || got.line != tc.want {
			t.Errorf("%q gives %q, %v, want %q", tc.keys, got.line, got.err, tc.want)
		}
		after, err := term.GetState(int(p.TTY.Fd()))
		if err != nil || *after != *before {
			t.Fatalf("after %q the terminal is not as it was: %v", tc.keys, err)
		}
	}
}

func TestWhatIsTypedAheadIsTheNextLine(t *testing.T) {
	p := ptytest.Open(t)
	ask, answers := reader(t, p, nil)
	ask <- t.Context()
	p.Await("> ")
	p.Type("one\rtwo\rthree\x03four\r")
	want := []answer{{"one", nil}, {"two", nil}, {"", prompt.ErrInterrupted}, {"four", nil}}
	for i, w := range want {
		if i > 0 {
			ask <- t.Context()
		}
		if got := <-answers; got.line != w.line || !errors.Is(got.err, w.err) {
			t.Errorf("line %d is %q, %v, want %q, %v", i, got.line, got.err, w.line, w.err)
		}
	}
}

func TestInterruptForgetsTheLineAndKeepsTheHistory(t *testing.T) {
	p := ptytest.Open(t)
	ask, answers := reader(t, p, nil)
	for _, tc := range []struct {
		keys, want string
		err        error
	}{
		{"kept\r", "kept", nil},
		{"half a li\x03", "", prompt.ErrInterrupted},
		{"\x1b[A\r", "kept", nil},
		{"x\x04y\r", "xy", nil}, // Ctrl-D ends an empty line only
		{"\x04", "", io.EOF},
	} {
		ask <- t.Context()
		p.Await("> ")
		p.Type(tc.keys)
		if got := <-answers; !errors.Is(got.err, tc.err) || got.line != tc.want {
			t.Errorf("%q gives %q, %v, want %q, %v", tc.keys, got.line, got.err, tc.want, tc.err)
		}
	}
}

func TestTabCompletesOrShowsTheChoices(t *testing.T) {
	p := ptytest.Open(t)
	all := []string{"apple", "apricot", "banana"}
	ask, answers := reader(t, p, func(before string) (string, []string) {
		var fit []string
		for _, w := range all {
			if strings.HasPrefix(w, before) {
				fit = append(fit, w)
			}
		}
		switch {
		case len(fit) == 1:
			return fit[0] + " ", nil
		case before == "a":
			return "ap", fit
		}
		return before, fit
	})
	ask <- t.Context()
	p.Await("> ")
	p.Type("b\tx\r")
	if got := <-answers; got.line != "banana x" {
		t.Errorf("%q", got.line)
	}
	ask <- t.Context()
	p.Await("> ")
	p.Type("a\t")
	if seen := p.Await("p"); strings.Contains(seen, "apricot") {
		t.Errorf("choices are shown although the line went on: %q", seen)
	}
	p.Type("\t")
	p.Await("apple    apricot\r\n")
	p.Await("> ap")
	p.Type("r\t\x1b[H\x1b[C\r") // one key to the right of the start
	if got := <-answers; got.line != "apricot " {
		t.Errorf("%q", got.line)
	}
}

func TestReadingEndsWithTheContext(t *testing.T) {
	p := ptytest.Open(t)
	before, err := term.GetState(int(p.TTY.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ask, answers := reader(t, p, nil)
	why := errors.New("terminated")
	ctx, cancel := context.WithCancelCause(t.Context())
	ask <- ctx
	p.Await("> ")
	p.Type("half")
	p.Await("half")
	cancel(why)
	if got := <-answers; !errors.Is(got.err, why) {
		t.Errorf("%q, %v", got.line, got.err)
	}
	if after, err := term.GetState(int(p.TTY.Fd())); err != nil || *after != *before {
		t.Errorf("the terminal is not as it was: %v", err)
	}
}

func TestPipeIsNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	if _, err := prompt.Open(r, w, nil); err == nil {
		t.Error("a pipe is taken for a terminal")
	}
}
