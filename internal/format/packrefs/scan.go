package packrefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"math"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// Scan reads a shard to its end, a block at a time. A pack is valid until the next
// one, its chunks for good. A failure is the last thing it gives.
func Scan(r io.Reader) iter.Seq2[*Pack, error] {
	return func(yield func(*Pack, error) bool) {
		s := scanner{r: r}
		defer s.close()
		for {
			b, err := s.block()
			if err != nil {
				yield(nil, err)
				return
			}
			if b == nil {
				return
			}
			for first := true; len(b) > 0; first = false {
				var p *Pack
				if p, b, err = s.pack(b, first); err != nil {
					yield(nil, err)
					return
				}
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}

type scanner struct {
	r      io.Reader
	dec    *zstd.Decoder
	plain  []byte
	last   pack.ID
	packs  uint64
	chunks uint64
}

func (s *scanner) close() {
	if s.dec != nil {
		s.dec.Close()
	}
}

// block returns the plain form of the next block; nil at the end.
func (s *scanner) block() ([]byte, error) {
	var head [blockHead]byte
	if err := s.read(head[:]); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	packed, plain := le.Uint32(head[:]), le.Uint32(head[4:])
	if packed == 0 {
		return nil, s.end(head)
	}
	if plain == 0 || plain > maxBlock || uint64(packed) > uint64(zstd.Bound(int(plain))) {
		return nil, fmt.Errorf("%w: a block of %d bytes in %d", ErrFormat, plain, packed)
	}
	b, err := s.frame(int(packed))
	if err != nil {
		return nil, err
	}
	// What a block claims to unfold to is believed as far as its frame agrees.
	if n, ok := zstd.ContentSize(b); !ok || n != uint64(plain) || n > zstd.MaxPlain(len(b)) {
		return nil, fmt.Errorf("%w: a block of %d bytes, its frame has others", ErrFormat, plain)
	}
	if s.dec == nil {
		if s.dec, err = zstd.NewDecoder(); err != nil {
			return nil, err
		}
	}
	if cap(s.plain) < int(plain) {
		s.plain = make([]byte, plain)
	}
	if err := unfoldInto(s.dec, s.plain[:plain], b); err != nil {
		return nil, fmt.Errorf("%w: a block: %w", ErrFormat, err)
	}
	if stored, sum := le.Uint32(head[8:]), crc32.Checksum(s.plain[:plain], table()); stored != sum {
		return nil, fmt.Errorf("%w: a block has checksum %08x, it says %08x", ErrFormat, sum, stored)
	}
	return s.plain[:plain], nil
}

// frame reads n bytes, and takes memory as they come.
func (s *scanner) frame(n int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(s.r, int64(n)))
	if err == nil && len(b) < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read counts of references: %w", err)
	}
	return b, nil
}

func (s *scanner) read(b []byte) error {
	_, err := io.ReadFull(s.r, b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read counts of references: %w", err)
	}
	return nil
}

// end compares what was read with what the end says.
func (s *scanner) end(head [blockHead]byte) error {
	var b [20 + len(shardMagic)]byte
	if err := s.read(b[:]); err != nil {
		return err
	}
	le := binary.LittleEndian
	if head != [blockHead]byte{} || string(b[20:]) != shardMagic {
		return fmt.Errorf("%w: it ends in %x", ErrFormat, b[20:])
	}
	if stored, sum := le.Uint32(b[16:]), crc32.Checksum(b[:16], table()); stored != sum {
		return fmt.Errorf("%w: its end has checksum %08x, it says %08x", ErrFormat, sum, stored)
	}
	if packs, chunks := le.Uint64(b[:]), le.Uint64(b[8:]); packs != s.packs || chunks != s.chunks {
		return fmt.Errorf("%w: %d packs with %d chunks, it says %d with %d", ErrFormat, s.packs, s.chunks, packs, chunks)
	}
	if n, err := io.ReadFull(s.r, b[:1]); n > 0 {
		return fmt.Errorf("%w: something follows its end", ErrFormat)
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read counts of references: %w", err)
	}
	return nil
}

func (s *scanner) pack(b []byte, first bool) (*Pack, []byte, error) {
	f := fields{b: b}
	last := s.last
	if first {
		last.Session = 0
	}
	step, number := f.next(math.MaxUint64), f.next(math.MaxUint32)
	p := &Pack{ID: pack.ID{Session: last.Session + step, Number: uint32(number)}}
	if !first && step == 0 {
		number += uint64(last.Number) + 1
		p.ID.Number = uint32(number)
	}
	p.Size, p.Until = uint32(f.next(math.MaxUint32)), Day(f.next(math.MaxUint32))
	named := f.next(2*math.MaxUint32 + 1)
	p.Named, p.Removed = uint32(named>>1), named&1 == 1
	n := f.next(uint64(len(f.b)) / 3) // three bytes each, at least
	if f.bad || p.ID.Session < last.Session || number > math.MaxUint32 || s.packs > 0 && s.last.Compare(p.ID) >= 0 {
		return nil, nil, fmt.Errorf("%w: pack %d does not follow %s", ErrFormat, s.packs, s.last)
	}
	p.Chunks = make([]Chunk, n)
	at := uint64(0)
	for i := range p.Chunks {
		gap, size, count := f.next(math.MaxUint32), f.next(math.MaxUint32), f.next(math.MaxUint32)
		if f.bad || size == 0 || at+gap+size > pack.MaxSize {
			return nil, nil, fmt.Errorf("%w: chunk %d of pack %s", ErrFormat, i, p.ID)
		}
		p.Chunks[i] = Chunk{uint32(at + gap), uint32(size), uint32(count)}
		at += gap + size
	}
	s.last = p.ID
	s.packs++
	s.chunks += n
	return p, f.b, nil
}

// unfoldInto decompresses b, which must fill dst.
func unfoldInto(dec *zstd.Decoder, dst, b []byte) error {
	n, err := dec.Decompress(dst, b)
	if err == nil && n != len(dst) {
		err = fmt.Errorf("it has %d bytes instead of %d", n, len(dst))
	}
	return err
}
