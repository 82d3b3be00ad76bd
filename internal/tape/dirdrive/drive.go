package dirdrive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/drivelock"
)

// DefaultSize is the size of a tape where none is configured, in bytes.
const DefaultSize = 64 << 20

// spare is how many blocks fit behind the early warning.
const spare = 2

// Drive is the drive of a directory with the tape that is in it.
type Drive struct {
	dir   dir
	size  int64
	lock  *drivelock.Lock
	label string

	pos   uint64   // the number of the file at the present position
	f     *os.File // that file, or nil at its beginning
	block int64    // the block in it

	writing bool
	free    int64    // blocks that fit into the file before the early warning
	dirty   []string // files that may not be on disk yet
}

var (
	_ tape.Drive = (*Drive)(nil)
	_ tape.Meter = (*Drive)(nil)
)

// Open opens the drive of a directory; ErrNoMedium if no tape is in it. size is
// the size of its tapes in bytes, 0 for DefaultSize.
func Open(ctx context.Context, path string, size int64) (_ *Drive, err error) {
	if size == 0 {
		size = DefaultSize
	}
	d := &Drive{dir: dir(path), size: size}
	if d.lock, err = drivelock.Take(ctx, d.dir.path(lockFile)); err != nil {
		return nil, err
	}
	s, err := d.dir.status()
	if err == nil && s.Tape == nil {
		err = fmt.Errorf("%s: %w", path, tape.ErrNoMedium)
	}
	if err != nil {
		return nil, errors.Join(err, d.lock.Unlock())
	}
	d.label, d.pos = s.Tape.Name, s.Tape.Pos
	return d, nil
}

// Rewind moves to the beginning.
func (d *Drive) Rewind(context.Context) error { return d.goTo(0) }

// Locate moves to the beginning of a file.
func (d *Drive) Locate(_ context.Context, file uint64) error {
	x, err := d.index()
	if err != nil {
		return err
	}
	if file > x.Files {
		return fmt.Errorf("file %d on %s, which has %d: %w", file, d.label, x.Files, tape.ErrEndOfData)
	}
	return d.goTo(file)
}

// EndOfData moves behind the last file.
func (d *Drive) EndOfData(context.Context) (uint64, error) {
	x, err := d.index()
	if err != nil {
		return 0, err
	}
	return x.Files, d.goTo(x.Files)
}

// File is the number of the file at the position.
func (d *Drive) File(context.Context) (uint64, error) { return d.pos, nil }

// index is the index of the tape in the drive.
func (d *Drive) index() (index, error) {
	if d.label == "" {
		return index{}, tape.ErrNoMedium
	}
	return d.dir.index(d.label)
}

// goTo moves to the beginning of a file, which is the end of the one before.
func (d *Drive) goTo(pos uint64) error {
	if err := d.leave(); err != nil {
		return err
	}
	if d.label == "" {
		return tape.ErrNoMedium
	}
	if err := d.dir.setStatus(status{&loaded{d.label, pos}}); err != nil {
		return err
	}
	d.pos = pos
	return nil
}

// leave closes the present file.
func (d *Drive) leave() error {
	if d.f == nil {
		return nil
	}
	err := d.f.Close()
	d.f, d.block, d.writing = nil, 0, false
	return err
}

// ReadBlock reads the next block of the present file.
func (d *Drive) ReadBlock(p []byte) (int, error) {
	if d.f == nil {
		if err := d.open(); err != nil {
			return 0, err
		}
	}
	n, err := d.f.ReadAt(p[:tape.BlockSize], d.block*tape.BlockSize)
	switch {
	case n == tape.BlockSize:
		d.block++
		return n, nil
	case !errors.Is(err, io.EOF):
		return 0, err
	case d.writing:
		return 0, tape.ErrEndOfData // there is no filemark yet
	}
	if err := d.goTo(d.pos + 1); err != nil {
		return 0, err
	}
	return 0, tape.ErrFilemark
}

// open opens the present file for reading.
func (d *Drive) open() error {
	x, err := d.index()
	if err != nil {
		return err
	}
	if d.pos >= x.Files {
		return tape.ErrEndOfData
	}
	d.f, err = os.OpenFile(d.dir.filePath(d.label, d.pos), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("file %d of %s is missing from the directory: %w", d.pos, d.label, err)
	}
	return err
}

