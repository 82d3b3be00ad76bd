package squashfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"sync"

	"github.com/ulikunitz/xz/lzma"
	"github.com/xi2/xz"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/lzo"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// unpacker decompresses src into dst and says how much came out. More than fits is an
// error. It is safe for concurrent use.
type unpacker func(dst, src []byte) (int, error)

var errPacked = errors.New("it cannot be decompressed")

// unpackError says what could not be decompressed.
func unpackError(err error, what string, args ...any) error {
	if errors.Is(err, xz.ErrOptions) {
		return fsread.Unsupported(layer, "a filter of XZ")
	}
	return fsread.Corrupt(layer, what+": %v", append(args, err)...)
}

func newUnpacker(kind uint16, block int64) (unpacker, error) {
	switch kind {
	case 1:
		return newZlib(), nil
	case 2:
		return unlzma, nil
	case 3:
		return plain(lzo.Decompress), nil
	case 4:
		return newXZ(block), nil
	case 5:
		return plain(unlz4), nil
	case 6:
		return unzstd, nil
	}
	return nil, fsread.Unsupported(layer, "compression of kind %d", kind)
}

// plain makes an unpacker of a function that says no more than whether it could.
func plain(unpack func(dst, src []byte) (int, bool)) unpacker {
	return func(dst, src []byte) (int, error) {
		n, ok := unpack(dst, src)
		if !ok {
			return 0, errPacked
		}
		return n, nil
	}
}

// fill reads all that r has into dst.
func fill(dst []byte, r io.Reader) (n int, err error) {
	var more [1]byte
	for {
		to := dst[n:]
		if len(to) == 0 {
			to = more[:]
		}
		got, err := r.Read(to)
		if n += got; n > len(dst) {
			return 0, errPacked
		}
		if err == io.EOF { // anything else, as io.ErrUnexpectedEOF, is no end
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func newZlib() unpacker {
	type reader interface {
		io.Reader
		zlib.Resetter
	}
	var pool sync.Pool // of readers, 40 KiB each
	return func(dst, src []byte) (int, error) {
		in := bytes.NewReader(src)
		z, ok := pool.Get().(reader)
		if ok {
			if err := z.Reset(in, nil); err != nil {
				return 0, err
			}
		} else {
			fresh, err := zlib.NewReader(in)
			if err != nil {
				return 0, err
			}
			if z, ok = fresh.(reader); !ok {
				return fill(dst, fresh)
			}
		}
		defer pool.Put(z)
		return fill(dst, z)
	}
}

// newXZ needs a dictionary of at most a block, as Linux allows.
func newXZ(block int64) unpacker {
	var pool sync.Pool // of *xz.Reader, with a dictionary each
	return func(dst, src []byte) (int, error) {
		z, ok := pool.Get().(*xz.Reader)
		in := bytes.NewReader(src)
		if !ok {
			var err error
			if z, err = xz.NewReader(in, uint32(max(block, metaSize))); err != nil {
				return 0, err
			}
		} else if err := z.Reset(in); err != nil {
			return 0, err
		}
		defer pool.Put(z)
		return fill(dst, z)
	}
}

// unlzma decompresses what has the head of an LZMA file: properties, 4 bytes with the
// size of the dictionary, 8 with that of the content.
func unlzma(dst, src []byte) (int, error) {
	if len(src) < lzma.HeaderLen {
		return 0, errPacked
	}
	// No more of a dictionary is ever looked at than has come out.
	head := bytes.Clone(src[:lzma.HeaderLen])
	le.PutUint32(head[1:], min(le.Uint32(head[1:]), uint32(len(dst))))
	z, err := lzma.NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(src[lzma.HeaderLen:])))
	if err != nil {
		return 0, err
	}
	return fill(dst, z)
}

func unzstd(dst, src []byte) (int, error) {
	d, err := zstd.NewDecoder()
	if err != nil {
		return 0, err
	}
	defer d.Close()
	return d.Decompress(dst, src)
}
