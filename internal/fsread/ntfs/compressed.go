package ntfs

import (
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// compressed is a value in units of several clusters, each of which is a hole, as
// it is, or, if clusters at its end are missing, compressed.
type compressed struct {
	*long
	unit int64 // bytes

	mu  sync.Mutex
	at  int64  // the unit in buf, -1: none
	buf []byte // of that
	raw []byte
}

func (c *compressed) Size() int64 { return c.size }

func (c *compressed) ReadAt(p []byte, off int64) (n int, err error) {
	return image.ReadWithin(p, off, c.size, func(p []byte, off int64) (int, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for n < len(p) {
			at := off + int64(n)
			if at >= c.initialized {
				clear(p[n:])
				return len(p), nil
			}
			if err := c.fill(at / c.unit); err != nil {
				return n, err
			}
			n += copy(p[n:min(int64(len(p)), c.initialized-off)], c.buf[at%c.unit:])
		}
		return n, nil
	})
}

// ExtentAt knows the units that are holes.
func (c *compressed) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= c.size {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of a file of %d bytes", layer, off, c.size)
	}
	e := image.Extent{Offset: off, Length: c.size - off, Kind: image.Zero}
	if off < c.initialized {
		end := off - off%c.unit + c.unit
		e.Length = min(end, c.initialized) - off
		present, err := c.present(off / c.unit)
		if err != nil {
			return image.Extent{}, err
		}
		if present > 0 {
			e.Kind = image.Data
		}
	}
	return e, nil
}

// present is how many bytes of a unit have clusters, which come first in it.
func (c *compressed) present(unit int64) (n int64, err error) {
	var end int64
	if last := len(c.runs) - 1; last >= 0 {
		end = c.runs[last].Offset + c.runs[last].Length
	}
	for n < c.unit {
		off := unit*c.unit + n
		if off >= end {
			return n, nil
		}
		r, err := c.cluster(off)
		if err != nil || r.At == fsread.Hole {
			return n, err
		}
		n += r.Offset + r.Length - off
	}
	return c.unit, nil
}

// fill decodes a unit.
func (c *compressed) fill(unit int64) error {
	if c.at == unit {
		return nil
	}
	c.at = -1
	if c.buf == nil {
		c.buf, c.raw = make([]byte, c.unit), make([]byte, c.unit)
	}
	n, err := c.present(unit)
	if err != nil {
		return err
	}
	part := c.raw[:n]
	if n == c.unit {
		part = c.buf
	}
	for done := int64(0); done < n; {
		r, err := c.cluster(unit*c.unit + done)
		if err != nil {
			return err
		}
		skip := unit*c.unit + done - r.Offset
		piece := part[done:min(n, done+r.Length-skip)]
		if err := fsread.ReadFull(c.fs.img, layer, piece, r.At+skip); err != nil {
			return err
		}
		done += int64(len(piece))
	}
	if n < c.unit {
		clear(c.buf)
		if !lznt1(c.buf, part) {
			return fsread.Corrupt(layer, "a compressed file cannot be decompressed at %d", unit*c.unit)
		}
	}
	c.at = unit
	return nil
}

// lznt1 decompresses src into dst, which is zeros, and reports whether it is what
// the format allows. Behind the end of the data are zeros.
func lznt1(dst, src []byte) bool {
	for len(src) >= 2 && len(dst) > 0 {
		head := le.Uint16(src)
		if head == 0 {
			return true
		}
		n := int(head&0xfff) + 1
		if head>>12&7 != 3 || 2+n > len(src) {
			return false
		}
		chunk, out := src[2:2+n], dst[:min(4096, len(dst))]
		if head&0x8000 == 0 {
			copy(out, chunk)
		} else if !lznt1Chunk(out, chunk) {
			return false
		}
		src, dst = src[2+n:], dst[len(out):]
	}
	return true
}

// lznt1Chunk decompresses one chunk of up to 4096 bytes.
func lznt1Chunk(out, in []byte) bool {
	pos := 0
	for len(in) > 0 {
		flags := in[0]
		in = in[1:]
		for bit := 0; bit < 8 && len(in) > 0; bit, flags = bit+1, flags>>1 {
			if flags&1 == 0 {
				if pos >= len(out) {
					return false
				}
				out[pos] = in[0]
				pos, in = pos+1, in[1:]
				continue
			}
			if len(in) < 2 || pos == 0 {
				return false
			}
			shift := 12 // the further in the chunk, the more bits for the distance
			for p := pos - 1; p >= 0x10; p >>= 1 {
				shift--
			}
			token := int(le.Uint16(in))
			back, n := token>>shift+1, token&(1<<shift-1)+3
			in = in[2:]
			if back > pos || n > len(out)-pos {
				return false
			}
			for ; n > 0; n-- {
				out[pos] = out[pos-back]
				pos++
			}
		}
	}
	return true
}