// WriteBlock writes a block at the present position. Whatever was behind it is
// gone, as on a tape.
func (d *Drive) WriteBlock(p []byte) (early bool, err error) {
	if len(p) != tape.BlockSize {
		return false, fmt.Errorf("a block of %d bytes, not %d", len(p), tape.BlockSize)
	}
	if !d.writing {
		if err := d.begin(); err != nil {
			return false, err
		}
	}
	if d.block >= d.free+spare {
		return false, fmt.Errorf("block %d of file %d on %s: %w", d.block, d.pos, d.label, tape.ErrFull)
	}
	if _, err := d.f.WriteAt(p, d.block*tape.BlockSize); err != nil {
		return false, err
	}
	d.block++
	return d.block > d.free, nil
}

// begin makes the present file the last one of the tape, and cuts it at the
// position.
func (d *Drive) begin() error {
	x, err := d.index()
	if err != nil {
		return err
	}
	if d.pos > x.Files {
		return fmt.Errorf("file %d on %s, which has %d: %w", d.pos, d.label, x.Files, tape.ErrEndOfData)
	}
	used, err := d.used(d.pos)
	if err != nil {
		return err
	}
	path := d.dir.filePath(d.label, d.pos)
	if d.f == nil {
		if d.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640); err != nil {
			return err
		}
		if err := share(d.f); err != nil {
			return err
		}
	}
	if err := d.f.Truncate(d.block * tape.BlockSize); err != nil {
		return err
	}
	if err := d.setFiles(x, d.pos+1); err != nil {
		return err
	}
	d.free = max((d.size-used)/tape.BlockSize, spare)
	d.writing, d.dirty = true, append(d.dirty, path)
	return nil
}

// setFiles changes the number of files of the tape, and removes those behind.
func (d *Drive) setFiles(x index, n uint64) error {
	if err := d.dir.setIndex(d.label, index{n}); err != nil {
		return err
	}
	for i := n; i < x.Files; i++ {
		if err := os.Remove(d.dir.filePath(d.label, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// used is how many bytes the first n files have.
func (d *Drive) used(n uint64) (int64, error) {
	var sum int64
	for i := range n {
		info, err := os.Stat(d.dir.filePath(d.label, i))
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, nil
}

// WriteFilemark ends the present file.
func (d *Drive) WriteFilemark() (early bool, err error) {
	if !d.writing {
		if err := d.begin(); err != nil {
			return false, err
		}
	}
	early = d.block > d.free
	return early, d.goTo(d.pos + 1)
}

// Sync makes all that was written durable.
func (d *Drive) Sync(context.Context) error {
	for len(d.dirty) > 0 {
		f, err := os.OpenFile(d.dirty[0], os.O_RDWR, 0)
		switch {
		case err == nil:
			err = errors.Join(f.Sync(), f.Close())
		case errors.Is(err, fs.ErrNotExist):
			err = nil // overwritten from an earlier file on
		}
		if err != nil {
			return err
		}
		d.dirty = d.dirty[1:]
	}
	return fileops.SyncDir(string(d.dir))
}

// Format removes the files of the tape.
func (d *Drive) Format(context.Context, bool) error {
	if err := d.goTo(0); err != nil {
		return err
	}
	x, err := d.index()
	if err != nil {
		return err
	}
	d.dirty = nil
	return d.setFiles(x, 0)
}

// Eject puts the tape back into its slot.
func (d *Drive) Eject(ctx context.Context) error {
	if err := d.Sync(ctx); err != nil {
		return err
	}
	if err := d.leave(); err != nil {
		return err
	}
	if err := d.dir.setStatus(status{}); err != nil {
		return err
	}
	d.label, d.pos = "", 0
	return nil
}

// Encrypt can only switch off.
func (d *Drive) Encrypt(_ context.Context, k *tape.KeyOf) error {
	if k != nil {
		return fmt.Errorf("encryption by a directory as a drive: %w", tape.ErrUnsupported)
	}
	return nil
}

// Used is how many bytes the tape holds.
func (d *Drive) Used(context.Context) (int64, error) {
	x, err := d.index()
	if err != nil {
		return 0, err
	}
	return d.used(x.Files)
}

// Close lets go of the drive.
func (d *Drive) Close() error {
	if d.lock == nil {
		return nil
	}
	err := errors.Join(d.leave(), d.lock.Unlock())
	d.lock = nil
	return err
}
