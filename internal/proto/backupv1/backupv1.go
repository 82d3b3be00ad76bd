// Package backupv1 is the protocol in which a snapshot is written to a backup
// server: the calls of a session, as values and as what goes over the wire.
// Package backupserver answers them, backupclient makes them.
//
// # Session
//
// HTTP/2 on an upgraded connection (internal/proto/upgrade). Paths have no
// prefix, and nobody authenticates again.
//
//	POST blob                  file-name, encoded-size; body: encoded blob      null
//	POST dynamic_index         archive-name                                     wid
//	POST fixed_index           archive-name, size?, reuse-csum?                 wid
//	POST dynamic_chunk         wid, digest, size, encoded-size; body: chunk     digest
//	POST fixed_chunk           the same                                         digest
//	PUT  dynamic_index         wid, digest-list, offset-list                    null
//	PUT  fixed_index           the same                                         null
//	POST dynamic_close         wid, chunk-count, size, csum                     null
//	POST fixed_close           the same                                         null
//	GET  previous_backup_time  -                                                seconds or null
//	GET  previous              archive-name                                     the file itself
//	POST speedtest             body: anything                                   null
//	POST finish                -                                                null
//
// Calls with a body of data have their parameters in the query, others in the
// query or as JSON (internal/proto/rest).
//
// # Rules
//
//   - wid counts from 1 for all indexes of a session, at most 256.
//   - A chunk may be appended only if it is known: uploaded in this session, or
//     named by an index that was fetched with previous. How long it is follows from
//     that, not from the append.
//   - Fixed chunks have 4 MiB; a shorter one only at the end of the image, and
//     only one such upload for each index. Offsets are multiples of 4 MiB, in any
//     order, and may come again.
//   - Dynamic chunks have 1 byte to 16 MiB and are appended in order, each at the
//     offset where the index ends.
//   - chunk-count is the number of appended entries. size is that of the image,
//     or the end of the last entry; it is not looked at when an index began with
//     reuse-csum. csum is that of the whole index.
//   - previous is the newest finished snapshot of the group whose verification did
//     not fail, as it was when the session began.
//   - finish needs the manifest, uploaded as the blob index.json.blob, and no open
//     index. The connection's end without it removes the snapshot.
//
// # Source
//
// proxmox-backup: src/api2/backup/{mod,environment,upload_chunk}.rs,
// docs/backup-protocol.rst.
package backupv1

import "github.com/holdfast-backup/holdfast/internal/format/blob"

// Limits of the protocol.
const (
	ChunkSize  = 4 << 20       // of fixed indexes, in bytes
	MaxChunk   = blob.MaxChunk // of dynamic ones, plain bytes
	MaxEncoded = MaxChunk + blob.EncryptedHeaderSize
	MaxWriters = 256 // of a session
)
