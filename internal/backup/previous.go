package backup

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// previous is the index of the same archive in the previous snapshot. A nil
// previous knows nothing.
type previous struct {
	idx    *fidx.Index
	closer io.Closer
}

// Reusable reports why slots of an image of that name and size could not be
// taken over unread from the previous snapshot of s; "" means that they can.
// It is for sources that must know before they are opened.
func Reusable(s repo.Session, name names.Archive, size int64, opts Options) string {
	if err := opts.prepare(); err != nil {
		return err.Error()
	}
	if s.Previous() == nil {
		return "there is no previous snapshot that could be used"
	}
	p, why := (&Writer{s: s, opts: opts}).openPrevious(name)
	defer p.close()
	if why == "" && !p.fits(size) {
		why = fmt.Sprintf("%s: its %s has %d bytes, not %d", s.Previous().Name(), name, p.idx.Size, size)
	}
	return why
}

// openPrevious finds out whether the previous snapshot helps, and if not, why.
// No failure here fails a backup: it only has to read more.
func (w *Writer) openPrevious(name names.Archive) (*previous, string) {
	snap, why := w.previousOf(name)
	if snap == nil {
		return nil, why
	}
	idx, closer, err := snap.OpenFixed(name)
	if err != nil {
		return nil, fmt.Sprintf("%s: %v", snap.Name(), err)
	}
	p := &previous{idx, closer}
	if idx.ChunkSize != uint64(w.opts.ChunkSize) {
		p.close()
		return nil, fmt.Sprintf("%s: its chunks of %s have %d bytes", snap.Name(), name, idx.ChunkSize)
	}
	return p, ""
}

// previousOf returns the previous snapshot if its archive of that name helps;
// if not, nil and why.
func (w *Writer) previousOf(name names.Archive) (repo.Snapshot, string) {
	snap := w.s.Previous()
	if snap == nil {
		return nil, ""
	}
	f, ok := snap.Manifest().File(string(name))
	if !ok {
		return nil, fmt.Sprintf("%s has no archive %s", snap.Name(), name)
	}
	if why := w.compatible(snap.Manifest(), f); why != "" {
		return nil, fmt.Sprintf("%s: %s", snap.Name(), why)
	}
	return snap, ""
}

// compatible reports why digests of f do not mean what they would mean now.
func (w *Writer) compatible(m *manifest.Manifest, f manifest.File) string {
	print, err := m.KeyFingerprint()
	if err != nil {
		return err.Error()
	}
	switch key := w.opts.Key; {
	case key == nil && m.Signed():
		return "it is signed, and there is no key to check that"
	case key != nil:
		if err := m.Verify(key); err != nil {
			return err.Error()
		}
	}
	then, now := f.CryptMode == manifest.ModeEncrypt, w.opts.CryptMode == manifest.ModeEncrypt
	switch {
	case then && !now:
		return "it is encrypted, and this backup is not"
	case !then && now:
		return "it is not encrypted, and this backup is"
	case now && print != w.opts.Key.Fingerprint():
		return "it is encrypted with another key"
	case w.opts.Key != nil && !m.Signed(): // what is not read would be signed on its word
		return "it is not signed, and this backup is"
	}
	return ""
}

func (p *previous) close() {
	if p != nil {
		_ = p.closer.Close() // was only read
	}
}

// fits reports whether an image of that size can have unchanged slots.
func (p *previous) fits(size int64) bool { return p != nil && p.idx.Size == uint64(size) }

// has reports whether slot i had the digest d, so that its chunk is there.
func (p *previous) has(i int, d digest.Digest) (bool, error) {
	if p == nil || i >= p.idx.Count() {
		return false, nil
	}
	old, err := p.idx.Digest(i)
	if err != nil {
		return false, fmt.Errorf("previous index: %w", err)
	}
	return old == d, nil
}

// ErrOtherBase is wrapped when a map of changes was made against another
// snapshot than the previous one.
var ErrOtherBase = errors.New("the map of changes does not fit")

// checkBase refuses a map whose base is not the session's previous snapshot.
func checkBase(s repo.Session, c *ChangedMap) error {
	const remedy = "back up without the map"
	base, err := names.ParseSnapshot(c.Base)
	if err != nil {
		return fmt.Errorf("map of changes: base: %w", err)
	}
	if base.NS == names.Root {
		base.NS = s.Snapshot().NS // the short form leaves it out
	}
	switch prev := s.Previous(); {
	case prev == nil:
		return fmt.Errorf("%w: it was made since %s, and there is no previous snapshot that could be used: %s", ErrOtherBase, c.Base, remedy)
	case prev.Name() != base:
		return fmt.Errorf("%w: it was made since %s, and the previous snapshot is %s: %s", ErrOtherBase, c.Base, prev.Name(), remedy)
	}
	return nil
}
