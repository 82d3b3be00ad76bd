package blob

import (
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// Decoder gets the data back out of blobs. It is not safe for concurrent use:
// each worker has one.
type Decoder struct {
	key     *chunkcrypt.Key // nil: encrypted blobs give ErrNoKey
	zstd    *zstd.Decoder
	scratch []byte // decrypted data on its way; kept for the next blob
}

// NewDecoder returns a decoder. key may be nil. Close it.
func NewDecoder(key *chunkcrypt.Key) (*Decoder, error) {
	z, err := zstd.NewDecoder()
	if err != nil {
		return nil, err
	}
	return &Decoder{key: key, zstd: z}, nil
}

// Append checks the CRC of a blob, decrypts and decompresses it, and appends
// its data to dst. Data of more than limit bytes is refused as ErrFormat,
// before memory is taken for it. On errors no data is returned, and none
// reaches dst before the GCM tag has been checked.
//
// It allocates nothing, and may overwrite the spare capacity of dst, if that
// is at least limit. raw must not overlap it.
func (d *Decoder) Append(dst, raw []byte, limit int) ([]byte, error) {
	return d.append(dst, raw, limit, false)
}

// Consume is Append for a raw that nobody needs any more: it may be overwritten,
// up to its capacity. With [chunkcrypt.TagSize] bytes of that to spare, what is
// encrypted and compressed takes no memory of the decoder.
func (d *Decoder) Consume(dst, raw []byte, limit int) ([]byte, error) {
	return d.append(dst, raw, limit, true)
}

func (d *Decoder) append(dst, raw []byte, limit int, consume bool) ([]byte, error) {
	h, err := Check(raw)
	if err != nil {
		return nil, err
	}
	payload := raw[h.Size:]
	if !h.Kind.Compressed() && len(payload) > limit {
		return nil, tooLarge(limit)
	}
	if h.Kind.Encrypted() {
		if d.key == nil {
			return nil, ErrNoKey
		}
		inPlace := h.Kind == Encrypted && cap(dst)-len(dst) >= len(payload)+chunkcrypt.TagSize
		if inPlace {
			return d.open(dst, raw)
		}
		between := d.scratch[:0]
		consume = consume && cap(raw)-len(raw) >= chunkcrypt.TagSize
		if consume {
			between = payload[:0]
		}
		if payload, err = d.open(between, raw); err != nil {
			return nil, err
		}
		if !consume {
			d.scratch = payload
		}
	}
	if h.Kind.Compressed() {
		return d.decompress(dst, payload, limit)
	}
	return append(dst, payload...), nil
}

func (d *Decoder) open(dst, raw []byte) ([]byte, error) {
	iv, tag, ciphertext := raw[offIV:offTag], raw[offTag:EncryptedHeaderSize], raw[EncryptedHeaderSize:]
	out, err := d.key.Open(dst, iv, tag, ciphertext)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return out, nil
}

// decompress tries with the room that the data should need, and with more as
// long as the limit allows: a frame need not say how much it holds.
func (d *Decoder) decompress(dst, frames []byte, limit int) ([]byte, error) {
	limit = max(limit, 0)
	start := len(dst)
	room := min(max(4*len(frames), 64<<10), limit)
	if n, ok := zstd.ContentSize(frames); ok {
		if n > uint64(limit) {
			return nil, tooLarge(limit)
		}
		if n > zstd.MaxPlain(len(frames)) {
			return nil, fmt.Errorf("%w: %d compressed bytes cannot hold %d", ErrFormat, len(frames), n)
		}
		room = int(n)
	}
	room = max(room, min(cap(dst)-start, limit))
	for {
		dst = slices.Grow(dst, room)
		n, err := d.zstd.Decompress(dst[start:start+room], frames)
		switch {
		case err == nil:
			return dst[:start+n], nil
		case !errors.Is(err, zstd.ErrTooLarge):
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		case room == limit:
			return nil, tooLarge(limit)
		}
		room = min(max(2*room, 64<<10), limit)
	}
}

func tooLarge(limit int) error {
	return fmt.Errorf("%w: more than %d bytes of data", ErrFormat, limit)
}

// Close releases the decoder, which must not be used again.
func (d *Decoder) Close() {
	d.zstd.Close()
	clear(d.scratch[:cap(d.scratch)]) // decrypted data
	d.scratch = nil
}
