package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// portable is a file system below one directory made of what all systems
// offer. It is the OS of every system but Linux, and built there too so that
// the same tests hold it to the same promises.
//
// Unlike on Linux, symbolic links in the middle of a name are followed as far
// as they stay below the root, and SyncFS syncs one by one what was changed
// through this value; what others changed is theirs to sync.
type portable struct {
	dir      string
	root     *os.Root
	unsynced *unsynced
	ranges   rangeLocks

	names   sync.RWMutex // changes of names hold it shared, so that unsynced never lags behind
	syncing sync.Mutex   // one SyncFS at a time: the second must not trust an unfinished first
	syncErr error        // guarded by syncing
}

func openPortable(dir string) (*portable, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	p := &portable{dir: abs, root: root, unsynced: newUnsynced()}
	return p, nil
}

// Dir is the absolute path of the root.
func (p *portable) Dir() string { return p.dir }

// Close releases the descriptor of the root. Files and locks stay valid.
func (p *portable) Close() error { return p.root.Close() }

// Open implements [FS].
func (p *portable) Open(name string) (File, error) { return p.openFile(name, os.O_RDONLY) }

// OpenWrite is Open for reading and writing. It is not in [FS] because a
// datastore changes no file in place; others do, and sync what they changed by
// File.Sync.
func (p *portable) OpenWrite(name string) (File, error) { return p.openFile(name, os.O_RDWR) }

func (p *portable) openFile(name string, access int) (File, error) {
	f, err := p.open(name, access)
	if err != nil {
		return nil, p.fail("open", name, err)
	}
	return &portableFile{File: f, p: p}, nil
}

// open opens a regular file that is no symbolic link.
func (p *portable) open(name string, flags int) (*os.File, error) {
	if err := p.check(name, false); err != nil {
		return nil, err
	}
	before, err := p.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	f, err := p.root.OpenFile(name, flags, 0)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("replaced while it was opened: %w", ErrNotRegular)
	}
	if err != nil {
		return nil, errors.Join(err, p.ranges.close(f))
	}
	return f, nil
}

// Create implements [FS].
func (p *portable) Create(name string, perm fs.FileMode) (File, error) {
	if err := p.check(name, true); err != nil {
		return nil, p.fail("create", name, err)
	}
	p.names.RLock()
	defer p.names.RUnlock()
	f, err := p.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm.Perm())
	if err != nil {
		return nil, p.fail("create", name, err)
	}
	st, err := f.Stat()
	if err == nil && st.Mode().Perm() != perm.Perm() {
		err = f.Chmod(perm.Perm())
	}
	if err != nil {
		_ = f.Close()
		_ = p.root.Remove(name)
		return nil, p.fail("create", name, err)
	}
	return &portableFile{File: f, p: p, name: p.unsynced.created(name)}, nil
}

// Mkdir implements [FS].
func (p *portable) Mkdir(name string, perm fs.FileMode) error {
	p.names.RLock()
	defer p.names.RUnlock()
	err := p.check(name, true)
	if err == nil {
		err = p.root.Mkdir(name, perm.Perm())
	}
	if err != nil {
		return p.fail("mkdir", name, err)
	}
	p.unsynced.changed(name)
	st, err := p.root.Lstat(name)
	if err == nil && st.Mode().Perm() != perm.Perm() {
		err = p.root.Chmod(name, perm.Perm())
	}
	return p.fail("mkdir", name, err)
}

// Rename implements [FS].
func (p *portable) Rename(oldName, newName string) error {
	p.names.RLock()
	defer p.names.RUnlock()
	err := p.check(oldName, true)
	if err == nil {
		err = p.check(newName, true)
	}
	if err == nil {
		err = p.root.Rename(oldName, newName)
	}
	if err != nil {
		if in, ok := errors.AsType[*os.LinkError](err); ok {
			err = in.Err
		}
		return &os.LinkError{Op: "rename", Old: p.path(oldName), New: p.path(newName), Err: err}
	}
	st, err := p.root.Lstat(newName)
	p.unsynced.renamed(oldName, newName, err == nil && st.IsDir())
	return nil
}

// Remove implements [FS].
func (p *portable) Remove(name string) error {
	p.names.RLock()
	defer p.names.RUnlock()
	err := p.check(name, true)
	if err == nil {
		err = p.root.Remove(name)
	}
	if err != nil {
		return p.fail("remove", name, err)
	}
	p.unsynced.removed(name)
	return nil
}

