package bucket

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// CreateOptions say how a new repository is.
type CreateOptions struct {
	Options
	PackSize  int64              // bytes; 0: DefaultPackSize
	Retention *catalog.Retention // object lock of all objects; nil: none
}

// Sizes of packs in bytes. Smaller ones than MinPackSize are many requests.
const (
	DefaultPackSize = 56 << 20
	MinPackSize     = 16 << 20 // that the format has
	MaxPackSize     = 64 << 20

	leastPackSize = 4 << 10 // for tests, which have few data
)

// marker is what the object says that makes a bucket known as a repository.
type marker struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	ID      string `json:"id"`
}

const format = "holdfast-bucket"

// Create makes a repository below the address of s. A repeated call after an
// interrupted one completes it; repo.ErrExists: there is one.
func Create(ctx context.Context, s objstore.Store, o CreateOptions) error {
	o.Options = o.whole(s)
	if err := create(ctx, s, o); err != nil {
		return fmt.Errorf("create repository %s: %w", o.Location, err)
	}
	return nil
}

func create(ctx context.Context, s objstore.Store, o CreateOptions) error {
	if o.PackSize == 0 {
		o.PackSize = DefaultPackSize
	}
	if o.PackSize < leastPackSize || o.PackSize > MaxPackSize {
		return fmt.Errorf("packs of %d bytes: want %d to %d", o.PackSize, leastPackSize, MaxPackSize)
	}
	if r := o.Retention; r != nil && (r.Days < 1 || r.Mode != catalog.Governance && r.Mode != catalog.Compliance) {
		return fmt.Errorf("retention of %d days in mode %q: want at least one day, and %s or %s", r.Days, r.Mode, catalog.Governance, catalog.Compliance)
	}
	m, err := mark(ctx, s, o)
	if err != nil {
		return err
	}
	meta, err := json.Marshal(catalog.Meta{Version: version, ID: m.ID, PackSize: o.PackSize, Retention: o.Retention})
	if err != nil {
		return err
	}
	lo := ledgerOptions(o.Options)
	lo.Retain = func() objstore.Retention { return o.Retention.From(o.Now()) }
	err = ledger.Create(ctx, s, lo, map[string][]byte{catalog.MetaKey: meta})
	if errors.Is(err, ledger.ErrExists) {
		return fmt.Errorf("%w: it holds a repository", repo.ErrExists)
	}
	return broken(err)
}

// mark makes the marker, or reads the one that is there.
func mark(ctx context.Context, s objstore.Store, o CreateOptions) (marker, error) {
	var id [16]byte
	if _, err := io.ReadFull(o.Rand, id[:]); err != nil {
		return marker{}, err
	}
	m := marker{format, version, hex.EncodeToString(id[:])}
	text, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	_, err = s.Put(ctx, catalog.MarkerKey, bytes.NewReader(text), objstore.PutOptions{If: objstore.IfAbsent, Retain: o.Retention.From(o.Now())})
	if !errors.Is(err, objstore.ErrPrecondition) {
		return m, err
	}
	if text, _, err = resume.ReadAll(ctx, s, catalog.MarkerKey, maxMarker); err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil || m.Format != format || m.Version != version {
		return m, fmt.Errorf("%w: its %s is of something else: %.100q", repo.ErrExists, catalog.MarkerKey, text)
	}
	return m, nil
}
