package ntfs

import (
	"sort"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// stream is the value of one attribute as an image. What is in parts is for the
// error that there is none.
func (f *FS) stream(parts []*attribute, what string) (image.Image, error) {
	if len(parts) == 0 {
		return nil, fsread.Corrupt(layer, "%s is missing", what)
	}
	a := parts[0]
	if !a.nonresident {
		return resident(a.value), nil
	}
	if a.first != 0 {
		return nil, fsread.Corrupt(layer, "%s begins at its cluster %d", what, a.first)
	}
	if a.flags&attrEncrypted != 0 {
		return nil, fsread.Unsupported(layer, "an encrypted file")
	}
	runs, err := f.runs(parts)
	if err != nil {
		return nil, err
	}
	s := &long{fs: f, runs: runs, size: a.size, initialized: a.initialized}
	if a.flags&attrCompressed != 0 && a.unit != 0 {
		if a.flags&attrCompressed != 1 || a.unit > 8 || f.cluster<<a.unit > 2<<20 {
			return nil, fsread.Unsupported(layer, "compression %#x in units of 2^%d clusters", a.flags&attrCompressed, a.unit)
		}
		return &compressed{long: s, unit: f.cluster << a.unit, at: -1}, nil
	}
	return fsread.NewFile(f.img, layer, s.size, s.find), nil
}

// long is a value in clusters.
type long struct {
	fs          *FS
	runs        []fsread.Run // in order, without gaps
	size        int64
	initialized int64
}

// find is the run that holds off; what was not initialized is zeros.
func (s *long) find(off int64) (fsread.Run, error) {
	if off >= s.initialized {
		return fsread.Run{Offset: s.initialized, Length: s.size - s.initialized, At: fsread.Hole}, nil
	}
	r, err := s.cluster(off)
	r.Length = min(r.Length, s.initialized-r.Offset)
	return r, err
}

// cluster is the run that holds off.
func (s *long) cluster(off int64) (fsread.Run, error) {
	i := sort.Search(len(s.runs), func(i int) bool { return s.runs[i].Offset > off }) - 1
	if i < 0 || off >= s.runs[i].Offset+s.runs[i].Length {
		return fsread.Run{}, fsread.Corrupt(layer, "a file of %d bytes has no clusters at %d", s.size, off)
	}
	return s.runs[i], nil
}

// runs reads the runs of all parts.
func (f *FS) runs(parts []*attribute) ([]fsread.Run, error) {
	var all []fsread.Run
	var next int64 // cluster of the value
	for _, a := range parts {
		if !a.nonresident || int64(a.first) != next {
			return nil, fsread.Corrupt(layer, "a part of a file begins at its cluster %d, should begin at %d", a.first, next)
		}
		var err error
		if all, next, err = f.appendRuns(all, a.runs, next); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (f *FS) appendRuns(all []fsread.Run, b []byte, next int64) ([]fsread.Run, int64, error) {
	var at int64
	for len(b) > 0 && b[0] != 0 {
		n, o := int(b[0]&15), int(b[0]>>4)
		if n == 0 || n > 8 || o > 8 || 1+n+o > len(b) {
			return nil, 0, fsread.Corrupt(layer, "a run with lengths of %d and %d bytes", n, o)
		}
		count := signed(b[1 : 1+n])
		if count <= 0 || count > 1<<50 || next > 1<<50 || len(all) >= maxRuns {
			return nil, 0, fsread.Corrupt(layer, "run %d of a file has %d clusters", len(all), count)
		}
		r := fsread.Run{Offset: next * f.cluster, Length: count * f.cluster, At: fsread.Hole}
		if next+count > (1<<62)/f.cluster {
			return nil, 0, fsread.Corrupt(layer, "a file of more than 2^62 bytes")
		}
		if o > 0 {
			at += signed(b[1+n : 1+n+o])
			if at < 0 || at > f.clusters-count {
				return nil, 0, fsread.Corrupt(layer, "%d clusters from %d, there are %d", count, at, f.clusters)
			}
			r.At = at * f.cluster
		}
		if last := len(all) - 1; last >= 0 && r.At == fsread.Hole && all[last].At == fsread.Hole {
			all[last].Length += r.Length
		} else {
			all = append(all, r)
		}
		next += count
		b = b[1+n+o:]
	}
	return all, next, nil
}

// signed reads a little-endian number of 1 to 8 bytes.
func signed(b []byte) int64 {
	v := int64(int8(b[len(b)-1]))
	for i := len(b) - 2; i >= 0; i-- {
		v = v<<8 | int64(b[i])
	}
	return v
}

// resident is a value that lies in its record.
type resident []byte

func (r resident) Size() int64 { return int64(len(r)) }

func (r resident) ReadAt(p []byte, off int64) (int, error) {
	return image.ReadWithin(p, off, r.Size(), func(p []byte, off int64) (int, error) { return copy(p, r[off:]), nil })
}
