package tapefile

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// ChunkArchive is a file with chunks of one store.
type ChunkArchive struct {
	Store string
}

// Header returns the beginning of the archive.
func (a ChunkArchive) Header(id uuid.UUID, now int64) (Header, error) {
	if err := checkStore(a.Store); err != nil {
		return Header{}, err
	}
	// Names have no characters that JSON escapes.
	js := fmt.Appendf(nil, "{\n  \"store\": \"%s\"\n}", a.Store)
	return Header{Content: Chunks, UUID: id, Ctime: now, JSON: js}, nil
}

// ChunkArchive returns what a chunk archive says of itself.
func (h Header) ChunkArchive() (ChunkArchive, error) {
	o, err := h.object(Chunks)
	if err != nil {
		return ChunkArchive{}, err
	}
	a := ChunkArchive{Store: o.text("store")}
	if o.err != nil {
		return ChunkArchive{}, o.err
	}
	return a, checkStore(a.Store)
}

// SnapshotArchive is a file with all files of a snapshot but its chunks.
type SnapshotArchive struct {
	Store    string
	Snapshot names.Snapshot
}

// Header returns the beginning of the archive.
func (a SnapshotArchive) Header(id uuid.UUID, now int64) (Header, error) {
	if err := checkStore(a.Store); err != nil {
		return Header{}, err
	}
	path := a.Snapshot.Path()
	if s, err := names.ParseSnapshot(path); err != nil || s != a.Snapshot {
		return Header{}, fmt.Errorf("%w: %q is no snapshot", ErrFormat, path)
	}
	js := fmt.Appendf(nil, "{\n  \"snapshot\": \"%s\",\n  \"store\": \"%s\"\n}", path, a.Store)
	c := RootSnapshot
	if !a.Snapshot.NS.IsRoot() {
		c = NamespacedSnapshot
	}
	return Header{Content: c, UUID: id, Ctime: now, JSON: js}, nil
}

// SnapshotArchive returns what a snapshot archive of either kind says of itself.
func (h Header) SnapshotArchive() (SnapshotArchive, error) {
	o, err := h.object(RootSnapshot, NamespacedSnapshot)
	if err != nil {
		return SnapshotArchive{}, err
	}
	store, path := o.text("store"), o.text("snapshot")
	if o.err != nil {
		return SnapshotArchive{}, o.err
	}
	snap, err := names.ParseSnapshot(path)
	if err != nil {
		return SnapshotArchive{}, fmt.Errorf("%w: snapshot archive: %w", ErrFormat, err)
	}
	return SnapshotArchive{Store: store, Snapshot: snap}, checkStore(store)
}

// CatalogArchive is a file with the catalog of a tape.
type CatalogArchive struct {
	Medium   uuid.UUID
	MediaSet uuid.UUID
	Seq      uint64 // number of the tape in the set
}

// Header returns the beginning of the archive. namespaces says that the catalog
// may know snapshots of namespaces.
func (a CatalogArchive) Header(id uuid.UUID, now int64, namespaces bool) Header {
	c := RootCatalog
	if namespaces {
		c = NamespacedCatalog
	}
	js := fmt.Appendf(nil, "{\n  \"uuid\": \"%s\",\n  \"media_set_uuid\": \"%s\",\n  \"seq_nr\": %d\n}", a.Medium, a.MediaSet, a.Seq)
	return Header{Content: c, UUID: id, Ctime: now, JSON: js}
}

// CatalogArchive returns what a catalog archive of either kind says of itself.
func (h Header) CatalogArchive() (CatalogArchive, error) {
	o, err := h.object(RootCatalog, NamespacedCatalog)
	if err != nil {
		return CatalogArchive{}, err
	}
	a := CatalogArchive{Medium: o.uuid("uuid"), MediaSet: o.uuid("media_set_uuid"), Seq: o.uint("seq_nr")}
	if o.err != nil {
		return CatalogArchive{}, o.err
	}
	return a, nil
}

func checkStore(s string) error {
	if err := names.CheckStore(s); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}
