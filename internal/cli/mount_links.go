package cli

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/mount"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// linkCounter chooses how the hard links of an archive are counted; nil means
// that they are not. The catalog lists those of archives that are not split.
func (a *app) linkCounter(s repo.Snapshot, f *filearchive.Archive, key *chunkcrypt.Key, wanted choice) func(context.Context) (*mount.Links, error) {
	inCatalog := !f.Parts.Split() && hasCatalog(s)
	switch {
	case !wanted.or(f.Parts.Split() || inCatalog):
		return nil
	case inCatalog:
		return func(ctx context.Context) (*mount.Links, error) { return catalogLinks(ctx, s, f, key) }
	}
	return func(ctx context.Context) (*mount.Links, error) { return mount.CountLinks(ctx, f.Archive) }
}

// catalogLinks looks up what the catalog calls a hard link.
func catalogLinks(ctx context.Context, s repo.Snapshot, f *filearchive.Archive, key *chunkcrypt.Key) (_ *mount.Links, err error) {
	t, err := browse.OpenCatalog(ctx, s, key, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	names, err := t.Below(ctx, "/"+string(f.Parts.Meta))
	if err != nil {
		return nil, err
	}
	var targets []int64
	err = names.Walk(ctx, "/", func(path []byte, e *browse.Entry) error {
		if e.Kind != pxar.Hardlink {
			return nil
		}
		link, err := f.LookupPath(string(path))
		if err == nil && link.Kind == pxar.Hardlink {
			targets = append(targets, link.Link)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return mount.LinksTo(targets)
}
