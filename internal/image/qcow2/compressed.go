package qcow2

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"runtime"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// decoder is what one reader of compressed clusters needs.
type decoder struct {
	packed, plain []byte
	src           bytes.Reader
	flate         io.ReadCloser // nil until used
	zstd          *zstd.Decoder // nil until used
}

// decoders lends decoders and keeps some for the next time.
type decoders struct{ idle chan *decoder }

func newDecoders() decoders {
	return decoders{make(chan *decoder, runtime.GOMAXPROCS(0))}
}

func (d decoders) get() *decoder {
	select {
	case one := <-d.idle:
		return one
	default:
		return &decoder{}
	}
}

func (d decoders) put(one *decoder) {
	select {
	case d.idle <- one:
	default:
		one.close()
	}
}

func (d decoders) close() {
	for {
		select {
		case one := <-d.idle:
			one.close()
		default:
			return
		}
	}
}

func (d *decoder) close() {
	if d.zstd != nil {
		d.zstd.Close()
		d.zstd = nil
	}
}

// readCompressed fills p from a cluster.
func (i *Image) readCompressed(p []byte, pl place) error {
	d := i.decoders.get()
	defer i.decoders.put(d)
	f := pl.layer.file
	// The last sector may be cut off where the file ends.
	n := min(pl.packed, f.Size()-pl.host)
	if n <= 0 {
		return fmt.Errorf("%w: compressed cluster at offset %d of %s, which ends at %d", format.ErrFormat, pl.host, f.Path(), f.Size())
	}
	d.packed = grow(d.packed, n)
	if k, err := f.ReadAt(d.packed, pl.host); int64(k) < n {
		return err
	}
	cluster := pl.layer.h.Cluster()
	plain := p
	if pl.length != cluster {
		d.plain = grow(d.plain, cluster)
		plain = d.plain
	}
	var err error
	if pl.layer.h.Compression == format.Zstd {
		err = d.unzstd(plain)
	} else {
		err = d.inflate(plain)
	}
	if err != nil {
		return fmt.Errorf("%w: compressed cluster at offset %d of %s: %w", format.ErrFormat, pl.host, f.Path(), err)
	}
	if pl.length != cluster {
		copy(p, plain[pl.within:])
	}
	return nil
}

func grow(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// inflate fills plain from a raw deflate stream. What comes behind is padding,
// or another cluster.
func (d *decoder) inflate(plain []byte) error {
	d.src.Reset(d.packed)
	if d.flate == nil {
		d.flate = flate.NewReader(&d.src)
	} else if err := d.flate.(flate.Resetter).Reset(&d.src, nil); err != nil {
		return err
	}
	n, err := io.ReadFull(d.flate, plain)
	if err != nil {
		return fmt.Errorf("%d of %d bytes: %w", n, len(plain), err)
	}
	return nil
}

// unzstd fills plain from zstd frames. What comes behind is padding, or another
// cluster.
func (d *decoder) unzstd(plain []byte) (err error) {
	if d.zstd == nil {
		if d.zstd, err = zstd.NewDecoder(); err != nil {
			return err
		}
	}
	src := d.packed
	for len(plain) > 0 {
		n, err := frameLength(src)
		if err != nil {
			return err
		}
		k, err := d.zstd.Decompress(plain, src[:n])
		if err != nil {
			return err
		}
		src, plain = src[n:], plain[k:]
	}
	return nil
}

var errFrame = errors.New("no whole zstd frame")

// frameLength measures the frame that b begins with, by its headers (RFC 8878,
// 3.1.1).
func frameLength(b []byte) (int, error) {
	if len(b) < 5 || [4]byte(b) != [4]byte{0x28, 0xb5, 0x2f, 0xfd} {
		return 0, errFrame
	}
	descriptor := b[4]
	at := 5 + [4]int{0, 1, 2, 4}[descriptor&3] + [4]int{0, 2, 4, 8}[descriptor>>6]
	switch single := descriptor&0x20 != 0; {
	case !single:
		at++ // window descriptor
	case descriptor>>6 == 0:
		at++ // content size of one byte
	}
	for last := false; !last; {
		if len(b)-at < 3 {
			return 0, errFrame
		}
		h := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		at += 3
		last = h&1 != 0
		if h>>1&3 == 1 { // one byte, repeated
			at++
		} else {
			at += h >> 3
		}
	}
	if descriptor&4 != 0 {
		at += 4 // checksum
	}
	if at > len(b) {
		return 0, errFrame
	}
	return at, nil
}
