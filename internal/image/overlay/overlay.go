// Package overlay is a durable copy-on-write overlay: a disk image that can be
// written to, over one that cannot. What is written goes to one sparse file,
// the image below stays as it is.
//
// # The file
//
// Block i of the image, 4096 bytes, has its own place in the file, and a map
// has two bits for it: it is in the image below, here, or all zero. Places are
// never shared or moved, so that no crash can show content of another place,
// and a block that is here already is overwritten as a disk overwrites it. The
// bytes are in internal/format/overlay. The unit is that of a guest's pages and
// sectors: a write of 4 KiB reads nothing and copies nothing, and a smaller one
// into a block that is not here yet reads that block from below, not a chunk.
//
// # What is durable when
//
// After [Overlay.Flush] has returned nil, everything whose call returned before
// Flush was called survives the process and a power cut. What came later is,
// after either,
//
//   - for a block that was not in the file at the last flush: the old content
//     or the new one, as a whole;
//   - for one that was: each sector old or new, as far as the medium writes
//     sectors whole.
//
// Never content of another place, never that of the image below where a flushed
// write was. A flush has two steps: the data is made durable, then the map
// pages that name it are. A page has two slots in the file which take turns, so
// that a torn page leaves the one before. Flushes that come while one runs are
// done together by the next.
//
// A process that dies without Close loses what it did not flush, as a disk's
// cache does.
//
// # Failures
//
// A write that fails, for lack of space or of the disk, leaves each of its
// blocks old or new, and later ones may work. When the system could not make
// data or map durable, nobody knows what was lost, and asking again would be
// answered with a lie: from then on everything but reading fails with that
// error ([ErrBroken]), until the overlay is opened again. It then shows what
// the system still has. What the last good flush covered is safe.
//
// # Memory
//
// [Options.MapPages] pages of 4 KiB, each for 63.5 MiB of the image, at most
// half of which wait for a flush; while one runs, a copy of those; and one bit
// for each page that there may be: 32 KiB for 16 TiB. A writer that needs one
// page more flushes.
//
// # Concurrency
//
// Everything may be called concurrently. Readers and writers of blocks that are
// in the file already do not wait for each other; the first write to a block
// excludes other writers from the 64 KiB around it. One process has the file
// open, with a lock on it: others get [ErrInUse].
package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	format "github.com/holdfast-backup/holdfast/internal/format/overlay"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Errors that callers tell apart.
var (
	ErrInUse     = errors.New("the overlay is in use by another process")
	ErrOtherBase = errors.New("the overlay was made over another image")
	ErrBroken    = errors.New("the overlay could not be made durable")
	ErrFormat    = format.ErrFormat
	ErrDamaged   = format.ErrDamaged
)

const blockSize = format.BlockSize

// Meta says over which image an overlay lies. Size and IndexSum identify it.
type Meta = format.Meta

// Options bound the memory. The zero value is useful.
type Options struct {
	MapPages int // map pages kept in memory; 0: 1024, at least 4
}

// Overlay is an open overlay. Close must be called.
type Overlay struct {
	disk  disk
	path  string
	meta  Meta
	base  image.Image
	file  file
	data  int64 // where block 0 lies in file
	locks stripes
	m     *pageMap

	noPunch atomic.Bool
	wrote   atomic.Bool // data that no flush has covered
	broken  atomic.Pointer[error]

	life   sync.RWMutex // held shared by every call
	closed bool

	turn chan struct{} // full while a flush runs

	mu   sync.Mutex
	next *commit // the flush that has not begun
}

var (
	_ image.Device   = (*Overlay)(nil)
	_ image.Extenter = (*Overlay)(nil)
	_ image.Adviser  = (*Overlay)(nil)
)

// Create makes a new overlay over base at a path where nothing may be (else the
// error wraps [fs.ErrExist]) and opens it. It is durable when Create returns.
func Create(path string, base image.Image, m Meta, o Options) (*Overlay, error) {
	return create(osDisk{}, path, base, m, o)
}

// Open opens an overlay over the image that it was made over; m describes the
// given one. Another image is refused with [ErrOtherBase].
func Open(path string, base image.Image, m Meta, o Options) (*Overlay, error) {
	return open(osDisk{}, path, base, m, o)
}

// ReadMeta tells over which image the overlay at path lies, whether it is in
// use or not.
func ReadMeta(path string) (Meta, error) { return readMeta(osDisk{}, path) }

// InUse reports whether some process, this one too, has the overlay open.
func InUse(path string) (bool, error) {
	f, _, err := openFile(osDisk{}, path)
	if errors.Is(err, ErrInUse) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, f.Close()
}

// Remove deletes an overlay that is not in use, with everything in it. It
// deletes nothing else.
func Remove(path string) error {
	d := osDisk{}
	f, _, err := openFile(d, path)
	if err != nil {
		return err
	}
	return remove(d, f, path)
}

func create(d disk, path string, base image.Image, m Meta, o Options) (*Overlay, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("overlay %s: %w", path, err)
	}
	if base.Size() != m.Size {
		return nil, fmt.Errorf("overlay %s: the image has %d bytes, its description says %d", path, base.Size(), m.Size)
	}
	if err := build(d, path, m); err != nil {
		return nil, fmt.Errorf("create overlay %s: %w", path, err)
	}
	return open(d, path, base, m, o)
}

// build makes the file under another name, so that a crash leaves no half of
// an overlay.
func build(d disk, path string, m Meta) error {
	f, temp, err := d.Create(path)
	if err != nil {
		return err
	}
	err = f.Truncate(format.FileSize(m.Size))
	if err == nil {
		_, err = f.WriteAt(m.Append(nil), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.Claim(temp, path)
	}
	if err != nil {
		_ = d.Remove(temp)
		return err
	}
	return d.SyncDir(path)
}

func open(d disk, path string, base image.Image, m Meta, o Options) (*Overlay, error) {
	f, have, err := openFile(d, path)
	if err != nil {
		return nil, err
	}
	ov := &Overlay{disk: d, path: path, meta: have, base: base, file: f, data: format.DataOffset(have.Size), turn: make(chan struct{}, 1)}
	err = ov.checkBase(m)
	if err == nil {
		ov.m, err = newPageMap(f, have.Size, o.MapPages)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open overlay %s: %w", path, err)
	}
	ov.m.flush = ov.flush
	// What an earlier process wrote and did not flush is visible, but perhaps
	// only in the system's cache: the first flush covers it too, before a slot
	// of the map is written over.
	ov.wrote.Store(true)
	return ov, nil
}

// openFile opens and locks an overlay file and checks its header and length.
func openFile(d disk, path string) (_ file, _ Meta, err error) {
	f, err := d.Open(path, true)
	if err != nil {
		return nil, Meta{}, fmt.Errorf("open overlay %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			err = fmt.Errorf("open overlay %s: %w", path, err)
		}
	}()
	m, err := header(f)
	if err != nil {
		return nil, Meta{}, err
	}
	if err := f.Lock(); err != nil {
		return nil, Meta{}, err
	}
	return f, m, nil
}

func readMeta(d disk, path string) (Meta, error) {
	f, err := d.Open(path, false)
	if err != nil {
		return Meta{}, fmt.Errorf("overlay %s: %w", path, err)
	}
	m, err := header(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Meta{}, fmt.Errorf("overlay %s: %w", path, err)
	}
	return m, nil
}

func header(f file) (Meta, error) {
	var b [format.HeaderSize]byte
	if err := readFull(f, b[:], 0); err != nil {
		return Meta{}, err
	}
	m, err := format.ParseHeader(b[:])
	if err != nil {
		return Meta{}, err
	}
	size, err := f.Size()
	if err == nil && size != format.FileSize(m.Size) {
		err = fmt.Errorf("%w: it has %d bytes, its header asks for %d", ErrFormat, size, format.FileSize(m.Size))
	}
	return m, err
}

func (o *Overlay) checkBase(m Meta) error {
	if o.meta.Size == m.Size && o.meta.IndexSum == m.IndexSum && o.base.Size() == m.Size {
		return nil
	}
	name := func(m Meta) string {
		return fmt.Sprintf("%s of %s (%d bytes, index %.8x)", m.Archive.ClientName(), m.Snapshot.Path(), m.Size, m.IndexSum[:])
	}
	return fmt.Errorf("%w: it belongs to %s in %s, and this is %s: open it over that one",
		ErrOtherBase, name(o.meta), o.meta.Repository, name(m))
}

// Meta says over which image the overlay lies.
func (o *Overlay) Meta() Meta { return o.meta }

// Path is the name that the overlay was opened by.
func (o *Overlay) Path() string { return o.path }

// Size is that of the image below.
func (o *Overlay) Size() int64 { return o.meta.Size }

// Close flushes, unlocks and closes the file. After a flush that failed, here
// or earlier, it closes all the same and returns that error. The image below
// stays open.
func (o *Overlay) Close() error {
	err := o.Flush()
	if errors.Is(err, fs.ErrClosed) {
		return err
	}
	return errors.Join(err, o.end(file.Close))
}

// Remove closes the overlay and deletes the file, with everything in it.
func (o *Overlay) Remove() error {
	return o.end(func(f file) error { return remove(o.disk, f, o.path) })
}

// end waits for all calls and makes later ones fail.
func (o *Overlay) end(last func(file) error) error {
	o.life.Lock()
	defer o.life.Unlock()
	if o.closed {
		return o.errorf("close", fs.ErrClosed)
	}
	o.closed = true
	return last(o.file)
}

// remove deletes the name while the lock is held where the system can, so that
// nobody opens what is about to go.
func remove(d disk, f file, path string) error {
	err := d.Remove(path)
	cerr := f.Close()
	if err != nil { // some systems do not remove an open file
		err = d.Remove(path)
	}
	if err == nil {
		err = d.SyncDir(path)
	}
	if err = errors.Join(err, cerr); err != nil {
		return fmt.Errorf("remove overlay %s: %w", path, err)
	}
	return nil
}

// enter begins a call; leave ends it.
func (o *Overlay) enter(what string) error {
	o.life.RLock()
	if o.closed {
		o.life.RUnlock()
		return o.errorf(what, fs.ErrClosed)
	}
	return nil
}

func (o *Overlay) leave() { o.life.RUnlock() }

// enterChange is enter for what changes something.
func (o *Overlay) enterChange(what string, off, n int64) error {
	if off < 0 || n < 0 || off > o.Size()-n {
		return o.errorf(what, fmt.Errorf("[%d,+%d) lies outside the %d bytes of the image", off, n, o.Size()))
	}
	if err := o.broken.Load(); err != nil {
		return *err
	}
	return o.enter(what)
}

func (o *Overlay) errorf(what string, err error) error {
	return fmt.Errorf("%s overlay %s: %w", what, o.path, err)
}
