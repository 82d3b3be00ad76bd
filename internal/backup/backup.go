// Package backup is the pipeline from disk images, directories and small files
// to a session of a repository.
//
// # From image to index
//
// An image is cut into slots of one chunk size. For every slot the pipeline
// does the least that gives its digest:
//
//	all zero by extents            constant digest; nothing is read
//	unchanged since the previous   digest of the previous index; nothing is read
//	all zero after reading         constant digest; nothing is hashed
//	digest as in the previous      known; nothing is encoded
//	digest seen in this session    known
//	the session has it             known
//	otherwise                      compressed, encrypted, stored
//
// The chunk of zeros is an ordinary chunk that is stored once a session. The
// last slot may be short; then its zeros have a digest of their own.
//
// # What may be reused
//
// The previous snapshot helps only where its digests mean the same: its
// archive of the same name has the same chunk size, is encrypted with the same
// key or not at all, and with a key the manifest is signed with it, so that
// nothing is signed here on someone else's word. For slots that are not read
// the image must have the same size too. Otherwise everything is read, and
// [Result.NotReused] says why.
//
// # Workers and memory
//
// Each worker reads, compares, hashes, encodes and stores in one loop, with
// buffers of its own: two chunks, because two are hashed together, and one
// encoded chunk. So the memory is workers × 3 chunks, 12 MiB a worker at 4 MiB,
// outside the Go heap, whatever the size of the image; a stream adds 2 chunks a
// worker for its queue. Digests seen in a session are remembered up to a bound.
//
// # From stream to index
//
// A [Dynamic] archive is written by whoever makes its bytes; a [Cutter] says where
// its chunks end. What happens to a chunk is the same, but that it is known if
// the previous index has it anywhere, and that only chunks of the largest size
// are compared with zeros. Chunks that are known from the previous snapshot can
// be put between, unread.
//
// With a largest chunk of M bytes, 16 MiB as a rule, an archive being written
// holds one of M and up to two spare buffers of M/2; all of them together have
// at most workers × M bytes of chunks in work, and each worker has an encoded
// one: (2 × workers + 2 × archives) × M, if all chunks are of the largest size.
// Of a buffer only what the chunk fills takes memory, a quarter of that as a
// rule. The index waits for chunks that are late with at most 16 Ki others, and
// the previous index takes 5 to 10 bytes a chunk.
//
// # From directory to archives
//
// A directory ([Tree]) becomes one pxar archive, cut by content, with a catalog
// for all such archives of the snapshot; or, split, the metadata and the
// contents apart, the latter cut where files begin. Only a split archive lets
// unchanged files be taken over from the previous snapshot unread.
//
// # Errors
//
// The first error ends everything; it names archive and offset. When ctx ends,
// the error is its cause. [Run] leaves nothing visible then.
package backup

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// DefaultChunkSize is what every existing writer of the format uses.
const DefaultChunkSize = 4 << 20

// Chunk sizes below minChunkSize would make indexes larger than images' worth;
// those above maxChunkSize are refused by the format's servers.
const (
	minChunkSize = 4096
	maxChunkSize = 16 << 20
)

// Options says how archives are written. The zero value is useful.
type Options struct {
	ChunkSize  int                // bytes, a power of two; 0: DefaultChunkSize
	Workers    int                // 0: by the number of CPUs
	CryptMode  manifest.CryptMode // "" is ModeNone
	Key        *chunkcrypt.Key    // needed unless CryptMode is ModeNone
	NoCompress bool
	Rate       int64     // bytes read from images a second; 0: no limit
	Counters   *Counters // where progress is counted; may be nil
	Rand       io.Reader // of IVs; nil: the system's
}

// Result says what became of one archive.
type Result struct {
	Archive manifest.File
	Stats   Stats
	// NotReused says why the previous snapshot was no help; "" when it was or
	// when there is none.
	NotReused string
	// Tree says what became of a directory; nil for other sources. Of an archive
	// with two parts it stands with the metadata.
	Tree *tree.Report
	// Unreadable lists what reads as zeros because the source could not be read.
	Unreadable image.Damage
}

// prepare fills in defaults and refuses what cannot work.
func (o *Options) prepare() error {
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.ChunkSize < minChunkSize || o.ChunkSize > maxChunkSize || o.ChunkSize&(o.ChunkSize-1) != 0 {
		return fmt.Errorf("chunk size of %d bytes: want a power of two from %d to %d", o.ChunkSize, minChunkSize, maxChunkSize)
	}
	if o.Workers <= 0 {
		o.Workers = defaultWorkers(o.ChunkSize)
	}
	switch o.CryptMode {
	case "":
		o.CryptMode = manifest.ModeNone
	case manifest.ModeNone:
	case manifest.ModeEncrypt, manifest.ModeSignOnly:
		if o.Key == nil {
			return fmt.Errorf("crypt mode %s needs an encryption key: name a key file", o.CryptMode)
		}
	default:
		return fmt.Errorf("unknown crypt mode %q: want none, encrypt or sign-only", o.CryptMode)
	}
	if o.CryptMode == manifest.ModeNone {
		o.Key = nil
	}
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return nil
}

// chunkKey is the key of chunks and blobs, nil when they are not encrypted.
func (o *Options) chunkKey() *chunkcrypt.Key {
	if o.CryptMode == manifest.ModeEncrypt {
		return o.Key
	}
	return nil
}

// memoryBudget bounds what the workers take by default.
const memoryBudget = 64 << 20

// defaultWorkers is one for each CPU, at least two so that one can wait for a
// disk, and no more than the budget holds.
func defaultWorkers(chunk int) int {
	return max(2, min(runtime.GOMAXPROCS(0), memoryBudget/(3*chunk)))
}

// errEmpty is for images without a byte, for which the format has no index.
var errEmpty = errors.New("the image is empty, and an archive cannot be: leave it out or check its source")

func checkFixed(name names.Archive) error {
	if _, err := names.ParseArchive(string(name)); err != nil {
		return err
	}
	if name.Kind() != names.Fidx {
		return fmt.Errorf("archive %s: a disk image needs a name that ends in .img or .img.fidx", name)
	}
	return nil
}
