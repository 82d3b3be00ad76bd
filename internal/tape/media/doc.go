// Package media is what is known about backup media without looking at them:
// which there are, where they are, to which media set and pool each belongs, what
// is on each, and which one a backup writes to next.
//
// All of it is in the files of PBS, in one directory ([State]):
//
//	inventory.json    all media with their labels ([Inventory])
//	UUID.log          catalog of a medium (package mediacatalog; [Catalog])
//	UUID.tmp          a catalog that is being rebuilt
//	UUID.index        list of the snapshots in a catalog, made when it is missing
//	.inventory.lck    held while the inventory is changed
//	.pool-NAME.lck    held while a medium is given to a pool; __UNASSIGNED__ for
//	                  media of no pool
//	.media-set-UUID.lck  held while media of a set are written or read
//
// Lock files are locked with flock(2), for which everybody waits 10 seconds. The
// catalogs are locked the same way while they are appended to.
//
// # Pools and media sets
//
// A medium belongs to a pool or to none. A media set is a row of media of one pool
// that hold backups together. A pool's current set is the one that had a medium
// added last. A backup goes on with it if all its media are known and have the
// pool's encryption key, all but the last are full, the last is not in a vault,
// and the pool's allocation does not ask for a new one ([View], [Writing]).
//
// The medium to write to is the last one of the set while it is writable and
// within reach. Else one is added: an empty medium of the pool, then one whose
// data has expired and whose set nobody reads, then one without pool; of each kind
// the oldest, and by label text among equals. Data of a full medium expires
// when the retention of the pool has passed since its set was last used: since the
// next set was begun, or will be by the calendar; or since it was begun itself, in
// a pool that begins one for every backup.
//
// # After a crash
//
// An inventory is the old or the new one. A catalog has all that was committed. At a
// commit a whole new one is renamed to its place; only one of more than 64 MiB is
// appended to, as PBS appends to all. What a crash left at the end of such a one is
// cut off when the catalog is opened for appending, and reading does without it
// ([Cut]). A medium is given an empty catalog before the inventory says that it is in
// another set: between the two, that catalog is of another set than the medium,
// and says so.
//
// # Memory
//
// Contents holds about 10 bytes for a chunk; everything else reads a catalog from
// its beginning to its end, 33 bytes a chunk, and holds nothing of it.
//
// # Errors
//
// ErrUnknownMedium, ErrAmbiguous, ErrIncomplete and ErrNoMedia are about what there
// is; ErrNoCatalog, ErrOtherCatalog and mediacatalog.ErrCorrupt about catalogs that
// have to be read from their media again; ErrInventory about a damaged inventory;
// confdir.ErrBusy about locks.
//
// # Source
//
// proxmox-backup: src/tape/inventory.rs, media_pool.rs, media_catalog.rs,
// media_catalog_cache.rs, media_set.rs.
package media
