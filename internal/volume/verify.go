package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"golang.org/x/sync/errgroup"
)

// ErrOther is wrapped when a volume holds another image than it is compared with.
var ErrOther = errors.New("the volume holds another image")

// VerifyOptions says how a volume is compared. The zero value is useful.
type VerifyOptions struct {
	Options
	Workers int           // 0: by the number of CPUs
	Done    *atomic.Int64 // bytes compared so far; may be nil
}

// Verified is what a comparison found.
type Verified struct {
	Info
	Bytes   int64         // of the image
	Differs int64         // bytes of chunks that are not those of the image
	Ranges  []image.Range // where; sorted, neighbours in one, at most maxRanges of them
	More    bool          // there are more ranges
}

const maxRanges = 1000

// Verify compares the payload with the image that the header names. Every byte is
// read and hashed, and none fetched from the repository. The volume must not be mapped.
func Verify(ctx context.Context, path string, src Source, o VerifyOptions) (Verified, error) {
	l, err := lock(ctx, path, o.Options)
	if err != nil {
		return Verified{}, err
	}
	defer l.close()
	i, err := l.info()
	if err != nil {
		return Verified{}, err
	}
	if err := l.comparable(i, src); err != nil {
		return Verified{}, err
	}
	x, err := fetch.Open(src.Snapshot, src.Archive, src.Key)
	if err != nil {
		return Verified{}, err
	}
	defer func() { _ = x.Close() }() // was only read
	f, err := l.exclusive(os.O_RDONLY)
	if err != nil {
		return Verified{}, err
	}
	img, err := image.NewFile(f, image.FileOptions{Sequential: true, NoHoles: true})
	if err != nil {
		_ = f.Close()
		return Verified{}, err
	}
	defer func() { _ = img.Close() }() // was only read
	out, err := verifyOn(ctx, img, i.Header.Start(), x, o)
	out.Info = i
	return out, err
}

// comparable reports whether the header says that the image is there.
func (l *locked) comparable(i Info, src Source) error {
	d, size, err := src.identity(src.Snapshot)
	switch r := i.Header.Record; {
	case err != nil:
		return err
	case i.Header.Digest() != d:
		return fmt.Errorf("%s: %w than %s of %s", l.path, ErrOther, src.Archive.ClientName(), src.Snapshot.Name().Path())
	case r != nil && r.State == volumeheader.Filling:
		return fmt.Errorf("%s: %w: restore the snapshot again, which goes on where it stopped", l.path, ErrFilling)
	}
	return l.fits(i.Header.Start(), size)
}

// verifyOn compares an image behind the byte start of a device with an index.
func verifyOn(ctx context.Context, dev image.Image, start int64, x *fetch.Image, o VerifyOptions) (Verified, error) {
	p, err := image.NewSection(dev, start, int64(x.Size))
	if err != nil {
		return Verified{}, err
	}
	if o.Done == nil {
		o.Done = new(atomic.Int64)
	}
	n := o.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	c := &comparing{payload: p, index: x, done: o.Done}
	g, gctx := errgroup.WithContext(ctx)
	for range n {
		g.Go(func() error { return c.work(gctx) })
	}
	err = g.Wait()
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	if err != nil {
		return Verified{}, err
	}
	return c.result(), nil
}

// comparing is one Verify while it runs.
type comparing struct {
	payload image.Image
	index   *fetch.Image
	done    *atomic.Int64
	next    atomic.Int64 // pair of slots

	mu      sync.Mutex
	differs int64
	ranges  []image.Range
	more    bool
}

// work takes two slots at a time, to hash them together.
func (c *comparing) work(ctx context.Context) error {
	var bufs [2]*pagebuf.Buffer
	defer func() { pagebuf.FreeAll(bufs[:]) }()
	for i := range bufs {
		var err error
		if bufs[i], err = pagebuf.New(int(c.index.ChunkSize)); err != nil {
			return err
		}
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		first := int(c.next.Add(1)-1) * len(bufs)
		if first >= c.index.Count() {
			return nil
		}
		n := min(len(bufs), c.index.Count()-first)
		var want, got [2]digest.Digest
		if err := c.index.Digests(first, want[:n]); err != nil {
			return fmt.Errorf("archive %s: %w", c.index.Name, err)
		}
		var plain [2][]byte
		for i := range n {
			off, end := c.index.Bounds(first + i)
			plain[i] = bufs[i].Bytes()[:end-off]
			if k, err := c.payload.ReadAt(plain[i], off); k < len(plain[i]) {
				return fmt.Errorf("read the volume: %w", err)
			}
		}
		if n == 2 {
			got[0], got[1] = fetch.Digest2(c.index.Key, plain[0], plain[1])
		} else {
			got[0] = fetch.Digest(c.index.Key, plain[0])
		}
		for i := range n {
			c.note(first+i, got[i] == want[i])
		}
	}
}

func (c *comparing) note(slot int, same bool) {
	off, end := c.index.Bounds(slot)
	if !same {
		c.mu.Lock()
		c.differs += end - off
		if len(c.ranges) < maxRanges {
			c.ranges = append(c.ranges, image.Range{Offset: off, Length: end - off})
		} else {
			c.more = true
		}
		c.mu.Unlock()
	}
	c.done.Add(end - off)
}

func (c *comparing) result() Verified {
	slices.SortFunc(c.ranges, func(a, b image.Range) int { return cmp.Compare(a.Offset, b.Offset) })
	out := Verified{Bytes: c.payload.Size(), Differs: c.differs, More: c.more}
	for _, r := range c.ranges {
		if n := len(out.Ranges); n > 0 && out.Ranges[n-1].Offset+out.Ranges[n-1].Length == r.Offset {
			out.Ranges[n-1].Length += r.Length
			continue
		}
		out.Ranges = append(out.Ranges, r)
	}
	return out
}
