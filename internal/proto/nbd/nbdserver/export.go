package nbdserver

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// Export is a disk that clients can open.
type Export struct {
	Name        string // empty: the default export
	Description string
	Image       image.Image
	ReadOnly    bool      // even if Image is an image.Device
	Contexts    []Context // besides base:allocation

	// Align rounds the size up to a multiple, a power of two: the kernel's
	// client does not show what is behind the last whole block. What is added
	// reads as zeros and takes no other bytes. 0: none.
	Align int64
	// Preferred is the block size that clients are told to prefer, a power of
	// two; 0: 4096.
	Preferred uint32
}

// Context is an additional metadata context of an export.
type Context interface {
	Name() string // "namespace:leaf"
	// At returns the flags at off (0 <= off < size of the image) and how far
	// they hold at least. It is safe for concurrent use.
	At(off int64) (length int64, flags uint32, err error)
}

// Info is the size and the flags that a client is told in the dialect m.
func (e *Export) Info(m nbd.Mode) (size int64, flags nbd.ExportFlags, err error) {
	x, err := newExport(e)
	if err != nil {
		return 0, 0, err
	}
	return x.size, x.flags(m), nil
}

// trier is an image that can answer small reads from memory. TryReadAt fills
// all of p and returns true, or returns false at once.
type trier interface {
	TryReadAt(p []byte, off int64) bool
}

// export is an Export with everything looked up.
type export struct {
	*Export
	size     int64 // with the padding
	real     int64
	dev      image.Device // nil: read-only
	try      trier        // may be nil
	knows    bool         // the image knows its extents
	contexts []Context    // base:allocation is the first
	count    counters
}

func newExport(e *Export) (*export, error) {
	bad := func(format string, args ...any) (*export, error) {
		return nil, fmt.Errorf("nbd server: export %q: "+format, append([]any{e.Name}, args...)...)
	}
	if e.Image == nil {
		return bad("no image")
	}
	for _, s := range []string{e.Name, e.Description} {
		if _, err := nbd.ParseString([]byte(s)); err != nil {
			return bad("%w", err)
		}
	}
	if e.Align < 0 || e.Align&(e.Align-1) != 0 || e.Align > 1<<20 {
		return bad("alignment %d is not a power of two up to 1 MiB", e.Align)
	}
	if p := e.Preferred; p&(p-1) != 0 || p > nbd.MaxPayload || p != 0 && p < 512 {
		return bad("preferred block size %d is not a power of two from 512 to 32 MiB", p)
	}
	x := &export{Export: e, real: e.Image.Size()}
	x.size = x.real
	if e.Align > 1 {
		x.size = (x.real + e.Align - 1) &^ (e.Align - 1)
	}
	if x.real < 0 || x.size < 0 {
		return bad("size %d", x.real)
	}
	if !e.ReadOnly {
		x.dev, _ = e.Image.(image.Device)
	}
	x.try, _ = e.Image.(trier)
	_, x.knows = e.Image.(image.Extenter)
	x.contexts = append([]Context{allocation{x}}, e.Contexts...)
	for i, c := range x.contexts {
		if _, err := nbd.ParseString([]byte(c.Name())); err != nil || c.Name() == "" {
			return bad("name of metadata context %q: %w", c.Name(), errors.Join(err, errors.New("not usable")))
		}
		for _, d := range x.contexts[:i] {
			if d.Name() == c.Name() {
				return bad("two metadata contexts are named %q", c.Name())
			}
		}
	}
	return x, nil
}

// flags are what clients are told.
func (x *export) flags(m nbd.Mode) nbd.ExportFlags {
	f := nbd.HasFlags | nbd.SendCache | nbd.CanMultiConn
	if x.dev != nil {
		f |= nbd.SendFlush | nbd.SendFUA | nbd.SendTrim | nbd.SendWriteZeroes | nbd.SendFastZero
	} else {
		f |= nbd.ReadOnly
	}
	if m != nbd.Simple {
		f |= nbd.SendDF
	}
	if m == nbd.Extended {
		f |= nbd.BlockStatusPayload
	}
	return f
}

func (x *export) blockSizes() nbd.BlockSizes {
	b := nbd.BlockSizes{Minimum: 1, Preferred: x.Preferred, Maximum: nbd.MaxPayload}
	if b.Preferred == 0 {
		b.Preferred = nbd.PreferredSize
	}
	return b
}

// contains reports whether a request lies inside.
func (x *export) contains(off, n uint64) bool {
	size := uint64(x.size)
	return off <= size && n <= size-off
}

// clip takes the padding off a range.
func (x *export) clip(off, n int64) int64 { return max(min(n, x.real-off), 0) }

// readAt fills p, of a range inside, or says how many bytes are good.
func (x *export) readAt(p []byte, off int64) (int, error) {
	n := int(x.clip(off, int64(len(p))))
	if n > 0 {
		got, err := x.Image.ReadAt(p[:n], off)
		if got < n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return got, err
		}
	}
	clear(p[n:])
	return len(p), nil
}

// tryReadAt fills p if that needs no waiting.
func (x *export) tryReadAt(p []byte, off int64) bool {
	return x.try != nil && off+int64(len(p)) <= x.real && x.try.TryReadAt(p, off)
}

// ExtentAt asks the image; the padding is zero.
func (x *export) ExtentAt(off int64) (image.Extent, error) {
	if off >= x.real {
		return image.Extent{Offset: off, Length: x.size - off, Kind: image.Zero}, nil
	}
	return image.ExtentAt(x.Image, off)
}

// Size includes the padding.
func (x *export) Size() int64 { return x.size }

// allocation is base:allocation.
type allocation struct{ x *export }

func (a allocation) Name() string { return nbd.BaseAllocation }

func (a allocation) At(off int64) (int64, uint32, error) {
	e, err := a.x.ExtentAt(off)
	if err != nil {
		return 0, 0, err
	}
	if e.Kind == image.Zero {
		return e.Length, nbd.StateHole | nbd.StateZero, nil
	}
	return e.Length, 0, nil
}
