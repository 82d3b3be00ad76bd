package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

// Source is a disk image in a snapshot.
type Source struct {
	Repository string // as the user named it; for people
	Snapshot   repo.Snapshot
	Archive    names.Archive
	Key        *chunkcrypt.Key // nil when it is not encrypted
}

// identity is the digest that stands for an image, and its size.
func (s Source) identity(snap repo.Snapshot) (digest.Digest, int64, error) {
	f, ok := snap.Manifest().File(string(s.Archive))
	if !ok {
		return digest.Digest{}, 0, fmt.Errorf("snapshot %s has no archive %s: %w", snap.Name(), s.Archive, repo.ErrNotFound)
	}
	return f.Csum, int64(f.Size), nil
}

// FillOptions says how a volume is filled. The zero value is useful.
type FillOptions struct {
	Options
	// Again brings the image back onto a volume that was filled with it before.
	Again bool
	// Aligned has the payload of a new header begin at the byte Aligned.
	Aligned bool
	// Restore is how the payload is written. With a base, the header must say
	// that the volume holds that, complete; then only what differs between the two
	// snapshots is touched, and nothing else is looked at.
	Restore restore.Options
	Now     func() time.Time // nil: the clock
}

// Filled is what became of a Fill.
type Filled struct {
	Info
	Kept    bool // the volume held the image, and nothing was done
	Resumed bool // a Fill of this image had been interrupted
	Restore restore.Result
}

// Fill makes a volume hold an image.
func Fill(ctx context.Context, path string, src Source, o FillOptions) (Filled, error) {
	l, err := lock(ctx, path, o.Options)
	if err != nil {
		return Filled{}, err
	}
	defer l.close()
	sector, err := l.sector()
	if err != nil {
		return Filled{}, err
	}
	f, err := newFilling(l.place, src, o)
	if err != nil {
		return Filled{}, err
	}
	done, err := f.plan(sector)
	if err != nil {
		return Filled{}, err
	}
	if !done.Kept {
		dev, err := l.claim()
		if err != nil {
			return Filled{}, err
		}
		done, err = f.on(ctx, dev)
		if err = errors.Join(err, dev.Close()); err != nil {
			return Filled{}, err
		}
	}
	done.Device, done.Size = l.node, l.size
	return done, nil
}

// filling is one Fill.
type filling struct {
	place
	src    Source
	digest digest.Digest
	size   int64 // bytes of the image
	start  int64 // of the payload
	opts   FillOptions
}

func newFilling(p place, src Source, o FillOptions) (*filling, error) {
	d, size, err := src.identity(src.Snapshot)
	if err != nil {
		return nil, err
	}
	if o.Restore.AllowHoles {
		return nil, errors.New("a volume holds a whole image or none: holes cannot be allowed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	start := p.usualStart()
	if o.Aligned {
		start = Aligned
	}
	return &filling{p, src, d, size, start, o}, nil
}

// plan decides what is to be done to a volume with this first sector. A payload
// that has its place keeps it: what is there already need not be written.
func (f *filling) plan(sector []byte) (Filled, error) {
	now, err := f.place.header(sector)
	if err != nil {
		return Filled{}, err
	}
	if now != nil && now.Record != nil {
		f.start = now.Start()
	}
	if err := f.fits(f.start, f.size); err != nil {
		return Filled{}, err
	}
	var done Filled
	if now != nil && now.Holds(f.digest) && !f.opts.Again {
		done.Kept, done.Header = true, *now
		return done, nil
	}
	if now != nil && now.Record != nil {
		r := now.Record
		done.Resumed = r.State == volumeheader.Filling && r.Digest == f.digest
	}
	return done, f.checkBase(now)
}

// checkBase refuses a base that the volume does not hold for sure.
func (f *filling) checkBase(now *volumeheader.Header) error {
	base := f.opts.Restore.Base
	if base == nil {
		return nil
	}
	d, _, err := f.src.identity(base)
	if err != nil {
		return fmt.Errorf("base: %w", err)
	}
	switch {
	case now == nil || now.Record == nil:
		err = errors.New("it has no header that says so")
	case now.Record.Digest != d:
		err = errors.New("it holds another image")
	case now.Record.State != volumeheader.Complete:
		err = fmt.Errorf("its state is %s", now.Record.State)
	default:
		return nil
	}
	return fmt.Errorf("%s does not hold the snapshot %s unchanged: %w; without a base it is compared block by block", f.path, base.Name().Path(), err)
}

// on fills a device that nobody else can change.
func (f *filling) on(ctx context.Context, d device) (Filled, error) {
	sector, err := readSector(d)
	if err != nil {
		return Filled{}, err
	}
	done, err := f.plan(sector)
	if err != nil || done.Kept {
		return done, err
	}
	if err := writeHeader(d, sector, f.full(volumeheader.Filling)); err != nil {
		return Filled{}, err
	}
	to, err := newPayload(d, f.start, f.size)
	if err != nil {
		return Filled{}, err
	}
	done.Restore, err = restore.Image(ctx, f.src.Snapshot, f.src.Archive, f.src.Key, to, f.opts.Restore)
	if err != nil {
		return Filled{}, err
	}
	done.Header = f.full(volumeheader.Complete)
	return done, writeHeader(d, sector, done.Header)
}

func (f *filling) full(s volumeheader.State) volumeheader.Header {
	return volumeheader.Full(volumeheader.Record{
		State: s, Size: f.size, Start: f.start, Changed: f.opts.Now().Unix(), Digest: f.digest,
		Repository: f.src.Repository, Snapshot: f.src.Snapshot.Name(), Archive: f.src.Archive,
	})
}
