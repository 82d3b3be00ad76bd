package provider

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// device is a disk that is read through a path.
type device struct {
	f       *os.File
	path    string
	size    int64
	regions []Region // sorted, disjoint; nil: all
	clean   image.Kind
	spent   *granules // nil: nothing is punched out
}

var (
	_ image.Extenter = (*device)(nil)
	_ image.Consumer = (*device)(nil)
)

// openDevice opens a file or block device. Only the regions are read: where the
// snapshot of a machine is behind it, the rest cannot be. So the kernel is told
// not to read ahead.
func openDevice(d Disk) (*device, error) {
	flags := os.O_RDONLY
	if d.Punch {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(d.Path, flags, 0)
	if err != nil {
		return nil, err
	}
	v := &device{f: f, path: d.Path, size: d.Size, clean: image.Data}
	if d.Punch {
		v.spent = newGranules(d.Size, func(off, n int64) { _ = punchHole(f, off, n) }) // a hint
	}
	if d.Mode == ModeReuse {
		v.clean = image.Unchanged
		if v.regions, err = sortRegions(d.Regions, d.Size); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	have, err := f.Seek(0, io.SeekEnd)
	if err == nil && have < d.Size {
		err = fmt.Errorf("%s has %d bytes, and %d were announced", d.Path, have, d.Size)
	}
	if err == nil {
		err = readRandomly(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return v, nil
}

// sortRegions checks regions and joins those that touch.
func sortRegions(list []Region, size int64) ([]Region, error) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Region) int { return cmp.Compare(a[0], b[0]) })
	out := make([]Region, 0, len(list))
	for _, r := range list {
		if r[0] < 0 || r[1] < 0 || r[0] > size || r[1] > size-r[0] {
			return nil, usagef("a dirty region of %d bytes at %d, on a disk of %d bytes", r[1], r[0], size)
		}
		if n := len(out); n > 0 && r[0] <= out[n-1][0]+out[n-1][1] {
			out[n-1][1] = max(out[n-1][1], r[0]+r[1]-out[n-1][0])
			continue
		}
		if r[1] > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}

func (d *device) Size() int64 { return d.size }

func (d *device) ReadAt(p []byte, off int64) (int, error) {
	if off >= d.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > d.size-off
	if short {
		p = p[:d.size-off]
	}
	n, err := d.f.ReadAt(p, off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (d *device) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= d.size {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of %d bytes", d.path, off, d.size)
	}
	e := image.Extent{Offset: off, Length: d.size - off, Kind: d.clean}
	if d.clean == image.Data {
		return e, nil
	}
	// The first region that ends behind off.
	i, _ := slices.BinarySearchFunc(d.regions, off, func(r Region, off int64) int {
		if r[0]+r[1] <= off {
			return -1
		}
		return 1
	})
	switch {
	case i == len(d.regions):
	case d.regions[i][0] <= off:
		e.Kind, e.Length = image.Data, d.regions[i][0]+d.regions[i][1]-off
	default:
		e.Length = d.regions[i][0] - off
	}
	return e, nil
}

// Consumed gives up what is stored.
func (d *device) Consumed(off, n int64) {
	forget(d.f, off, n)
	if d.spent != nil {
		d.spent.consumed(off, n)
	}
}

func (d *device) Close() error { return d.f.Close() }
