package bucket

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/repo"
)

// GC removes what nobody needs.
func (r *Repository) GC(context.Context, repo.GCOptions) (repo.GCStatus, error) {
	return repo.GCStatus{}, fmt.Errorf("garbage collection of %s: %w", r.Location(), errors.ErrUnsupported)
}
