package mediacatalog

import (
	"encoding/binary"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// magic is the start of SHA-256("Proxmox Backup Media Catalog v1.1").
var magic = [8]byte{0x4c, 0x8e, 0xe8, 0xc1, 0x20, 0xa8, 0x89, 0x71}

// oldMagic is that of version 1.0, which knew no stores and was never released.
var oldMagic = [8]byte{0xdd, 0x1d, 0xa4, 0x01, 0x3b, 0x45, 0x13, 0x28}

// Kind is the tag of a record.
type Kind byte

// The kinds.
const (
	Label        Kind = 'L'
	ArchiveStart Kind = 'A'
	Chunk        Kind = 'C'
	ArchiveEnd   Kind = 'E'
	Snapshot     Kind = 'S'
)

// Lengths in bytes.
const (
	MagicSize = len(magic)
	LabelSize = 1 + labelBody   // a label with its tag
	ChunkSize = 1 + digest.Size // a chunk with its tag

	labelBody    = 8 + 16 + 8
	archiveBody  = 8 + 16 + 1 + 7
	endBody      = 8 + 16
	snapshotBody = 8 + 16 + 1 + 1 + 2 + 4

	offUUID  = 8
	offSeq   = 24 // of a label
	offStore = 24 // length of the store's name
	offPath  = 26 // length of the path
)

// body is the length of what follows a tag, without names; 0 for no tag.
func (k Kind) body() int {
	switch k {
	case Label:
		return labelBody
	case ArchiveStart:
		return archiveBody
	case Chunk:
		return digest.Size
	case ArchiveEnd:
		return endBody
	case Snapshot:
		return snapshotBody
	}
	return 0
}

// Record is one record. A chunk has file and store of its archive.
type Record struct {
	Kind   Kind
	File   uint64
	UUID   uuid.UUID // of the medium, the media set or the content of the file
	Seq    uint64    // number of the tape in its set; in labels
	Store  string
	Digest digest.Digest // in chunks
	Path   string        // in snapshots, one that names.ParseSnapshot reads
	Offset int64         // where its tag is in the log
}

func appendHead(dst []byte, k Kind, file uint64, id uuid.UUID) []byte {
	dst = append(dst, byte(k))
	dst = binary.LittleEndian.AppendUint64(dst, file)
	return append(dst, id[:]...)
}
