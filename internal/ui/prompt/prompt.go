// Package prompt reads lines from a person at a terminal, with editing, a history
// and completion.
//
// While a line is read the terminal is in raw mode; at all other times it is as it
// was, so that Ctrl-C is a signal then. The keys are those of golang.org/x/term:
// arrows, Home, End, Ctrl-A, -E, -K, -U, -W, -L, Alt with arrows, Tab.
package prompt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// ErrInterrupted says that Ctrl-C was typed instead of a line.
var ErrInterrupted = errors.New("interrupted")

// Completer is asked what a line may go on with, when Tab is typed behind before.
// It returns what is to stand there instead; if that is the same, what there is to
// choose from.
type Completer func(before string) (now string, choices []string)

// Terminal reads lines. It belongs to one goroutine.
type Terminal struct {
	in       *os.File
	keys     *keys
	edit     *term.Terminal
	complete Completer
	width    int
}

// Open takes a terminal that keys come from, which stays open, and where to show
// what is typed: the same terminal. complete may be nil.
func Open(in *os.File, out io.Writer, complete Completer) (*Terminal, error) {
	if !term.IsTerminal(int(in.Fd())) {
		return nil, fmt.Errorf("%s is no terminal", in.Name())
	}
	t := &Terminal{in: in, keys: &keys{Writer: out, tty: reopen(in)}, complete: complete}
	t.restart(nil)
	return t, nil
}

// restart forgets the line that is being written.
func (t *Terminal) restart(history term.History) {
	t.edit = term.NewTerminal(t.keys, "")
	t.edit.AutoCompleteCallback = t.tab
	if history != nil {
		t.edit.History = history
	}
}

// Close gives back what Open took.
func (t *Terminal) Close() error {
	if t.keys.tty != t.in {
		return t.keys.tty.Close()
	}
	return nil
}

// ReadLine shows a prompt and returns a line; [io.EOF] for Ctrl-D on an empty one,
// [ErrInterrupted] for Ctrl-C. It ends with the context, where the system can.
func (t *Terminal) ReadLine(ctx context.Context, prompt string) (line string, err error) {
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	fd := int(t.in.Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	defer func() {
		if rerr := term.Restore(fd, state); err == nil && rerr != nil {
			err = fmt.Errorf("terminal: %w", rerr)
		}
	}()
	t.width = 80
	if width, height, err := term.GetSize(fd); err == nil && width > 0 && height > 0 {
		t.width = width
		_ = t.edit.SetSize(width, height) // it redraws an empty line
	}
	stop := context.AfterFunc(ctx, func() { _ = t.keys.tty.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	t.edit.SetPrompt(prompt)
	t.keys.interrupted = false
	line, err = t.edit.ReadLine()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case t.keys.interrupted && errors.Is(err, io.EOF):
		t.restart(t.edit.History)
		err = ErrInterrupted
	case err == nil:
		return line, nil
	}
	_, _ = io.WriteString(t.keys, "\r\n") // the cursor stands behind what was written
	return "", err
}

// tab is called for each key.
func (t *Terminal) tab(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' || t.complete == nil {
		return "", 0, false
	}
	now, choices := t.complete(line[:pos])
	if now == line[:pos] && len(choices) > 0 {
		_, _ = io.WriteString(t.edit, columns(choices, t.width))
	}
	return now + line[pos:], len(now), true
}

// columns lays out words as wide as the terminal is.
func columns(words []string, width int) string {
	wide := 0
	for _, w := range words {
		wide = max(wide, utf8.RuneCountInString(w)+2)
	}
	n := max(1, width/wide)
	rows := (len(words) + n - 1) / n
	var b strings.Builder
	for row := range rows {
		for i := row; i < len(words); i += rows {
			b.WriteString(words[i])
			if i+rows < len(words) {
				b.WriteString(strings.Repeat(" ", wide-utf8.RuneCountInString(words[i])))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const ctrlC = 'C' - '@'

// keys reads a terminal, up to the end of a line or a Ctrl-C at a time: the line
// editor says io.EOF for that, as for the end.
type keys struct {
	io.Writer
	tty         *os.File
	buf         [256]byte
	rest        []byte // of what was read
	interrupted bool   // the last byte that was handed out was Ctrl-C
}

func (k *keys) Read(p []byte) (int, error) {
	if len(k.rest) == 0 {
		n, err := k.tty.Read(k.buf[:])
		if n == 0 {
			return 0, err
		}
		k.rest = k.buf[:n]
	}
	n := min(len(p), len(k.rest))
	if i := bytes.IndexAny(k.rest[:n], "\r\n"+string(rune(ctrlC))); i >= 0 {
		n = i + 1
	}
	copy(p, k.rest[:n])
	k.interrupted = n > 0 && p[n-1] == ctrlC
	k.rest = k.rest[n:]
	return n, nil
}
