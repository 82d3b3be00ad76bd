// Package job is what is done with tapes: media get labels, snapshots are written
// to them and come back, catalogs are made anew. It prints nothing; a [World] says
// where it works and who hears of it.
//
// # Files of a medium
//
//	0      label                          not encrypted
//	1      media-set label with its key   not encrypted
//	2..    catalogs of the earlier media of the set
//	then   of each snapshot: chunk archives with what the set lacks, and the
//	       snapshot archive; behind each job the catalog of this medium
//
// A chunk archive ends soon after 4 GiB, or at the early warning in the middle of
// a chunk, which readers see from its length. A snapshot archive is a pxar archive
// of the snapshot's files, the manifest first; one that does not fit is marked as
// given up and written again on the next medium, and so is a catalog.
//
// # What counts
//
// A file counts when the drive said that all of it is on the medium and the
// catalog says so on disk, in this order: every 128 GiB, when a medium is full, and
// at the end of a job. Chunks that the writer had handed over and that are not on
// the medium are read from the repository again and go to the next one. A medium
// that ends without a warning gives up its last file, whole.
//
// After a power failure the next job goes on behind everything that is on the
// medium. Files that no catalog names are harmless: their chunks are written
// again. A catalog that is made anew names them too, as far as they are whole.
//
// # What is never overwritten
//
// Only media that the pool gives away get another media-set label, and not if it
// turns out that they have one that is younger than what the inventory knew. A
// medium that lost what its catalog names ends its media set.
//
// # Coming back
//
// Chunks are compared with their checksums, and those that are not encrypted with
// their digests. A snapshot appears when all its files are what the manifest says
// and all chunks are there. What is damaged is reported, and everything else
// comes.
//
// # Memory
//
// Writing: a spool of 80 MiB for chunks that were read ahead, the ring of a tape
// file with 16 MiB, the digests of one chunk archive, and 10 bytes for each chunk
// of the media set. Reading: the ring, and 7 chunks of at most 16 MiB.
//
// # Locks
//
// Who writes a media set or reads it holds its lock (internal/tape/media); the
// drive is locked by whoever opens it.
//
// # Errors
//
// The errors of drives are those of package tape, the errors of media those of
// tape/media. ErrEmpty is wrapped for a medium without anything on it.
//
// # Source
//
// proxmox-backup: src/tape/pool_writer, src/api2/tape/{backup,restore,drive}.rs,
// src/tape/file_formats.
package job
