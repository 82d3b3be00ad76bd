package bucket

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// why says why a session failed. What it reads, and what it wrote, stays for as long as it
// runs. So where something is not there, somebody else may have ended the session, and that
// is what there is to say.
func (r *Repository) why(ctx context.Context, n catalog.Number, err error) error {
	if !missing(err) {
		return err
	}
	state, verr := r.now(ctx)
	if verr == nil {
		_, verr = catalog.Alive(state, n)
	}
	switch {
	case verr == nil:
		return err
	case errors.Is(verr, catalog.ErrFenced):
		return fmt.Errorf("%w (%v)", verr, err)
	}
	return fmt.Errorf("%v; whether somebody else had ended the session could not be found out: %w", err, verr)
}

// missing reports whether an error may be of something that was there before.
func missing(err error) bool {
	_, corrupt := errors.AsType[*repo.CorruptError](err)
	return corrupt || errors.Is(err, objstore.ErrNotFound) || errors.Is(err, repo.ErrNotFound) || errors.Is(err, repo.ErrChunkMissing)
}

// why is that of the repository, for one that did not end itself.
func (b *Session) why(ctx context.Context, err error) error {
	if b.live() != nil {
		return err
	}
	return b.repo.why(ctx, b.number, err)
}
