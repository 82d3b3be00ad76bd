package inside

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Main answers one question. What it returns is the process' exit code, which is
// not 0 only where no answer could be given.
func Main(args []string) int {
	if err := run(args, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "holdfast:", err)
		return 1
	}
	return 0
}

func run(args []string, in io.Reader, out io.Writer) error {
	if _, err := os.Stat(DisksFile); err != nil {
		return fmt.Errorf("this program runs in the restore machine only: %w", err)
	}
	if len(args) != 1 {
		return fmt.Errorf("one operation is wanted, not %q", args)
	}
	var c Call
	if err := json.NewDecoder(in).Decode(&c); err != nil {
		return fmt.Errorf("call: %w", err)
	}
	m, err := openMachine()
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 64<<10)
	switch args[0] {
	case "list":
		err = m.answer(w, func(item func(Item) error) error { return m.list(c, item) })
	case "locked":
		err = m.answer(w, m.listLocked)
	case "unlock":
		err = m.answer(w, func(func(Item) error) error { return m.unlock(c) })
	case "tree":
		err = m.tree(c, w)
	case "header":
		err = m.header(c, w)
	default:
		return fmt.Errorf("there is no operation %q", args[0])
	}
	return errors.Join(err, w.Flush())
}

// answer writes the items that job gives, the notices, and the end.
func (m *machine) answer(w io.Writer, job func(func(Item) error) error) error {
	out := json.NewEncoder(w)
	var broken error
	err := job(func(i Item) error {
		broken = out.Encode(i)
		return broken
	})
	if broken != nil {
		return broken
	}
	for _, n := range m.notices {
		if err := out.Encode(Item{Notice: n}); err != nil {
			return err
		}
	}
	return out.Encode(Item{End: true, Error: errorOf(err)})
}

// errLocked is wrapped by errors about encrypted volumes.
var errLocked = errors.New("it is encrypted, and its passphrase has not been given")

func errorOf(err error) *Error {
	if err == nil {
		return nil
	}
	e := &Error{Text: err.Error()}
	unsupported := (*fsread.UnsupportedError)(nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Kind = Missing
	case errors.Is(err, errLocked):
		e.Kind = Locked
	case errors.As(err, &unsupported):
		e.Kind = Unsupported
	case errors.Is(err, filerestore.ErrPath):
		e.Kind = BadPath
	}
	return e
}

// lock serialises what changes the state of the whole machine.
func lock() (unlock func(), err error) {
	fd, err := unix.Open("/run/holdfast-restore.lock", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err := unix.Flock(fd, unix.LOCK_EX)
		if err == nil {
			return func() { _ = unix.Close(fd) }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("lock: %w", err)
		}
	}
}
