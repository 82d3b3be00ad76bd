package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/indexset"
)

// copy copies an open snapshot into a session, which begin begins.
func (r *run) copy(ctx context.Context, snap repo.Snapshot, to names.Snapshot, begin func() (repo.Session, error)) (err error) {
	m, err := listed(snap)
	if err != nil {
		return atSource(err)
	}
	ses, err := begin()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ses.Abort())
		}
	}()
	c := &copying{run: r, snap: snap, ses: ses, seen: map[digest.Digest]struct{}{}}
	defer func() { err = errors.Join(err, c.known.Close()) }()
	if err := c.previous(); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := c.file(ctx, f); err != nil {
			return fmt.Errorf("archive %s: %w", f.Filename, err)
		}
	}
	switch raw, err := logOf(snap); {
	case err != nil:
		r.logf("log of %s: %v", inside(to.NS, to.String()), err) // nothing vouches for it, nothing needs it
	case raw != nil:
		if err := ses.PutBlob(ctx, names.ClientLog, raw); err != nil {
			return err
		}
	}
	return ses.Finish(ctx, m)
}

// listed returns a copy of the manifest, without what is about the source's chunks.
func listed(snap repo.Snapshot) (*manifest.Manifest, error) {
	bad := func(err error) error {
		return &repo.CorruptError{What: "manifest of " + snap.Name().String(), Err: err}
	}
	if !snap.Manifest().Describes(snap.Name()) {
		return nil, bad(errors.New("it belongs to another snapshot"))
	}
	text, err := snap.Manifest().Marshal()
	if err != nil {
		return nil, bad(err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return nil, bad(err)
	}
	for _, f := range m.Files {
		name, err := names.ParseArchive(f.Filename)
		switch {
		case err != nil:
			return nil, bad(err)
		case name == names.Manifest, name == names.ClientLog:
			return nil, bad(fmt.Errorf("it lists %s, which it must not", name))
		}
	}
	return m, m.SetRaw("verify_state", nil)
}

// copying is one snapshot on its way.
type copying struct {
	run   *run
	snap  repo.Snapshot
	ses   repo.Session
	known indexset.Set               // what the target's previous snapshot names
	seen  map[digest.Digest]struct{} // what is known besides, up to maxSeen
}

// maxSeen bounds the memory of seen to about 4 MiB.
const maxSeen = 1 << 16

// previous opens the indexes of the target's previous snapshot. Of one that is
// damaged nothing is known.
func (c *copying) previous() error {
	prev := c.ses.Previous()
	if prev == nil {
		return nil
	}
	for _, f := range prev.Manifest().Files {
		var err error
		switch name := f.Archive(); name.Kind() {
		case names.Fidx:
			var x *fidx.Index
			var closer io.Closer
			if x, closer, err = prev.OpenFixed(name); err == nil {
				err = c.known.AddFixed(x, closer)
			}
		case names.Didx:
			var x *didx.Index
			var closer io.Closer
			if x, closer, err = prev.OpenDynamic(name); err == nil {
				err = c.known.AddDynamic(x, closer)
			}
		}
		if err != nil && !isDamage(err) && !errors.Is(err, repo.ErrNotFound) {
			return fmt.Errorf("the previous snapshot: %w", err)
		}
	}
	return nil
}

// file copies one archive.
func (c *copying) file(ctx context.Context, f manifest.File) error {
	switch f.Archive().Kind() {
	case names.Fidx:
		return c.fixed(ctx, f)
	case names.Didx:
		return c.dynamic(ctx, f)
	}
	raw, err := c.snap.Blob(f.Archive())
	if err == nil && (uint64(len(raw)) != f.Size || digest.Of(raw) != f.Csum) {
		err = wrong(f, errors.New("size or checksum differ from the manifest"))
	}
	if err == nil {
		if _, cerr := blob.Check(raw); cerr != nil {
			err = wrong(f, cerr)
		}
	}
	if err != nil {
		return atSource(err)
	}
	if err := c.run.Rate.Wait(ctx, len(raw)); err != nil {
		return err
	}
	c.run.count.bytes.Add(int64(len(raw)))
	return c.ses.PutBlob(ctx, f.Archive(), raw)
}

func wrong(f manifest.File, err error) error {
	return &repo.CorruptError{What: "archive " + f.Filename, Err: err}
}

func (c *copying) fixed(ctx context.Context, f manifest.File) (err error) {
	x, closer, err := c.snap.OpenFixed(f.Archive())
	if err != nil {
		return atSource(err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	if x.Size != f.Size || x.ChunkSize > blob.MaxChunk {
		return atSource(wrong(f, fmt.Errorf("an image of %d bytes in chunks of %d, where the manifest says %d bytes", x.Size, x.ChunkSize, f.Size)))
	}
	w, err := c.ses.CreateFixed(f.Archive(), int64(x.Size), int(x.ChunkSize))
	if err != nil {
		return err
	}
	err = c.chunks(ctx, f, func(yield func(digest.Digest, int64) error) error {
		return x.Each(func(i int, d digest.Digest) error {
			start, end := x.Bounds(i)
			return yield(d, end-start)
		})
	})
	if err != nil {
		return err
	}
	const block = 2048
	ds := make([]digest.Digest, min(block, x.Count()))
	for first := 0; first < x.Count(); first += len(ds) {
		ds = ds[:min(len(ds), x.Count()-first)]
		if err := x.Digests(first, ds); err != nil {
			return atSource(err)
		}
		if err := setAll(w, first, ds); err != nil {
			return err
		}
	}
	sum, err := w.Close()
	if err == nil && sum != f.Csum {
		err = atSource(wrong(f, fmt.Errorf("the index has checksum %s, the manifest says %s", sum, f.Csum)))
	}
	return err
}

// setAll names the chunks of the slots from first on, in one call if that can be.
func setAll(w repo.FixedWriter, first int, ds []digest.Digest) error {
	if w, ok := w.(interface {
		SetDigests(first int, ds []digest.Digest) error
	}); ok {
		return w.SetDigests(first, ds)
	}
	for i, d := range ds {
		if err := w.Set(first+i, d); err != nil {
			return err
		}
	}
	return nil
}

func (c *copying) dynamic(ctx context.Context, f manifest.File) (err error) {
	x, closer, err := c.snap.OpenDynamic(f.Archive())
	if err != nil {
		return atSource(err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	w, err := c.ses.CreateDynamic(f.Archive())
	if err != nil {
		return err
	}
	err = c.chunks(ctx, f, func(yield func(digest.Digest, int64) error) error {
		return x.Each(func(_ int, start, end int64, d digest.Digest) error { return yield(d, end-start) })
	})
	if err != nil {
		return err
	}
	var bad error // of the target
	err = x.Each(func(_ int, _, end int64, d digest.Digest) error {
		bad = w.Add(uint64(end), d)
		return bad
	})
	if bad != nil {
		return bad
	}
	if err != nil {
		return atSource(err)
	}
	size, sum, err := w.Close()
	if err == nil && (size != f.Size || sum != f.Csum) {
		err = atSource(wrong(f, fmt.Errorf("the index has %d bytes and checksum %s, the manifest says %d and %s", size, sum, f.Size, f.Csum)))
	}
	return err
}
