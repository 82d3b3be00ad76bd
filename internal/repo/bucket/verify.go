package bucket

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// Verify reads snapshots back and compares everything with its checksums. A damaged
// chunk is noted, so that the next backup stores it again, and the verdict goes into
// the manifest.
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
	s, err := v.repo.openSnapshot(ctx, n)
	if err != nil { // not a typed nil
		return nil, err
	}
	return s, nil
}

func (v verifiable) SetAside(ctx context.Context, _ verify.Snapshot, d digest.Digest, check func() error) (bool, error) {
	if err := check(); !verify.IsDamage(err) {
		return err == nil, nil
	}
	return false, v.lose(ctx, d)
}

func (v verifiable) MarkLost(ctx context.Context, _ verify.Snapshot, d digest.Digest) error {
	return v.lose(ctx, d)
}

// lose notes that nobody has a sound chunk.
func (v verifiable) lose(ctx context.Context, d digest.Digest) error {
	return v.keep(ctx, func(tx catalog.Tx) error { return catalog.Set(tx, catalog.BadKey(d), catalog.Bad{}) })
}

func (v verifiable) SaveVerdict(ctx context.Context, n names.Snapshot, state manifest.VerifyState) error {
	return v.keep(ctx, func(tx catalog.Tx) error {
		return catalog.ChangeManifest(tx, n, func(m *manifest.Manifest) { m.SetVerifyState(state) })
	})
}

// keep makes a change, if that is allowed.
func (v verifiable) keep(ctx context.Context, decide func(catalog.Tx) error) error {
	_, err := v.repo.update(ctx, decide)
	if errors.Is(err, objstore.ErrDenied) || errors.Is(err, ErrPast) {
		return nil
	}
	return err
}

func (v verifiable) Now() time.Time { return v.repo.opt.Now() }

func (v verifiable) TaskID(start time.Time, kind, what string) string {
	p := v.repo.opt.Process
	return upid.New(p.Host, p.PID, start, kind, what, catalog.DefaultOwner).String()
}
