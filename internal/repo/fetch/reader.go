package fetch

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Slack is the room that a buffer for a plain chunk should have behind it, so
// that decryption needs no other.
const Slack = chunkcrypt.TagSize

// Reader reads and checks chunks. It owns one buffer for an
// encoded chunk.
type Reader struct {
	snap repo.Snapshot
	key  *chunkcrypt.Key
	dec  *blob.Decoder
	raw  *pagebuf.Buffer
	n    int
	wait time.Duration
}

// NewReader returns a reader for the chunks of x.
func NewReader(snap repo.Snapshot, x *Image) (*Reader, error) {
	return ReaderFor(snap, x.Key, int(x.ChunkSize))
}

// ReaderFor returns a reader for chunks of up to most plain bytes; key is nil
// when they are not encrypted.
func ReaderFor(snap repo.Snapshot, key *chunkcrypt.Key, most int) (*Reader, error) {
	raw, err := pagebuf.New(blob.MaxEncoded(most))
	if err != nil {
		return nil, err
	}
	dec, err := blob.NewDecoder(key)
	if err != nil {
		raw.Free()
		return nil, err
	}
	return &Reader{snap: snap, key: key, dec: dec, raw: raw}, nil
}

// Close frees the buffer.
func (r *Reader) Close() {
	r.dec.Close()
	r.raw.Free()
}

// Encoded returns the size of what was read last as it is stored; what failed
// does not count.
func (r *Reader) Encoded() int { return r.n }

// Waited returns how long what was read last took to come, before it was
// decoded.
func (r *Reader) Waited() time.Duration { return r.wait }

// Read fills dst with the plain data of chunk d, which must have exactly that
// length. It may use the capacity behind dst, see [Slack]. After an error dst
// holds nothing of use.
func (r *Reader) Read(ctx context.Context, d digest.Digest, dst []byte) error {
	one := [1]Chunk{{Digest: d, Data: dst}}
	r.ReadAll(ctx, one[:])
	return one[0].Err
}

// Chunk is a chunk to be read.
type Chunk struct {
	Digest  digest.Digest
	Data    []byte // to be filled, as dst of [Reader.Read]
	Encoded int    // size as it is stored
	Err     error
}

// ReadAll reads chunks one after the other and hashes them two at a time, see
// [Digest2]. Each has its own error.
func (r *Reader) ReadAll(ctx context.Context, chunks []Chunk) {
	r.n, r.wait = 0, 0
	for i := range chunks {
		chunks[i].Encoded, chunks[i].Err = r.unpack(ctx, chunks[i].Digest, chunks[i].Data)
	}
	var first *Chunk
	for i := range chunks {
		switch second := &chunks[i]; {
		case second.Err != nil:
		case first == nil:
			first = second
		default:
			a, b := Digest2(r.key, first.Data, second.Data)
			r.compare(first, a)
			r.compare(second, b)
			first = nil
		}
	}
	if first != nil {
		r.compare(first, Digest(r.key, first.Data))
	}
}

func (r *Reader) compare(c *Chunk, got digest.Digest) {
	if got != c.Digest {
		c.Encoded, c.Err = 0, corrupt(c.Digest, fmt.Errorf("its data is called %s", got))
	}
	r.n += c.Encoded
}

func corrupt(d digest.Digest, err error) error {
	return &repo.CorruptError{What: "chunk " + d.String(), Err: err}
}

// unpack does all of a chunk but its digest.
func (r *Reader) unpack(ctx context.Context, d digest.Digest, dst []byte) (encoded int, err error) {
	begin := time.Now()
	raw, back, err := r.encoded(ctx, d)
	r.wait += time.Since(begin)
	if err != nil {
		return 0, err
	}
	defer back()
	if err := r.decode(raw, dst); err != nil {
		return 0, corrupt(d, err)
	}
	return len(raw), nil
}

// encoded returns a chunk as it is stored, to be given back.
func (r *Reader) encoded(ctx context.Context, d digest.Digest) (raw []byte, back func(), err error) {
	if l, ok := r.snap.(Lender); ok {
		return l.LendChunk(ctx, d)
	}
	raw, err = r.snap.ReadChunk(ctx, d, r.raw.Bytes()[:0])
	return raw, func() {}, err
}

func (r *Reader) decode(raw, dst []byte) error {
	h, err := blob.ParseHeader(raw)
	if err != nil {
		return err
	}
	if h.Kind.Encrypted() != (r.key != nil) {
		return fmt.Errorf("it is %s, which the archive's crypt mode rules out", h.Kind)
	}
	plain, err := r.dec.Consume(dst[:0], raw, len(dst))
	if err != nil {
		return err
	}
	if len(plain) != len(dst) {
		return fmt.Errorf("it has %d bytes of data, its place %d", len(plain), len(dst))
	}
	if len(dst) > 0 && &plain[0] != &dst[0] {
		copy(dst, plain) // dst had no slack
	}
	return nil
}

// IsDamage reports an error of Read that means this chunk, now and later: it is
// missing, corrupt or cannot be read from the medium. Anything else could not
// be found out and may be different next time.
func IsDamage(err error) bool {
	if _, ok := errors.AsType[*repo.CorruptError](err); ok {
		return true
	}
	return errors.Is(err, repo.ErrChunkMissing) || errors.Is(err, syscall.EIO)
}

// Prefetcher is a snapshot that can begin to fetch chunks that are read soon.
// It is a hint: it does not wait and cannot fail.
type Prefetcher interface {
	Prefetch(ds []digest.Digest)
}

// Distant is a Prefetcher that is far away: it wants to hear of chunks long before
// they are read, so as to have many on their way.
type Distant interface {
	Prefetcher
	// Distance is how far ahead: so many chunks, with so many bytes of plain data
	// together.
	Distance() (chunks int, bytes int64)
}

// Distance is how many chunks of a size a snapshot wants to hear of ahead; 0 when
// it is near.
func Distance(snap repo.Snapshot, chunk int64) int {
	d, ok := snap.(Distant)
	if !ok {
		return 0
	}
	chunks, bytes := d.Distance()
	return int(min(int64(chunks), bytes/max(chunk, 1)))
}

// Lender is a snapshot that has chunks in memory of its own, and can do without
// copying them. What it lends is the caller's, to write to as well, until back is
// called.
type Lender interface {
	LendChunk(ctx context.Context, d digest.Digest) (raw []byte, back func(), err error)
}
