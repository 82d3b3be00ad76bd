package bucket

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/reading"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// Verify reads snapshots back, pack by pack, and compares everything with its
// checksums. A damaged chunk is noted, so that the next backup that has it stores it
// again, for older snapshots too; the verdict goes into the manifest. Both are one
// entry for each snapshot.
func (r *Repository) Verify(ctx context.Context, opt repo.VerifyOptions) (repo.VerifyReport, error) {
	s, err := r.view(ctx)
	if err != nil {
		return repo.VerifyReport{}, err
	}
	return verify.Run(ctx, verifiable{r, s}, opt)
}

// verifiable is a repository in the eyes of a verification, as it was when that
// began. What cannot be written down without the right to is reported all the same.
type verifiable struct {
	repo  *Repository
	state catalog.Reader
}

func (v verifiable) Need(n names.Snapshot) error {
	_, err := catalog.NeedSnapshot(v.state, n)
	return err
}

func (v verifiable) Spaces(ns names.Namespace, below bool) ([]names.Namespace, error) {
	if err := catalog.NeedNamespace(v.state, ns); err != nil {
		return nil, err
	}
	spaces := []names.Namespace{ns}
	if !below {
		return spaces, nil
	}
	all, err := catalog.Namespaces(v.state, ns)
	return append(spaces, all...), err
}

func (v verifiable) Groups(ns names.Namespace, only *names.Group) ([]names.Group, error) {
	return wanted(v.state, ns, only)
}

func (v verifiable) Finished(ns names.Namespace, g names.Group) ([]names.Snapshot, error) {
	return catalog.Times(v.state, ns, g)
}

func (v verifiable) Open(ctx context.Context, n names.Snapshot) (verify.Snapshot, error) {
	s, err := v.repo.view(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := catalog.NeedSnapshot(s, n)
	if err != nil {
		return nil, err
	}
	snap, err := v.repo.openFrom(ctx, v.repo.opt.Engine, n, rec)
	if err != nil {
		return nil, err
	}
	return &verified{Snapshot: snap, repo: v.repo, made: rec.Session}, nil
}

// verified is a snapshot being verified, with what was found.
type verified struct {
	*reading.Snapshot
	repo *Repository
	made catalog.Number

	mu    sync.Mutex
	found []catalog.Damage // and not written down
}

// Place implements verify.Placer. A chunk that is nowhere is found out when it is
// read.
func (p *verified) Place(ctx context.Context, d digest.Digest) (at verify.Place, err error) {
	l, err := p.Locate(ctx, d)
	if errors.Is(err, repo.ErrChunkMissing) {
		return at, nil
	}
	b := l.Pack.Append(at[:0])
	b = binary.BigEndian.AppendUint32(b, l.Off)
	binary.BigEndian.AppendUint32(b, l.Len)
	return at, err
}

// Ahead implements verify.Placer.
func (p *verified) Ahead() int {
	chunks, _ := p.Distance()
	return chunks
}

// note remembers a chunk that is not sound where it lies, which check says of the
// place where it lies now. One that lies nowhere is no damage of the repository, but of
// the snapshot that names it.
func (p *verified) note(ctx context.Context, d digest.Digest, check func() error) (sound bool, err error) {
	for {
		at, err := p.Locate(ctx, d)
		if errors.Is(err, repo.ErrChunkMissing) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if err := check(); !verify.IsDamage(err) {
			return err == nil, nil
		}
		if now, err := p.Locate(ctx, d); err == nil && now != at {
			continue // another backup has stored it since
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.found = append(p.found, catalog.Damage{Chunk: d, At: at})
		return false, nil
	}
}

// noted is how much damage is written down with one entry.
const noted = 4096

// settle writes down what was found, and the verdict if there is one.
func (p *verified) settle(ctx context.Context, v *manifest.VerifyState) error {
	p.mu.Lock()
	found := p.found
	p.found = nil
	p.mu.Unlock()
	for part := range slices.Chunk(found, noted) {
		last := v != nil && &part[len(part)-1] == &found[len(found)-1]
		if err := p.write(ctx, part, v, last); err != nil {
			return err
		}
	}
	if v == nil || len(found) > 0 {
		return nil
	}
	return p.write(ctx, nil, v, true)
}

// write makes one entry, if that is allowed.
func (p *verified) write(ctx context.Context, found []catalog.Damage, v *manifest.VerifyState, verdict bool) error {
	_, err := p.repo.update(ctx, func(tx catalog.Tx) error {
		if err := catalog.NoteDamage(tx, found); err != nil || !verdict {
			return err
		}
		return catalog.SetVerdict(tx, p.Name(), p.made, *v)
	})
	if errors.Is(err, objstore.ErrDenied) || errors.Is(err, ErrPast) {
		return nil // it is worth knowing even where it cannot be kept
	}
	return err
}

// Close writes down what was found of a verification that was cut short.
func (p *verified) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	return errors.Join(p.settle(ctx, nil), p.Snapshot.Close())
}

// lastWords is how long a verification that ends may take to say what it found.
const lastWords = 30 * time.Second

func (v verifiable) SetAside(ctx context.Context, snap verify.Snapshot, d digest.Digest, check func() error) (bool, error) {
	return snap.(*verified).note(ctx, d, check)
}

func (v verifiable) MarkLost(ctx context.Context, snap verify.Snapshot, d digest.Digest) error {
	_, err := snap.(*verified).note(ctx, d, func() error { return repo.ErrChunkMissing }) // the newest state was asked
	return err
}

func (v verifiable) SaveVerdict(ctx context.Context, snap verify.Snapshot, state manifest.VerifyState) error {
	return snap.(*verified).settle(ctx, &state)
}

func (v verifiable) Now() time.Time { return v.repo.opt.Now() }

func (v verifiable) TaskID(start time.Time, kind, what string) string {
	p := v.repo.opt.Process
	return upid.New(p.Host, p.PID, start, kind, what, catalog.DefaultOwner).String()
}
