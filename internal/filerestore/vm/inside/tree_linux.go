package inside

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/vm/treewire"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// walk sends a tree. The directories on the path are open, their names in memory.
type walk struct {
	out   *treewire.Writer
	call  Call
	fs    *filemeta.FS
	names []string
	links map[inode]first
	buf   []byte
}

type inode struct{ dev, ino uint64 }

// first is a file that further names of it link to.
type first struct {
	path   string
	number int64
}

// errOutput marks errors of the stream, which end everything.
type errOutput struct{ error }

// tree answers with what is at a path.
func (m *machine) tree(c Call, w io.Writer) error {
	out := treewire.NewWriter(w)
	err := m.sendTree(c, out)
	if broken, ok := errors.AsType[errOutput](err); ok {
		return broken.error
	}
	return out.End(err)
}

func (m *machine) sendTree(c Call, out *treewire.Writer) error {
	at, err := m.resolve(c.Path())
	if err != nil {
		return err
	}
	for _, n := range m.notices {
		if err := out.Notice(n); err != nil {
			return errOutput{err}
		}
	}
	if at.mount == "" {
		return fmt.Errorf("%w: %s is a list of volumes, choose one of them", filerestore.ErrPath, c.Path())
	}
	n, err := at.find()
	if err != nil {
		return err
	}
	defer n.Close()
	root, err := os.Open(at.mount)
	if err != nil {
		return err
	}
	defer root.Close()
	w := &walk{out: out, call: c, links: map[inode]first{}, buf: make([]byte, 128<<10)}
	if w.fs, err = filemeta.Of(int(root.Fd())); err != nil {
		return err
	}
	if n.isDir() {
		return w.directory(int(n.parent.Fd()), n.name, "", &n.st)
	}
	top := &pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory | 0o755}}
	if _, err := out.Entry(top); err != nil {
		return errOutput{err}
	}
	name := n.name
	if c.Name != nil {
		name = string(c.Name)
	}
	w.names = []string{name}
	if err := w.entry(int(n.parent.Fd()), n.name, name, &n.st); err != nil {
		return err
	}
	return w.end()
}

func (w *walk) end() error {
	if _, err := w.out.Entry(&pxar.Entry{Kind: pxar.End}); err != nil {
		return errOutput{err}
	}
	return nil
}

// problem leaves an entry out.
func (w *walk) problem(err error) error {
	if err := w.out.Problem(pathOf(w.names), err); err != nil {
		return errOutput{err}
	}
	return nil
}

// directory sends a directory with all below it, under a name of the stream. It is
// left out as a whole where it cannot be read.
func (w *walk) directory(parent int, name, as string, st *unix.Stat_t) error {
	dir, err := openDir(parent, name)
	if err != nil {
		return w.problem(err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return w.problem(err)
	}
	slices.Sort(names)
	e := &pxar.Entry{Name: as, Kind: pxar.Directory}
	if err := w.metadata(int(dir.Fd()), st, e); err != nil {
		return w.problem(err)
	}
	if _, err := w.out.Entry(e); err != nil {
		return errOutput{err}
	}
	depth := len(w.names)
	for _, n := range names {
		w.names = append(w.names[:depth], n)
		if err := w.child(dir, n); err != nil {
			return err
		}
	}
	w.names = w.names[:depth]
	return w.end()
}

func (w *walk) child(dir *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return w.problem(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if len(w.names) >= pxar.MaxDepth {
			return w.problem(fmt.Errorf("more than %d directories in each other", pxar.MaxDepth))
		}
		return w.directory(int(dir.Fd()), name, name, &st)
	}
	return w.entry(int(dir.Fd()), name, name, &st)
}

// kinds are those of archives by the type bits of a mode.
var kinds = map[uint32]pxar.Kind{
	unix.S_IFREG: pxar.File, unix.S_IFLNK: pxar.Symlink, unix.S_IFCHR: pxar.CharDevice,
	unix.S_IFBLK: pxar.BlockDevice, unix.S_IFIFO: pxar.FIFO, unix.S_IFSOCK: pxar.Socket,
}

// entry sends what is no directory.
func (w *walk) entry(dir int, name, as string, st *unix.Stat_t) error {
	kind, ok := kinds[st.Mode&unix.S_IFMT]
	if !ok {
		return w.problem(fmt.Errorf("a file of unknown kind, mode %o", st.Mode))
	}
	e := &pxar.Entry{Name: as, Kind: kind}
	if kind == pxar.File {
		return w.file(dir, name, e, st)
	}
	if err := w.metadata(-1, st, e); err != nil {
		return w.problem(err)
	}
	switch kind {
	case pxar.Symlink:
		target, err := readlink(dir, name)
		if err != nil {
			return w.problem(err)
		}
		e.Target = target
	case pxar.CharDevice, pxar.BlockDevice:
		e.Device = pxar.Device{Major: uint64(unix.Major(st.Rdev)), Minor: uint64(unix.Minor(st.Rdev))}
	}
	if _, err := w.out.Entry(e); err != nil {
		return errOutput{err}
	}
	return nil
}

func (w *walk) file(dir int, name string, e *pxar.Entry, st *unix.Stat_t) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return w.problem(err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	id := inode{uint64(st.Dev), st.Ino} //nolint:unconvert // narrower on some machines
	old, linked := w.links[id]
	linked = linked && !w.call.Follow
	if !linked || w.call.Metadata {
		if err := w.metadata(fd, st, e); err != nil {
			return w.problem(err)
		}
	}
	if linked {
		e.Kind, e.Target, e.Link = pxar.Hardlink, old.path, old.number
		if _, err := w.out.Entry(e); err != nil {
			return errOutput{err}
		}
		return nil
	}
	e.Size = st.Size
	number, err := w.out.Entry(e)
	if err != nil {
		return errOutput{err}
	}
	if st.Nlink > 1 {
		w.links[id] = first{pathOf(w.names)[1:], number}
	}
	if err := w.out.EndFile(w.content(f, st.Size)); err != nil {
		return errOutput{err}
	}
	return nil
}

// content sends a file's bytes, and its holes as zeros. The error is the file's, or
// the stream's; that shows again with the next frame.
func (w *walk) content(f *os.File, size int64) error {
	for off := int64(0); off < size; {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // a hole up to the end
			data = size
		case err != nil: // the file system does not know
			data = off
		}
		if data = min(data, size); data > off {
			if err := w.out.Zeros(data - off); err != nil {
				return err
			}
			off = data
			continue
		}
		hole, err := unix.Seek(int(f.Fd()), off, unix.SEEK_HOLE)
		if err != nil || hole <= off {
			hole = size
		}
		if off, err = w.copy(f, off, min(hole, size)); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) copy(f *os.File, off, end int64) (int64, error) {
	for off < end {
		n, err := f.ReadAt(w.buf[:min(int64(len(w.buf)), end-off)], off)
		if n > 0 {
			if _, err := w.out.Write(w.buf[:n]); err != nil {
				return off, err
			}
			off += int64(n)
		}
		if n == 0 && err == nil {
			err = io.ErrNoProgress
		}
		if n == 0 || err != nil && off < end {
			return off, fmt.Errorf("at byte %d: %w", off, err)
		}
	}
	return off, nil
}

// metadata is what archives hold of a file; fd is only of files and directories.
// Attributes such as immutable are not of them: the readers in user space have none.
func (w *walk) metadata(fd int, st *unix.Stat_t, e *pxar.Entry) error {
	err := w.fs.Read(fd, st, &e.Metadata)
	e.Flags, e.ProjectID = 0, 0
	return err
}
