package media

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// What can be wrong with the catalog of a medium. Each is mended by reading the
// catalog from the medium again.
var (
	ErrNoCatalog    = errors.New("there is no catalog")
	ErrOtherCatalog = errors.New("the catalog is of another medium or media set")
)

// maxReplaced is how long a log is replaced by a longer one at a commit, in bytes;
// one of more than two million chunks is appended to.
const maxReplaced = 64 << 20

// maxUnsynced is how much a commit writes between two syncs, and so the most that
// a crash can spoil at the end of a log, in bytes.
const maxUnsynced = 4 << 20

func logName(id uuid.UUID) string { return id.String() + ".log" }
func tmpName(id uuid.UUID) string { return id.String() + ".tmp" }

// Catalog is the catalog of one medium, open for appending. What is added counts
// when Commit has returned. It is not safe for concurrent use.
type Catalog struct {
	s       *State
	medium  Medium
	f       logFile
	size    int64 // committed
	state   mediacatalog.State
	pending []byte
	broken  error
	rebuild bool // the file is a .tmp
}

// NewCatalog gives a medium an empty catalog with its labels, in place of the one
// that it had.
func (s *State) NewCatalog(m Medium) (*Catalog, error) {
	c, err := s.Rebuild(m)
	if err != nil {
		return nil, err
	}
	if err := c.Finish(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Rebuild begins a new catalog for a medium that takes the place of the old one
// only in Finish.
func (s *State) Rebuild(m Medium) (*Catalog, error) {
	name := tmpName(m.UUID())
	f, err := s.d.Create(name)
	if err != nil {
		return nil, told(m, err)
	}
	c := &Catalog{s: s, medium: m, f: f, rebuild: true}
	c.pending, err = c.state.AppendLabel(c.pending, 0, m.UUID(), 0)
	if err == nil && m.InSet() {
		c.pending, err = c.state.AppendLabel(c.pending, 1, m.Set.UUID, m.Set.Seq)
	}
	if err == nil {
		err = c.Commit()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Finish commits, and puts a catalog that was rebuilt in the place of the old one.
// It stays open.
func (c *Catalog) Finish() error {
	if err := c.Commit(); err != nil || !c.rebuild {
		return err
	}
	if err := c.s.d.Rename(tmpName(c.medium.UUID()), logName(c.medium.UUID())); err != nil {
		return c.fail(err)
	}
	c.rebuild = false
	return nil
}

// Close lets go of the catalog. What was not committed is dropped, and so is a
// rebuilt catalog that was not finished.
func (c *Catalog) Close() error {
	err := c.f.Close()
	if c.rebuild {
		err = errors.Join(err, c.s.d.Remove(tmpName(c.medium.UUID())))
	}
	return err
}

// Medium is the one that the catalog is of.
func (c *Catalog) Medium() Medium { return c.medium }

// NextFile is the lowest number that the next file of the medium may have.
func (c *Catalog) NextFile() uint64 { return c.state.NextFile() }

// Pending is how much would be committed, in bytes of memory.
func (c *Catalog) Pending() int { return len(c.pending) }

// AddArchive adds a chunk archive: the number of its file, the uuid in its header,
// its store and all chunks that are whole.
func (c *Catalog) AddArchive(file uint64, id uuid.UUID, store string, chunks []digest.Digest) (err error) {
	c.pending, err = c.state.AppendArchive(c.pending, file, id, store, slices.Values(chunks))
	return c.told(err)
}

// AddSnapshot adds a snapshot archive.
func (c *Catalog) AddSnapshot(file uint64, id uuid.UUID, store string, snap names.Snapshot) (err error) {
	c.pending, err = c.state.AppendSnapshot(c.pending, file, id, store, snap)
	return c.told(err)
}

func (c *Catalog) told(err error) error {
	if err != nil {
		return told(c.medium, err)
	}
	return nil
}

// Commit makes what was added durable. Call it only after the drive's Sync: a
// catalog must not name what may not be on the medium. After an error the catalog
// takes nothing more, because nobody knows what of it is in the file.
func (c *Catalog) Commit() (err error) {
	if c.broken != nil || len(c.pending) == 0 {
		return c.broken
	}
	was := c.f
	unlock, err := was.Lock()
	if err != nil {
		return c.fail(err)
	}
	defer func() {
		e := unlock()
		if c.f != was {
			e = errors.Join(e, was.Close())
		}
		if err == nil && e != nil {
			err = c.fail(e)
		}
	}()
	if err := c.alone(); err != nil {
		return c.fail(err)
	}
	if c.rebuild || c.size > c.s.replaced {
		err = c.append(c.f)
	} else {
		err = c.replace()
	}
	if err != nil {
		return c.fail(err)
	}
	c.size += int64(len(c.pending))
	c.pending = c.pending[:0]
	return nil
}

// alone makes sure that nobody else has changed the log: who writes to a medium
// has the lock of its media set.
func (c *Catalog) alone() error {
	if c.rebuild {
		return nil
	}
	info, err := c.s.d.Stat(logName(c.medium.UUID()))
	if err == nil && info.Size != c.size {
		err = fmt.Errorf("it has %d bytes and had %d: somebody else writes to it", info.Size, c.size)
	}
	return err
}

// append writes what was added to the end of a file.
func (c *Catalog) append(f logFile) error {
	at := c.size
	for part := range slices.Chunk(c.pending, maxUnsynced) {
		if _, err := f.WriteAt(part, at); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		at += int64(len(part))
	}
	return nil
}

// replace puts a longer log in the place of the present one. Appending would write
// the sector anew in which the log ends, and a power failure just then may spoil
// what was committed in it.
func (c *Catalog) replace() (err error) {
	name := tmpName(c.medium.UUID())
	f, err := c.s.d.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(f, 0), io.NewSectionReader(c.f, 0, c.size))
	if err == nil {
		err = c.append(f)
	}
	if err == nil {
		err = c.s.d.Rename(name, logName(c.medium.UUID()))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c.f = f
	return nil
}

func (c *Catalog) fail(err error) error {
	c.broken = c.told(err)
	return c.broken
}

// ReadAt reads the log with what is not committed yet.
func (c *Catalog) ReadAt(p []byte, off int64) (n int, err error) {
	if off < c.size {
		if n, err = c.f.ReadAt(p[:min(int64(len(p)), c.size-off)], off); err != nil || n == len(p) {
			return n, err
		}
	}
	if rest := off + int64(n) - c.size; rest < int64(len(c.pending)) {
		n += copy(p[n:], c.pending[rest:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
