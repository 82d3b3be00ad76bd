package job

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// stored is a file of a snapshot as it lies in its directory.
type stored struct {
	name  names.Archive
	size  int64
	write func(io.Writer) error
	// each yields the chunks that an index names, in its order; nil for a blob.
	each  func(yield func(wanted) error) error
	close func() error
}

// openFile opens a file of a snapshot.
func openFile(snap repo.Snapshot, name names.Archive) (stored, error) {
	switch name.Kind() {
	case names.Fidx:
		x, c, err := snap.OpenFixed(name)
		if err != nil {
			return stored{}, err
		}
		return stored{name, x.FileSize(), func(w io.Writer) error { _, err := x.WriteTo(w); return err }, func(yield func(wanted) error) error {
			return x.Each(func(i int, d digest.Digest) error {
				start, end := x.Bounds(i)
				return yieldChunk(name, yield, d, end-start)
			})
		}, c.Close}, nil
	case names.Didx:
		x, c, err := snap.OpenDynamic(name)
		if err != nil {
			return stored{}, err
		}
		return stored{name, x.FileSize(), func(w io.Writer) error { _, err := x.WriteTo(w); return err }, func(yield func(wanted) error) error {
			return x.Each(func(_ int, start, end int64, d digest.Digest) error {
				return yieldChunk(name, yield, d, end-start)
			})
		}, c.Close}, nil
	}
	raw, err := snap.Blob(name)
	if err != nil {
		return stored{}, err
	}
	return stored{name, int64(len(raw)), func(w io.Writer) error { _, err := w.Write(raw); return err }, nil, func() error { return nil }}, nil
}

// yieldChunk takes no more memory for a chunk than one can have.
func yieldChunk(name names.Archive, yield func(wanted) error, d digest.Digest, size int64) error {
	if size < 1 || size > blob.MaxChunk {
		return &repo.CorruptError{What: "archive " + name.String(), Err: fmt.Errorf("chunk %s of %d bytes", d, size)}
	}
	return yield(wanted{d, int(size)})
}

// fileNames lists the files of a snapshot in the order of its archive.
func fileNames(snap repo.Snapshot) []names.Archive {
	list := []names.Archive{names.Manifest}
	for _, f := range snap.Manifest().Files {
		list = append(list, f.Archive())
	}
	return append(list, names.ClientLog)
}

// writeFiles writes all files of a snapshot as a pxar archive.
func writeFiles(w io.Writer, snap repo.Snapshot) error {
	p := pxar.NewWriter(w, pxar.WriterOptions{})
	if err := p.BeginDir(&pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory | 0o664}}); err != nil {
		return err
	}
	for _, name := range fileNames(snap) {
		f, err := openFile(snap, name)
		if name == names.ClientLog && errors.Is(err, repo.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(addFile(p, f, snap.Name().Time), f.close()); err != nil {
			return fmt.Errorf("archive %s: %w", name, err)
		}
	}
	if err := p.EndDir(); err != nil {
		return err
	}
	return p.Close()
}

func addFile(p *pxar.Writer, f stored, mtime int64) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := f.write(w)
		done <- errors.Join(err, w.CloseWithError(err))
	}()
	e := &pxar.Entry{Name: f.name.String(), Kind: pxar.File, Size: f.size, Metadata: pxar.Metadata{
		Mode: pxar.ModeFile | 0o644, Mtime: pxar.Time{Sec: mtime},
	}}
	c, err := p.AddFile(e, r)
	_ = r.Close() // ends the other side, if that did not end
	werr := <-done
	switch {
	case err != nil:
		return err
	case c.Err != nil:
		return c.Err
	case c.Missing > 0 || c.Grew:
		return errors.New("it changed while it was read")
	}
	if errors.Is(werr, io.ErrClosedPipe) {
		return nil // the last byte was taken before the end was seen
	}
	return werr
}
