package packrefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// Root is what the shards are of. Its plain form is these fields in their order:
// numbers as v of the layout of shards, names of packs as session and number,
// lists behind the number of their elements, texts behind their length in bytes.
type Root struct {
	Locked    uint32    // days for which objects are locked, of the last collection; 0: not
	Left      uint32    // sparse packs that the last collection saw and left
	Snapshots []Counted // that the shards count, by the sessions that made them; ascending, as differences
	Indexed   []uint64  // sessions of the indexes that were seen; ascending, as differences
	Sound     []Sound   // places of sound copies of damaged chunks, counted as those of a snapshot; in the order of the digests
	Objects   []Locked  // when the locks of other objects end; in the order of their keys
	Shards    []Shard   // in the order of their packs
}

// Counted is a snapshot.
type Counted struct {
	Session uint64
	Until   Day // its object is locked until then
}

// Sound is where a sound copy of a chunk lies: its digest, 32 bytes, pack, place, length.
type Sound struct {
	Digest digest.Digest
	pack.Location
}

// Locked is an object that is neither a pack nor of a snapshot.
type Locked struct {
	Key   string
	Until Day
}

// Shard is one, and what need not be read from it. All its packs lie behind those of
// the shard before.
type Shard struct {
	Last   pack.ID // its last one
	Key    string
	Packs  uint64 // that are there
	Bytes  uint64 // of them
	Chunks uint64 // needed
	Needed uint64 // bytes of these
	Idle   uint64 // packs there that nobody needs
	IdleBytes,
	IdleChunks uint64
	Sparse uint64 // others of which less than half is needed, or that are small
	Until  Day    // when the first lock of a pack there ends; 0: none
}

func (s *Shard) totals() []*uint64 {
	return []*uint64{&s.Packs, &s.Bytes, &s.Chunks, &s.Needed, &s.Idle, &s.IdleBytes, &s.IdleChunks, &s.Sparse}
}

// AppendRoot encodes a root. A root out of order is a mistake of the caller.
func AppendRoot(dst []byte, r *Root) ([]byte, error) {
	plain := r.plain()
	if len(plain) > maxRoot {
		return nil, fmt.Errorf("counts of references: the root has %d bytes, at most %d fit", len(plain), maxRoot)
	}
	enc, err := zstd.NewEncoder()
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	packed := make([]byte, zstd.Bound(len(plain)))
	n, ok := enc.Compress(packed, plain)
	if !ok {
		return nil, errors.New("counts of references: internal error: a frame is larger than its bound")
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(plain)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(plain, table()))
	return append(append(dst, packed[:n]...), rootMagic...), nil
}

func (r *Root) plain() []byte {
	u := binary.AppendUvarint
	b := u(u(nil, uint64(r.Locked)), uint64(r.Left))
	b = u(b, uint64(len(r.Snapshots)))
	last := uint64(0)
	for _, s := range r.Snapshots {
		b = u(u(b, s.Session-last), uint64(s.Until))
		last = s.Session
	}
	b = u(b, uint64(len(r.Indexed)))
	last = 0
	for _, n := range r.Indexed {
		b = u(b, n-last)
		last = n
	}
	b = u(b, uint64(len(r.Sound)))
	for _, s := range r.Sound {
		b = appendID(append(b, s.Digest[:]...), s.Pack)
		b = u(u(b, uint64(s.Off)), uint64(s.Len))
	}
	b = u(b, uint64(len(r.Objects)))
	for _, o := range r.Objects {
		b = append(u(b, uint64(len(o.Key))), o.Key...)
		b = u(b, uint64(o.Until))
	}
	b = u(b, uint64(len(r.Shards)))
	for _, s := range r.Shards {
		b = appendID(b, s.Last)
		b = append(u(b, uint64(len(s.Key))), s.Key...)
		for _, v := range s.totals() {
			b = u(b, *v)
		}
		b = u(b, uint64(s.Until))
	}
	return b
}

