package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// ledger is the catalog of the medium that is written. What is added is durable
// after Commit, which is called only when the medium has it for sure.
type ledger interface {
	AddArchive(file uint64, id uuid.UUID, store string, chunks []digest.Digest) error
	AddSnapshot(file uint64, id uuid.UUID, store string, s names.Snapshot) error
	NextFile() uint64
	Commit() error
}

// errFull is returned for what has to be written on another medium.
var errFull = errors.New("the medium is full")

// medium is one that is being written, in the drive, behind its last file.
type medium struct {
	label   tapefile.Label
	drive   tape.Drive
	catalog ledger
	now     func() time.Time

	next  uint64 // number of the next file
	since int64  // bytes written since the last commit
	kept  int    // archives that it holds for good since it was loaded
	full  bool   // nothing more is written
	used  func(int64) error
}

// begin starts a tape file with its header.
func (m *medium) begin(at tape.AtEnd, header func(id uuid.UUID, now int64) (tapefile.Header, error)) (*tape.Writer, uuid.UUID, error) {
	if m.full {
		return nil, uuid.Nil, errFull
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, uuid.Nil, err
	}
	h, err := header(id, m.now().Unix())
	if err != nil {
		return nil, uuid.Nil, err
	}
	b, err := h.Append(nil)
	if err != nil {
		return nil, uuid.Nil, err
	}
	w, err := tape.NewWriter(m.drive, at)
	if err != nil {
		return nil, uuid.Nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, uuid.Nil, errors.Join(err, w.Close())
	}
	return w, id, nil
}

// finish ends a tape file and says where it is. After errFull the file is to be
// written again on another medium.
func (m *medium) finish(w *tape.Writer, incomplete bool) (file uint64, err error) {
	err = w.Finish(incomplete)
	file = m.next
	m.next++
	m.since += w.Written()
	if w.Early() {
		m.full = true
	}
	if errors.Is(err, tape.ErrEarly) || errors.Is(err, tape.ErrFull) {
		m.full = true
		return file, errFull
	}
	return file, err
}

// commitEvery is how many bytes may be on a medium without being in its catalog.
const commitEvery = 128 << 30

// commit makes sure that the medium has what was written and then says so in the
// catalog.
func (m *medium) commit(ctx context.Context) error {
	if err := m.drive.Sync(ctx); err != nil {
		return fmt.Errorf("medium %s: %w", m.label.Text, err)
	}
	if meter, ok := m.drive.(tape.Meter); ok {
		n, err := meter.Used(ctx)
		if err == nil {
			err = m.used(n)
		}
		if err != nil && !errors.Is(err, tape.ErrUnsupported) {
			return fmt.Errorf("medium %s: %w", m.label.Text, err)
		}
	}
	if err := m.catalog.Commit(); err != nil {
		return fmt.Errorf("catalog of medium %s: %w", m.label.Text, err)
	}
	m.since = 0
	return nil
}

// settle commits where that is due.
func (m *medium) settle(ctx context.Context) error {
	if m.since < commitEvery && !m.full {
		return nil
	}
	return m.commit(ctx)
}

// snapshot writes a snapshot archive. A snapshot that cannot be read is
// reported as *damagedError; the file is given up then.
func (m *medium) snapshot(store string, s repo.Snapshot) error {
	w, id, err := m.begin(tape.GiveUp, tapefile.SnapshotArchive{Store: store, Snapshot: s.Name()}.Header)
	if err != nil {
		return err
	}
	rerr := writeFiles(w, s)
	file, err := m.finish(w, rerr != nil)
	switch {
	case err != nil:
		return err
	case rerr != nil:
		return &damagedError{rerr}
	}
	if err := m.catalog.AddSnapshot(file, id, store, s.Name()); err != nil {
		return err
	}
	m.kept++
	return nil
}

// catalogArchive writes the catalog of this or an earlier medium of the set.
func (m *medium) catalogArchive(a tapefile.CatalogArchive, namespaces bool, content io.Reader) error {
	w, _, err := m.begin(tape.GiveUp, func(id uuid.UUID, now int64) (tapefile.Header, error) {
		return a.Header(id, now, namespaces), nil
	})
	if err != nil {
		return err
	}
	_, rerr := w.ReadFrom(content)
	if _, err := m.finish(w, rerr != nil); err != nil {
		return err
	}
	return rerr
}

// damagedError is a snapshot that could not be read from its repository. The job
// goes on with the others.
type damagedError struct{ err error }

func (e *damagedError) Error() string { return e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }
