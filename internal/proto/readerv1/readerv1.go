// Package readerv1 is the protocol in which a snapshot is read from a backup
// server: its calls as values. Package readerserver answers them, readerclient
// makes them.
//
// HTTP/2 on an upgraded connection (internal/proto/upgrade):
//
//	GET download   file-name   the file of the snapshot as it is stored
//	GET chunk      digest      the encoded chunk as it is stored
//	GET speedtest  -           1 MiB
//
// A chunk may be read when an index that names it was downloaded before on the
// same connection; otherwise the answer is 401, whether or not it is stored. A
// missing blob is 404, every other error 400. The snapshot is locked as long as
// the connection lasts, which may be for hours: a mount stands on it.
//
// # Source
//
// proxmox-backup: src/api2/reader/{mod,environment}.rs, docs/backup-protocol.rst.
package readerv1

import (
	"net/url"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// SpeedtestSize is how many bytes GET speedtest answers with.
const SpeedtestSize = 1 << 20

// ParseDownload reads the parameter of GET download.
func ParseDownload(p *rest.Params) (names.Archive, error) {
	name := rest.Need(p, "file-name", names.ParseArchive)
	return name, p.Err()
}

// DownloadValues is the inverse of ParseDownload.
func DownloadValues(name names.Archive) url.Values { return url.Values{"file-name": {string(name)}} }

// ParseChunk reads the parameter of GET chunk.
func ParseChunk(p *rest.Params) (digest.Digest, error) {
	d := rest.Need(p, "digest", digest.Parse)
	return d, p.Err()
}

// ChunkValues is the inverse of ParseChunk.
func ChunkValues(d digest.Digest) url.Values { return url.Values{"digest": {d.String()}} }