// ParseRoot decodes a root.
func ParseRoot(b []byte) (*Root, error) {
	plain, err := unfold(b)
	if err != nil {
		return nil, err
	}
	f := fields{b: plain}
	r := &Root{Locked: uint32(f.next(math.MaxUint32)), Left: uint32(f.next(math.MaxUint32))}
	r.parse(&f)
	if f.bad || len(f.b) > 0 {
		return nil, fmt.Errorf("%w: the root is cut, or something follows it", ErrFormat)
	}
	return r, r.check()
}

func unfold(b []byte) ([]byte, error) {
	if len(b) < 8+len(rootMagic) || string(b[len(b)-len(rootMagic):]) != rootMagic {
		return nil, fmt.Errorf("%w: %d bytes that do not end like a root", ErrFormat, len(b))
	}
	size, stored := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	frame := b[8 : len(b)-len(rootMagic)]
	if n, ok := zstd.ContentSize(frame); !ok || n != uint64(size) || size > maxRoot || n > zstd.MaxPlain(len(frame)) {
		return nil, fmt.Errorf("%w: a root of %d bytes, its frame has others", ErrFormat, size)
	}
	dec, err := zstd.NewDecoder()
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	plain := make([]byte, size)
	if err := unfoldInto(dec, plain, frame); err != nil {
		return nil, fmt.Errorf("%w: the root: %w", ErrFormat, err)
	}
	if sum := crc32.Checksum(plain, table()); sum != stored {
		return nil, fmt.Errorf("%w: the root has checksum %08x, it says %08x", ErrFormat, sum, stored)
	}
	return plain, nil
}

func (r *Root) parse(f *fields) {
	day := func() Day { return Day(f.next(math.MaxUint32)) }
	last := uint64(0)
	for range f.list(2) {
		last += f.next(math.MaxUint64)
		r.Snapshots = append(r.Snapshots, Counted{last, day()})
	}
	last = 0
	for range f.list(1) {
		last += f.next(math.MaxUint64)
		r.Indexed = append(r.Indexed, last)
	}
	for range f.list(digest.Size + 4) {
		s := Sound{Digest: digest.Digest(f.take(digest.Size))}
		s.Location = pack.Location{Pack: f.id(), Off: uint32(f.next(math.MaxUint32)), Len: uint32(f.next(math.MaxUint32))}
		r.Sound = append(r.Sound, s)
	}
	for range f.list(2) {
		r.Objects = append(r.Objects, Locked{f.text(), day()})
	}
	for range f.list(12) {
		s := Shard{Last: f.id(), Key: f.text()}
		for _, v := range s.totals() {
			*v = f.next(math.MaxUint64)
		}
		s.Until = day()
		r.Shards = append(r.Shards, s)
	}
}

// check refuses what is out of order.
func (r *Root) check() error {
	ok := ascend(r.Snapshots, func(a, b Counted) bool { return a.Session < b.Session }) &&
		ascend(r.Indexed, func(a, b uint64) bool { return a < b }) &&
		ascend(r.Sound, func(a, b Sound) bool { return string(a.Digest[:]) < string(b.Digest[:]) }) &&
		ascend(r.Objects, func(a, b Locked) bool { return strings.Compare(a.Key, b.Key) < 0 }) &&
		ascend(r.Shards, func(a, b Shard) bool { return a.Last.Compare(b.Last) < 0 })
	if !ok {
		return fmt.Errorf("%w: the root is out of order", ErrFormat)
	}
	for _, s := range r.Sound {
		if err := s.Check(); err != nil {
			return fmt.Errorf("%w: the root: %w", ErrFormat, err)
		}
	}
	return nil
}

func ascend[T any](list []T, less func(a, b T) bool) bool {
	for i := range list {
		if i > 0 && !less(list[i-1], list[i]) {
			return false
		}
	}
	return true
}

// Counts reports whether the snapshot of a session is counted.
func (r *Root) Counts(session uint64) bool {
	_, ok := slices.BinarySearchFunc(r.Snapshots, session, func(c Counted, n uint64) int {
		switch {
		case c.Session < n:
			return -1
		case c.Session > n:
			return 1
		}
		return 0
	})
	return ok
}
