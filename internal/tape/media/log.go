package media

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
)

// Record is what a catalog knows of one file of a medium, or of one chunk in it.
type Record = mediacatalog.Record

// Cut is what was left out at the end of a catalog because a crash spoiled it.
// Nothing there was ever committed, unless the disk damaged it.
type Cut struct {
	Bytes int64 // 0: nothing
	Err   error // what was wrong there
}

// OpenCatalog opens the catalog of a medium to append to it. What a crash left
// at its end is cut off. A catalog that is damaged elsewhere is refused.
func (s *State) OpenCatalog(m Medium) (c *Catalog, cut Cut, err error) {
	f, err := s.openLog(m, true)
	if err != nil {
		return nil, Cut{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(told(m, err), f.Close())
		}
	}()
	unlock, err := f.Lock()
	if err != nil {
		return nil, Cut{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	size, err := f.Size()
	if err != nil {
		return nil, Cut{}, err
	}
	l, err := load(f, size, m, nil)
	if err != nil {
		return nil, Cut{}, err
	}
	if l.cut.Bytes > 0 {
		if err := f.Truncate(l.good); err != nil {
			return nil, l.cut, err
		}
		if err := f.Sync(); err != nil {
			return nil, l.cut, err
		}
	}
	return &Catalog{s: s, medium: m, f: f, size: l.good, state: l.state}, l.cut, nil
}

// Catalogued shows the records of a medium's catalog to see, in their order. A
// record is valid during the call. Chunks come before it is known that their
// archive has an end; without one they do not count.
func (s *State) Catalogued(m Medium, see func(*Record) error) (Cut, error) {
	f, l, err := s.read(m, see)
	if err != nil {
		return Cut{}, err
	}
	return l.cut, f.Close()
}

// Log returns the catalog of a medium as far as it is good, for writing it to a
// tape.
func (s *State) Log(m Medium) (content io.ReadCloser, size int64, err error) {
	f, l, err := s.read(m, nil)
	if err != nil {
		return nil, 0, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, 0, l.good), f}, l.good, nil
}

// Import gives a medium the catalog that a catalog archive holds. It is refused
// unless it is whole and of the medium.
func (s *State) Import(m Medium, content io.Reader) (err error) {
	name := tmpName(m.UUID())
	f, err := s.d.Create(name)
	if err != nil {
		return told(m, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(told(m, err), s.d.Remove(name))
		}
	}()
	size, err := io.Copy(io.NewOffsetWriter(f, 0), content)
	if err == nil {
		var l loaded
		if l, err = load(f, size, m, nil); err == nil {
			err = l.cut.Err
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return s.d.Rename(name, logName(m.UUID()))
}

// HasCatalog reports whether there is a catalog of a medium in its media set. Of
// that only the labels at its beginning are looked at.
func (s *State) HasCatalog(m Medium) (ok bool, err error) {
	f, err := s.openLog(m, false)
	if errors.Is(err, ErrNoCatalog) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return false, err
	}
	_, err = load(f, min(size, int64(mediacatalog.MagicSize+2*mediacatalog.LabelSize)), m, nil)
	for _, none := range []error{ErrOtherCatalog, mediacatalog.ErrCorrupt, mediacatalog.ErrTorn} {
		if errors.Is(err, none) {
			return false, nil
		}
	}
	return err == nil, err
}

func (s *State) removeCatalog(id uuid.UUID) error {
	var errs []error
	for _, name := range []string{logName(id), tmpName(id), indexName(id)} {
		if err := s.d.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// read opens a log and shows its records to see. Its length is looked at while
// nobody appends to it, so that it does not end within a record.
func (s *State) read(m Medium, see func(*Record) error) (f logFile, l loaded, err error) {
	if f, err = s.openLog(m, false); err != nil {
		return nil, loaded{}, err
	}
	unlock, err := f.Lock()
	if err == nil {
		var size int64
		size, err = f.Size()
		if err = errors.Join(err, unlock()); err == nil {
			l, err = load(f, size, m, see)
		}
	}
	if err != nil {
		return nil, loaded{}, errors.Join(told(m, err), f.Close())
	}
	return f, l, nil
}

func (s *State) openLog(m Medium, write bool) (logFile, error) {
	f, err := s.d.Open(logName(m.UUID()), write)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("medium %s: %w", m.Label.Text, ErrNoCatalog)
	}
	return f, err
}

func told(m Medium, err error) error { return fmt.Errorf("catalog of %s: %w", m.Label.Text, err) }

// loaded is what a pass over a log found out.
type loaded struct {
	good  int64
	state mediacatalog.State
	cut   Cut
}

// load reads the first size bytes of a log, which must be that of a medium.
func load(f logFile, size int64, m Medium, see func(*Record) error) (loaded, error) {
	r := mediacatalog.NewReader(io.NewSectionReader(f, 0, size))
	for {
		rec, err := r.Next()
		if err != nil {
			return ended(r, size, m, err)
		}
		if rec.Kind == mediacatalog.Label {
			if err := checkLabel(rec, m); err != nil {
				return loaded{}, err
			}
		}
		if see != nil {
			if err := see(rec); err != nil {
				return loaded{}, err
			}
		}
	}
}

// ended decides what the end of a log means.
func ended(r *mediacatalog.Reader, size int64, m Medium, err error) (loaded, error) {
	l := loaded{good: r.Good(), state: r.State()}
	if !errors.Is(err, io.EOF) {
		torn := errors.Is(err, mediacatalog.ErrTorn) || errors.Is(err, mediacatalog.ErrCorrupt) && size-r.Offset() <= maxUnsynced
		if !torn {
			return loaded{}, err
		}
		l.cut = Cut{size - l.good, err}
	}
	// A log has its name only after its labels were synced.
	labels := uint64(1)
	if m.InSet() {
		labels = 2
	}
	if l.state.NextFile() < labels {
		if l.cut.Err != nil {
			return loaded{}, l.cut.Err
		}
		return loaded{}, fmt.Errorf("%w: it lacks the label of the media set", ErrOtherCatalog)
	}
	return l, nil
}

func checkLabel(rec *Record, m Medium) error {
	switch {
	case rec.File == 0 && rec.UUID != m.UUID():
		return fmt.Errorf("%w: it is of %s", ErrOtherCatalog, rec.UUID)
	case rec.File == 1 && (!m.InSet() || rec.UUID != m.Set.UUID || rec.Seq != m.Set.Seq):
		return fmt.Errorf("%w: it is of medium %d of media set %s", ErrOtherCatalog, rec.Seq+1, rec.UUID)
	}
	return nil
}
