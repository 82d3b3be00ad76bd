package bucket

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// Identify reads which repository lies below the address of s. No other, not even a
// later one at the same place, has the same name.
func Identify(ctx context.Context, s objstore.Store) (string, error) {
	text, _, err := resume.ReadAll(ctx, s, catalog.MarkerKey, maxMarker)
	if err != nil {
		return "", err
	}
	var m marker
	if err := json.Unmarshal(text, &m); err != nil || m.Format != format || m.ID == "" {
		return "", &repo.CorruptError{What: fmt.Sprintf("%s of %s", catalog.MarkerKey, s.Location()), Err: fmt.Errorf("it is %.100q", text)}
	}
	return m.ID, nil
}

const maxMarker = 1 << 10 // bytes

// Unchanging reports whether an object of that key is the same as long as there is a
// repository of one name: all but the marker, and what is only there for its time.
func Unchanging(key string) bool {
	dir, _, _ := strings.Cut(key, "/")
	switch dir {
	case "log", "state", "s":
		return true
	}
	return false
}
