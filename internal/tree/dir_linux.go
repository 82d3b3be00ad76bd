package tree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
)

// dir is an open directory. Its descriptor is closed with its last user.
type dir struct {
	above *dir
	name  string
	fd    int
	dev   uint64
	fs    *filemeta.FS
	users atomic.Int32
}

func (d *dir) hold() *dir {
	d.users.Add(1)
	return d
}

func (d *dir) release() {
	if d.users.Add(-1) == 0 {
		_ = unix.Close(d.fd) // was only read
	}
}

// path is that of a name in the directory, from the root of the archive.
func (d *dir) path(name string) string {
	if d == nil {
		return "/"
	}
	n := len(name) + 1
	for p := d; p.above != nil; p = p.above {
		n += len(p.name) + 1
	}
	b := make([]byte, n)
	put := func(s string) {
		n -= len(s)
		copy(b[n:], s)
		n--
		b[n] = '/'
	}
	put(name)
	for p := d; p.above != nil; p = p.above {
		put(p.name)
	}
	return string(b)
}

// components are the names from the root to name.
func (d *dir) components(name string) []string {
	all := []string{name}
	for p := d; p.above != nil; p = p.above {
		all = append(all, p.name)
	}
	slices.Reverse(all)
	return all
}

const excludeFile = ".pxarexclude"

// maxExcludeFile bounds a file of patterns, in bytes.
const maxExcludeFile = 16 << 20

// listing is what a directory holds, sorted. The names lie in one block: a
// directory may have a million.
type listing struct {
	names    []byte
	all      []listed
	patterns []byte // content of .pxarexclude
	err      error  // why names are missing
	badFile  error  // why the patterns are
}

type listed struct {
	off int
	len uint16
	typ uint8 // d_type
}

func (l *listing) name(e listed) []byte { return l.names[e.off : e.off+int(e.len)] }

// Layout of linux_dirent64: inode 8, offset 8, record length 2, type 1, name.
const (
	direntLen  = 16
	direntType = 18
	direntName = 19
)

// list reads a directory and sorts it. buf is scratch.
func list(fd int, buf []byte) *listing {
	l := new(listing)
	hasPatterns := false
	for {
		n, err := unix.ReadDirent(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			l.err = fmt.Errorf("list: %w", err)
		}
		if err != nil || n == 0 {
			break
		}
		for b := buf[:n]; len(b) > direntName; {
			size := int(binary.NativeEndian.Uint16(b[direntLen:]))
			if size <= direntName || size > len(b) {
				break
			}
			name, typ := b[direntName:size], b[direntType]
			b = b[size:]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			if string(name) == "." || string(name) == ".." {
				continue
			}
			hasPatterns = hasPatterns || string(name) == excludeFile
			l.all = append(l.all, listed{len(l.names), uint16(len(name)), typ})
			l.names = append(l.names, name...)
		}
	}
	slices.SortFunc(l.all, func(a, b listed) int {
		return cmp.Or(bytes.Compare(l.name(a), l.name(b)), cmp.Compare(a.off, b.off))
	})
	if hasPatterns {
		l.patterns, l.badFile = readPatterns(fd)
	}
	return l
}

// readPatterns reads the .pxarexclude file of a directory, if it is a file.
func readPatterns(dir int) ([]byte, error) {
	fd, err := openFile(dir, excludeFile)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
			err = nil
		}
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	if st.Size > maxExcludeFile {
		return nil, fmt.Errorf("%d bytes of patterns are too many (limit %d)", st.Size, maxExcludeFile)
	}
	return io.ReadAll(io.LimitReader(descriptor(fd), maxExcludeFile))
}

// descriptor reads from a descriptor that someone else closes.
type descriptor int

func (d descriptor) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(d), p)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Flags of every open: no links are followed, no FIFO is waited for, no terminal
// is taken over.
const openFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK

// openFile opens without a trace in atime where that is allowed.
func openFile(dir int, name string) (int, error) { return open(dir, name, 0) }

func openDir(dir int, name string) (int, error) { return open(dir, name, unix.O_DIRECTORY) }

func open(dir int, name string, more int) (fd int, err error) {
	for {
		fd, err = unix.Openat(dir, name, openFlags|more|unix.O_NOATIME, 0)
		if errors.Is(err, unix.EPERM) {
			fd, err = unix.Openat(dir, name, openFlags|more, 0)
		}
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