// ReadDir implements [FS].
func (p *portable) ReadDir(name string) ([]DirEntry, error) {
	d, err := p.openDir(name)
	if err != nil {
		return nil, p.fail("list", name, err)
	}
	entries, err := d.ReadDir(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, p.fail("list", name, err)
	}
	list := make([]DirEntry, len(entries))
	for i, e := range entries {
		list[i] = DirEntry{Name: e.Name(), Type: e.Type()}
	}
	slices.SortFunc(list, func(a, b DirEntry) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Lstat implements [FS].
func (p *portable) Lstat(name string) (Info, error) {
	if err := p.check(name, false); err != nil {
		return Info{}, p.fail("lstat", name, err)
	}
	st, err := p.root.Lstat(name)
	if err != nil {
		return Info{}, p.fail("lstat", name, err)
	}
	info := Info{
		Mode: st.Mode().Type() | st.Mode().Perm(), Size: st.Size(), Blocks: st.Size(),
		Atime: st.ModTime(), Mtime: st.ModTime(),
	}
	addSystemInfo(&info, st)
	return info, nil
}

// Touch implements [FS]. It refuses symbolic links, whose targets it would reach.
func (p *portable) Touch(name string) error {
	err := p.check(name, false)
	if err != nil {
		return p.fail("touch", name, err)
	}
	st, err := p.root.Lstat(name)
	if err == nil && st.Mode().Type() == fs.ModeSymlink {
		err = ErrNotRegular
	}
	if err == nil {
		err = p.root.Chtimes(name, time.Now(), time.Time{})
	}
	return p.fail("touch", name, err)
}

// SyncDir implements [FS].
func (p *portable) SyncDir(name string) error {
	d, err := p.openDir(name)
	if err != nil {
		return p.fail("sync directory", name, err)
	}
	return p.fail("sync directory", name, errors.Join(syncOpenDir(d), d.Close()))
}

// SyncFS implements [FS]. As on Linux, a failure is final: a system that could
// not write may forget that it should have.
func (p *portable) SyncFS() error {
	p.syncing.Lock()
	defer p.syncing.Unlock()
	for p.syncErr == nil {
		f, err := p.nextUnsynced()
		if err == nil && f == nil {
			return nil
		}
		if err == nil {
			err = p.syncOpen(f)
		}
		p.syncErr = err
	}
	return p.fail("sync file system", ".", p.syncErr)
}

// nextUnsynced opens something that has to be synced, or returns nil.
func (p *portable) nextUnsynced() (*os.File, error) {
	p.names.Lock()
	defer p.names.Unlock()
	for {
		name, dir, ok := p.unsynced.next()
		if !ok {
			return nil, nil
		}
		var f *os.File
		var err error
		if dir {
			f, err = p.openDir(name)
		} else if f, err = p.open(name, os.O_RDWR); errors.Is(err, fs.ErrPermission) {
			f, err = p.open(name, os.O_RDONLY) // on unix any descriptor can sync
		}
		if !errors.Is(err, fs.ErrNotExist) { // somebody else may have removed it
			return f, err
		}
	}
}

func (p *portable) syncOpen(f *os.File) error {
	st, err := f.Stat()
	switch {
	case err != nil:
	case st.IsDir():
		err = syncOpenDir(f)
	default:
		err = f.Sync()
	}
	return errors.Join(err, p.ranges.close(f))
}

// WillNeed implements [FS]; there is no portable way.
func (p *portable) WillNeed(string) {}

// Now implements [FS].
func (p *portable) Now() time.Time { return time.Now() }

// Usage implements [FS].
func (p *portable) Usage() (Usage, error) {
	u, err := diskUsage(p.dir)
	return u, p.fail("usage", ".", err)
}

// LockRange implements [FS].
func (p *portable) LockRange(name string, off, length int64, mode LockMode) (Unlocker, error) {
	if off < 0 || length < 0 {
		return nil, p.fail("lock", name, fs.ErrInvalid)
	}
	release, err := p.ranges.lock(p, name, off, length, mode)
	if err != nil {
		return nil, p.fail("lock", name, err)
	}
	return &held{release: func() error { return p.fail("unlock", name, release()) }}, nil
}

// openDir opens a directory that is no symbolic link.
func (p *portable) openDir(name string) (*os.File, error) {
	if err := p.check(name, false); err != nil {
		return nil, err
	}
	st, err := p.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, syscall.ENOTDIR
	}
	return p.root.Open(name)
}

func (p *portable) check(name string, change bool) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if change && name == "." {
		return fs.ErrInvalid
	}
	return nil
}

func (p *portable) path(name string) string { return filepath.Join(p.dir, filepath.FromSlash(name)) }

func (p *portable) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	for inner, ok := err.(*fs.PathError); ok; inner, ok = err.(*fs.PathError) {
		err = inner.Err
	}
	return &fs.PathError{Op: op, Path: p.path(name), Err: err}
}

// portableFile is an open regular file.
type portableFile struct {
	*os.File
	p    *portable
	name *written // nil if opened for reading
	once sync.Once
}

// WriteAt implements io.WriterAt.
func (f *portableFile) WriteAt(b []byte, off int64) (int, error) {
	defer f.p.unsynced.wrote(f.name) // after it: a SyncFS in between does not cover it
	return f.File.WriteAt(b, off)
}

// Write implements io.Writer.
func (f *portableFile) Write(b []byte) (int, error) {
	defer f.p.unsynced.wrote(f.name) // after it: a SyncFS in between does not cover it
	return f.File.Write(b)
}

// Truncate implements [File].
func (f *portableFile) Truncate(size int64) error {
	defer f.p.unsynced.wrote(f.name) // after it: a SyncFS in between does not cover it
	return f.File.Truncate(size)
}

// Size implements [File].
func (f *portableFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// StartWriteback implements [File]; there is no portable way.
func (f *portableFile) StartWriteback() {}

// Close implements io.Closer.
func (f *portableFile) Close() error {
	err := error(&fs.PathError{Op: "close", Path: f.Name(), Err: fs.ErrClosed})
	f.once.Do(func() {
		f.p.unsynced.closed(f.name)
		err = f.p.ranges.close(f.File)
	})
	return err
}
