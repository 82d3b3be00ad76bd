package secret

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
)

// maxLine bounds what is read for one password, in bytes.
const maxLine = 64 << 10

// Asker asks a person. It is nil where there is nobody to ask.
type Asker interface {
	Ask(prompt string) (Secret, error)
}

// Source finds passwords.
type Source struct {
	Lookup func(string) (string, bool) // os.LookupEnv
	Asker  Asker
}

// Get returns the password called base ("ENCRYPTION_PASSWORD"); what names it
// for people.
func (s Source) Get(ctx context.Context, base, what string) (Secret, error) {
	v, ok, err := s.FromEnv(ctx, base)
	switch {
	case err != nil:
		return Secret{}, err
	case ok:
		return v, nil
	case s.Asker == nil:
		return Secret{}, &MissingError{What: what, Env: "PBS_" + base}
	}
	return s.Asker.Ask(what + ": ")
}

// GetNew returns a new password: from the environment, or typed twice.
func (s Source) GetNew(ctx context.Context, base, what string) (Secret, error) {
	v, ok, err := s.FromEnv(ctx, base)
	switch {
	case err != nil:
		return Secret{}, err
	case ok:
		return v, nil
	case s.Asker == nil:
		return Secret{}, &MissingError{What: what, Env: "PBS_" + base}
	}
	first, err := s.Asker.Ask(what + ": ")
	if err != nil {
		return Secret{}, err
	}
	again, err := s.Asker.Ask("the same again: ")
	if err != nil {
		return Secret{}, err
	}
	if !first.Equal(again) {
		return Secret{}, errors.New("the two passwords differ: nothing was changed")
	}
	return first, nil
}

// FromEnv looks only at the environment.
func (s Source) FromEnv(ctx context.Context, base string) (Secret, bool, error) {
	for _, prefix := range []string{"HOLDFAST_", "PBS_"} {
		name := prefix + base
		if v, ok := s.Lookup(name); ok {
			return New([]byte(v)), true, nil
		}
		for _, form := range []struct {
			suffix string
			read   func(context.Context, string) ([]byte, error)
		}{{"_FD", fromFD}, {"_FILE", fromFile}, {"_CMD", fromCommand}} {
			v, ok := s.Lookup(name + form.suffix)
			if !ok {
				continue
			}
			b, err := form.read(ctx, v)
			if err != nil {
				return Secret{}, false, fmt.Errorf("read the password that %s points to: %w", name+form.suffix, err)
			}
			return New(b), true, nil
		}
	}
	return Secret{}, false, nil
}

func fromFD(_ context.Context, v string) ([]byte, error) {
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("%q is not the number of a descriptor", v)
	}
	if n == 0 {
		return firstLine(os.Stdin) // stays open, others hold it too
	}
	f := os.NewFile(uintptr(n), "descriptor "+v)
	if f == nil {
		return nil, fmt.Errorf("descriptor %s is not open", v)
	}
	defer func() { _ = f.Close() }()
	return firstLine(f)
}

func fromFile(_ context.Context, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return firstLine(f)
}

func fromCommand(ctx context.Context, line string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line) //nolint:gosec // the user's own command, as PBS_*_CMD promises
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("the command failed: %w", err)
	}
	return firstLine(bytes.NewReader(out))
}

// firstLine returns the first line without its end.
func firstLine(r io.Reader) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(line) >= maxLine {
		return nil, fmt.Errorf("the first line is longer than %d bytes", maxLine)
	}
	return bytes.TrimRight(line, "\r\n"), nil
}
