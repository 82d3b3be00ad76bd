package inside

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
)

// readNames is how many names of a directory are read at a time.
const readNames = 1024

// node is a file that a path leads to, in a directory that is open.
type node struct {
	parent *os.File // O_PATH
	name   string   // "" for the root: parent itself
	st     unix.Stat_t
}

func (n *node) Close() error { return n.parent.Close() }

func (n *node) isDir() bool { return n.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// find follows the names of a place, each from the directory before, and no symbolic
// link.
func (at place) find() (*node, error) {
	fd, err := unix.Open(at.mount, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at.at, err)
	}
	n := &node{parent: os.NewFile(uintptr(fd), at.mount)}
	if err := unix.Fstat(fd, &n.st); err != nil {
		_ = n.Close()
		return nil, fmt.Errorf("%s: %w", at.at, err)
	}
	base := at.at
	for _, name := range at.names {
		if err := n.step(base, name); err != nil {
			_ = n.Close()
			return nil, err
		}
		base = base.Join(name)
	}
	return n, nil
}

// step goes from a directory to a name in it.
func (n *node) step(base filerestore.Path, name string) error {
	switch n.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
	case unix.S_IFLNK:
		target, _ := readlink(int(n.parent.Fd()), n.name)
		return fmt.Errorf("%s is a symbolic link to %q, which is not followed: %w", base, target, fs.ErrNotExist)
	default:
		return missing(base.Join(name))
	}
	if n.name != "" {
		fd, err := unix.Openat(int(n.parent.Fd()), n.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
		_ = n.parent.Close()
		n.parent = os.NewFile(uintptr(fd), n.name)
	}
	n.name = name
	err := unix.Fstatat(int(n.parent.Fd()), name, &n.st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENAMETOOLONG) {
		return missing(base.Join(name))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", base.Join(name), err)
	}
	return nil
}

// openDir opens a directory for reading.
func openDir(parent int, name string) (*os.File, error) {
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func readlink(dir int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// list lists what is at a path.
func (m *machine) list(c Call, item func(Item) error) error {
	p := c.Path()
	at, err := m.resolve(p)
	if err != nil {
		return err
	}
	if at.mount == "" {
		for _, i := range at.items {
			if err := item(i); err != nil {
				return err
			}
		}
		return nil
	}
	n, err := at.find()
	if err != nil {
		return err
	}
	defer n.Close()
	if !n.isDir() {
		return item(itemOf("", &n.st))
	}
	dir, err := openDir(int(n.parent.Fd()), n.name)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(readNames)
		for _, name := range names {
			var st unix.Stat_t
			if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				m.notice("%s: %v", p.Join(name), err)
				st.Mode = unix.S_IFREG // the name is there, and that is what can be said
				i := itemOf(name, &st)
				i.Size, i.Mtime = nil, nil
				if err := item(i); err != nil {
					return err
				}
				continue
			}
			if err := item(itemOf(name, &st)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
}

func itemOf(name string, st *unix.Stat_t) Item {
	i := Item{Name: []byte(name), Type: byte(map[uint32]filerestore.Type{
		unix.S_IFDIR: filerestore.Dir, unix.S_IFLNK: filerestore.Symlink, unix.S_IFBLK: filerestore.BlockDevice,
		unix.S_IFCHR: filerestore.CharDevice, unix.S_IFIFO: filerestore.FIFO, unix.S_IFSOCK: filerestore.Socket, unix.S_IFREG: filerestore.File,
	}[st.Mode&unix.S_IFMT])}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		size, mtime := st.Size, int64(st.Mtim.Sec) //nolint:unconvert // narrower on some machines
		i.Size, i.Mtime = &size, &mtime
	}
	return i
}

// pathOf is names as a path from the root of a stream.
func pathOf(names []string) string { return "/" + strings.Join(names, "/") }
