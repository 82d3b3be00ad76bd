package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// BackupContainer implements [provider.Storage].
func (s *Store) BackupContainer(ctx context.Context, a provider.Archive, ct provider.Container) (provider.Result, error) {
	d, err := s.begin(ctx, a, ct.Configs)
	if err != nil {
		return provider.Result{}, err
	}
	defer d.release()
	write := d.tar
	if s.o.Trees == Squashfs {
		write = d.squashfs
	}
	res, err := write(ctx, ct.Walk)
	if err == nil {
		err = d.commit(ctx, nil)
	}
	if err != nil {
		d.abort()
		return provider.Result{}, fmt.Errorf("backup %s: %w", a.Name, err)
	}
	res.Size = s.size(a, res.Stored)
	return res, nil
}

// tar writes the tree as a tar file.
func (d *draft) tar(ctx context.Context, walk provider.Walk) (res provider.Result, err error) {
	f, err := d.s.fs.Create(path.Join(d.dir, tarFile), fileMode)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := newSparse(f)
	report, err := d.stream(ctx, walk, func(*entries) (io.Writer, error) { return w, nil })
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		return res, err
	}
	return provider.Result{Stored: w.stored, Read: report.Bytes, Skipped: report.Problems}, nil
}

// stream writes the tree as a tar. A walker makes a file archive, which becomes
// the tar on its way. When the root has been read, open says where that goes.
func (d *draft) stream(ctx context.Context, walk provider.Walk, open func(*entries) (io.Writer, error)) (tree.Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	from, to := io.Pipe()
	type outcome struct {
		report tree.Report
		err    error
	}
	walked := make(chan outcome, 1)
	go func() {
		report, err := walk(ctx, tree.Output{Meta: to}, nil)
		_ = to.CloseWithError(err) // nil is the end
		walked <- outcome{report, err}
	}()
	missed, err := d.convert(ctx, from, open)
	if err != nil {
		cancel(err)
	}
	_ = from.CloseWithError(err)
	end := <-walked
	switch {
	case err != nil: // also the walker's own, which came through the pipe
		return tree.Report{}, err
	case end.err != nil:
		return tree.Report{}, end.err
	}
	d.warn(missed)
	return end.report, nil
}

// convert reads a file archive and writes a tar.
func (d *draft) convert(ctx context.Context, r io.Reader, open func(*entries) (io.Writer, error)) (extract.Result, error) {
	src, err := newEntries(r)
	if err != nil {
		return extract.Result{}, err
	}
	w, err := open(src)
	if err != nil {
		return extract.Result{}, err
	}
	res, err := extract.Tar(ctx, src, w, extract.StreamOptions{Problem: func(p extract.Problem) {
		d.s.o.Log.Warn("an entry is not in the backup", "backup", d.a.Name, "path", p.Path, "error", p.Err)
	}})
	if err != nil {
		return res, err
	}
	_, err = io.Copy(io.Discard, r) // the walker ends when all is read
	return res, err
}

// entries are those of a file archive, of which the root can be seen before.
type entries struct {
	*pxar.Reader
	root    pxar.Entry
	seen    bool
	plain   bool       // ACLs are left out
	acls    int        // entries that had one
	current pxar.Entry // without it
}

func newEntries(r io.Reader) (*entries, error) {
	archive, err := pxar.NewReader(r, nil)
	if err != nil {
		return nil, err
	}
	root, err := archive.Next()
	if err != nil {
		return nil, err
	}
	return &entries{Reader: archive, root: *root}, nil
}

// Next is that of the archive, without the file of patterns: the container has
// none, and would have one when it is restored.
func (e *entries) Next() (*pxar.Entry, error) {
	next := &e.root
	for e.seen {
		var err error
		if next, err = e.Reader.Next(); err != nil {
			return nil, err
		}
		if next.Name != pxar.ExcludeName || next.Kind != pxar.File || len(e.Path()) != 1 {
			break
		}
	}
	e.seen = true
	if !e.plain || next.ACL == nil {
		return next, nil
	}
	e.acls++
	e.current = *next
	e.current.ACL, e.current.Mode = nil, plainMode(&next.Metadata)
	return &e.current, nil
}

// plainMode is the mode without the ACL. With it the group's bits are the mask,
// which would allow the group more than it had.
func plainMode(m *pxar.Metadata) uint32 {
	if m.ACL == nil || m.ACL.GroupObj == nil {
		return m.Mode
	}
	return m.Mode&^0o070 | uint32(*m.ACL.GroupObj&7)<<3
}

// warn says what tar has no place for.
func (d *draft) warn(res extract.Result) {
	for kind, m := range res.NotSet {
		if m.Count > 0 {
			d.s.o.Log.Warn("some metadata is not in the backup", "backup", d.a.Name,
				"kind", fmt.Sprint(kind), "entries", m.Count, "first", m.Path, "error", m.Err)
		}
	}
}
