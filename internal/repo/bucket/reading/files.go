package reading

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

const maxBlob = blob.MaxPlain + blob.EncryptedHeaderSize

// OpenFixed fetches an index and compares it with the manifest.
func (p *Snapshot) OpenFixed(name names.Archive) (*fidx.Index, io.Closer, error) {
	f, listed, err := p.index(name)
	if err != nil {
		return nil, nil, err
	}
	return spool.Fixed(f, p.name, listed)
}

// OpenDynamic does the same for a dynamic index.
func (p *Snapshot) OpenDynamic(name names.Archive) (*didx.Index, io.Closer, error) {
	f, listed, err := p.index(name)
	if err != nil {
		return nil, nil, err
	}
	return spool.Dynamic(f, p.name, listed)
}

func (p *Snapshot) index(name names.Archive) (*spool.File, manifest.File, error) {
	listed, span, err := p.file(name)
	if err != nil {
		return nil, listed, err
	}
	p.ahead.needMap() // chunks are next
	f, err := p.spool("archive "+name.String(), span)
	return f, listed, err
}

// file is what manifest and record say of an archive.
func (p *Snapshot) file(name names.Archive) (manifest.File, catalog.Span, error) {
	listed, ok := p.m.File(name.String())
	if !ok {
		return listed, catalog.Span{}, fmt.Errorf("archive %s in %s: %w", name, p.name, repo.ErrNotFound)
	}
	span, ok := p.rec.File(name)
	if !ok {
		return listed, span, p.corrupt("archive "+name.String(), errors.New("the manifest lists it, the snapshot's record does not"))
	}
	return listed, span, nil
}

// pieces in which files come.
const (
	piece       = 4 << 20 // bytes
	piecesAhead = 8
)

// spool brings a part of the snapshot's object into a temporary file.
func (p *Snapshot) spool(what string, span catalog.Span) (*spool.File, error) {
	if err := p.check(what, span, math.MaxInt64); err != nil {
		return nil, err
	}
	whole, err := p.whole()
	if err != nil {
		return nil, p.failed(what, err)
	}
	f, err := spool.Create()
	if err != nil {
		return nil, err
	}
	if whole != nil {
		if _, err := f.WriteAt(whole[span.Off:span.Off+span.Len], 0); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
	g, ctx := errgroup.WithContext(p.ctx)
	g.SetLimit(piecesAhead)
	for off := int64(0); off < span.Len && ctx.Err() == nil; off += piece {
		g.Go(func() error {
			r, err := resume.Open(ctx, p.opt.Store, catalog.SnapshotObject(p.rec.Session), span.Off+off, min(piece, span.Len-off))
			if err != nil {
				return err
			}
			_, err = io.Copy(io.NewOffsetWriter(f, off), r)
			return errors.Join(err, r.Close())
		})
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(p.failed(what, err), f.Close())
	}
	return f, nil
}

// check refuses what no object has.
func (p *Snapshot) check(what string, span catalog.Span, most int64) error {
	if span.Off < 0 || span.Len < 0 || span.Len > most || span.Off > math.MaxInt64-span.Len {
		return p.corrupt(what, fmt.Errorf("the snapshot's record says it has %d bytes at %d", span.Len, span.Off))
	}
	return nil
}

// failed says why a part of the snapshot's object could not be had.
func (p *Snapshot) failed(what string, err error) error {
	switch {
	case p.ctx.Err() != nil:
		return fmt.Errorf("%s in %s: %w", what, p.name, context.Cause(p.ctx))
	case errors.Is(err, objstore.ErrNotFound):
		return p.lost(p.ctx, what, err)
	case errors.Is(err, resume.ErrShort):
		return p.corrupt(what, err)
	}
	return fmt.Errorf("%s in %s: %w", what, p.name, err)
}

// Blob returns an encoded blob after comparing it with the manifest;
// names.ClientLog, which is not in it, as it is.
func (p *Snapshot) Blob(name names.Archive) ([]byte, error) {
	switch name {
	case names.Manifest:
		return p.manifestBlob()
	case names.ClientLog:
		return p.clientLog()
	}
	what := "archive " + name.String()
	listed, span, err := p.file(name)
	if err != nil {
		return nil, err
	}
	if err := p.check(what, span, maxBlob); err != nil {
		return nil, err
	}
	whole, err := p.whole()
	if err != nil {
		return nil, p.failed(what, err)
	}
	raw := make([]byte, span.Len)
	if whole != nil {
		copy(raw, whole[span.Off:])
	} else if err := resume.Fetch(p.ctx, p.opt.Store, catalog.SnapshotObject(p.rec.Session), raw, span.Off); err != nil {
		return nil, p.failed(what, err)
	}
	if err := spool.Blob(raw, p.name, listed); err != nil {
		return nil, err
	}
	return raw, nil
}

// manifestBlob is the manifest as a file has it.
func (p *Snapshot) manifestBlob() ([]byte, error) {
	enc, err := blob.NewEncoder(nil, nil, true)
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	raw, err := enc.Append(nil, p.rec.Manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", p.name, err)
	}
	return raw, nil
}

// clientLog reads the log that may have come after the snapshot.
func (p *Snapshot) clientLog() ([]byte, error) {
	what := "archive " + string(names.ClientLog)
	rec, ok, err := catalog.Get[catalog.Snapshot](p.opt.Seen(), catalog.SnapshotKey(p.name))
	if err != nil {
		return nil, err
	}
	if !ok || rec.Session != p.rec.Session || rec.Log == 0 {
		return nil, fmt.Errorf("%s in %s: %w", what, p.name, repo.ErrNotFound)
	}
	raw, _, err := resume.ReadAll(p.ctx, p.opt.Store, catalog.LogObject(p.rec.Session), maxBlob)
	if err != nil {
		return nil, p.failed(what, err)
	}
	return raw, nil
}
