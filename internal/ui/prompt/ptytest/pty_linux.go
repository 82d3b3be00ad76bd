// Package ptytest is a terminal for tests, and a person in front of it.
package ptytest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a person waits for the other side.
const patience = 30 * time.Second

// Person types and reads at a pseudo-terminal. What is not awaited is not read: a
// program that prints a lot waits.
type Person struct {
	TTY *os.File // the program's side

	t      testing.TB
	master *os.File
	shown  string // of what has not been awaited
}

// Open makes a terminal of 80 columns and 24 lines.
func Open(t testing.TB) *Person {
	t.Helper()
	master, tty, err := pair()
	if err != nil {
		t.Fatalf("pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { _, _ = tty.Close(), master.Close() })
	return &Person{TTY: tty, t: t, master: master}
}

func pair() (master, tty *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = master.Close()
		}
	}()
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var no int
	cerr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if err == nil {
			no, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
		if err == nil {
			err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
		}
	})
	if err = errors.Join(err, cerr); err != nil {
		return nil, nil, err
	}
	fd, err := unix.Open(fmt.Sprintf("/dev/pts/%d", no), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return master, os.NewFile(uintptr(fd), "tty"), nil
}

// Type types.
func (p *Person) Type(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatalf("type %q: %v", keys, err)
	}
}

// Await reads until a text is shown, and returns all that came up to its end since
// the last time.
func (p *Person) Await(text string) string {
	p.t.Helper()
	if err := p.master.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		if i := strings.Index(p.shown, text); i >= 0 {
			seen := p.shown[:i+len(text)]
			p.shown = p.shown[i+len(text):]
			return seen
		}
		n, err := p.master.Read(buf)
		p.shown += string(buf[:n])
		if err != nil {
			p.t.Fatalf("the terminal does not show %q, but (%v):\n%q", text, err, p.shown)
		}
	}
}
