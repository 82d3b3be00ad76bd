package remote

import (
	"context"
	"fmt"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/proto/items"
)

// atLeast reports whether the server's API is that of a release or a later one.
func (r *Repository) atLeast(ctx context.Context, major, minor, release int) (bool, error) {
	var v items.Version
	if err := r.call(ctx, http.MethodGet, "/version", nil, &v); err != nil {
		return false, fmt.Errorf("version of the server: %w", err)
	}
	var has [3]int
	if _, err := fmt.Sscanf(v.Version+"."+v.Release, "%d.%d.%d", &has[0], &has[1], &has[2]); err != nil {
		return false, fmt.Errorf("version of the server: %q, release %q: %w", v.Version, v.Release, err)
	}
	for i, want := range [3]int{major, minor, release} {
		if has[i] != want {
			return has[i] > want, nil
		}
	}
	return true, nil
}
