package fat

import (
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// volume is what the four have in common: a table of clusters.
type volume struct {
	layer    string
	img      image.Image
	bits     int   // of an entry of the table: 12, 16, 32
	table    int64 // byte
	cluster  int64 // bytes
	heap     int64 // byte of cluster 2
	clusters int64 // the highest number is clusters + 1

	mu    sync.Mutex
	page  int64 // of the table that is in cache, -1: none
	cache []byte
}

// tablePage is how much of the table is read at a time.
const tablePage = 4096

// at is the place of a cluster.
func (v *volume) at(n int64) int64 { return v.heap + (n-2)*v.cluster }

// valid reports whether a cluster with this number exists.
func (v *volume) valid(n int64) bool { return n >= 2 && n < v.clusters+2 }

// tableBytes reads from the table, through a page of it.
func (v *volume) tableBytes(p []byte, off int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(p) > 0 {
		if page := off / tablePage; page != v.page || v.cache == nil {
			if v.cache == nil {
				v.cache = make([]byte, tablePage)
			}
			v.page = -1
			at := v.table + page*tablePage
			clear(v.cache)
			n := min(tablePage, v.img.Size()-at)
			if n <= 0 {
				return fsread.Corrupt(v.layer, "the table ends before its byte %d", off)
			}
			if err := fsread.ReadFull(v.img, v.layer, v.cache[:n], at); err != nil {
				return err
			}
			v.page = page
		}
		n := copy(p, v.cache[off%tablePage:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// next is the cluster behind n: 0 at the end of a chain.
func (v *volume) next(n int64) (int64, error) {
	var b [4]byte
	var entry, end int64
	var err error
	switch v.bits {
	case 12:
		if err = v.tableBytes(b[:2], n+n/2); err == nil {
			entry = int64(le.Uint16(b[:]) >> (4 * (n % 2)) & 0xfff)
		}
		end = 0xff8
	case 16:
		err = v.tableBytes(b[:2], 2*n)
		entry, end = int64(le.Uint16(b[:])), 0xfff8
	default:
		err = v.tableBytes(b[:], 4*n)
		entry, end = int64(le.Uint32(b[:])&0x0fffffff), 0x0ffffff8
		if v.layer == "exfat" {
			entry, end = int64(le.Uint32(b[:])), 0xfffffff8
		}
	}
	switch {
	case err != nil:
		return 0, err
	case entry >= end:
		return 0, nil
	case !v.valid(entry):
		return 0, fsread.Corrupt(v.layer, "cluster %d leads to %d, there are %d", n, entry, v.clusters)
	}
	return entry, nil
}

// chain is where the clusters of a file lie, read as far as was asked for.
type chain struct {
	v *volume

	mu   sync.Mutex
	runs []fsread.Run // in order, without gaps
	last int64        // the last cluster that is in runs; 0: the chain is read to its end
	have int64        // bytes in runs
}

// chainFrom begins at a cluster. contiguous: it is size bytes in one piece.
func (v *volume) chainFrom(first, size int64, contiguous bool) (*chain, error) {
	c := &chain{v: v}
	if first == 0 {
		return c, nil
	}
	if !v.valid(first) {
		return nil, fsread.Corrupt(v.layer, "a file begins at cluster %d, there are %d", first, v.clusters)
	}
	n := int64(1)
	if contiguous {
		n = max(1, (size+v.cluster-1)/v.cluster)
		if n > v.clusters || !v.valid(first+n-1) {
			return nil, fsread.Corrupt(v.layer, "%d clusters from %d, there are %d", n, first, v.clusters)
		}
	} else {
		c.last = first
	}
	c.have = n * v.cluster
	c.runs = []fsread.Run{{Length: c.have, At: v.at(first)}}
	return c, nil
}

// upTo reads the chain until it holds off, and reports whether it does.
func (c *chain) upTo(off int64) (bool, error) {
	for c.have <= off && c.last != 0 {
		next, err := c.v.next(c.last)
		if err != nil {
			return false, err
		}
		if c.last = next; next == 0 {
			break
		}
		if c.have >= c.v.clusters*c.v.cluster {
			return false, fsread.Corrupt(c.v.layer, "a chain of clusters leads back to itself, at %d", next)
		}
		at, end := c.v.at(next), &c.runs[len(c.runs)-1]
		if end.At+end.Length == at {
			end.Length += c.v.cluster
		} else if len(c.runs) < maxRuns {
			c.runs = append(c.runs, fsread.Run{Offset: c.have, Length: c.v.cluster, At: at})
		} else {
			return false, fsread.Unsupported(c.v.layer, "a file in more than %d pieces", maxRuns)
		}
		c.have += c.v.cluster
	}
	return c.have > off, nil
}

// find is the run that holds off.
func (c *chain) find(off int64) (fsread.Run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok, err := c.upTo(off)
	if err != nil {
		return fsread.Run{}, err
	}
	if !ok {
		return fsread.Run{}, fsread.Corrupt(c.v.layer, "a chain of clusters ends after %d bytes, the file has more", c.have)
	}
	lo, hi := 0, len(c.runs)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; c.runs[mid].Offset <= off {
			lo = mid
		} else {
			hi = mid
		}
	}
	return c.runs[lo], nil
}

// records calls f for the 32-byte records of a directory, with their places,
// until it returns false or limit bytes were read.
func (c *chain) records(limit int64, f func(at int64, rec []byte) (bool, error)) error {
	buf := make([]byte, min(c.v.cluster, 64<<10))
	for off := int64(0); ; {
		c.mu.Lock()
		ok, err := c.upTo(off)
		c.mu.Unlock()
		if err != nil || !ok {
			return err
		}
		if off >= limit {
			return fsread.Corrupt(c.v.layer, "a directory of more than %d bytes", limit)
		}
		r, err := c.find(off)
		if err != nil {
			return err
		}
		at := r.At + off - r.Offset
		part := buf[:min(int64(len(buf)), r.Length-(off-r.Offset))]
		if err := fsread.ReadFull(c.v.img, c.v.layer, part, at); err != nil {
			return err
		}
		for i := 0; i < len(part); i += recordSize {
			if more, err := f(at+int64(i), part[i:i+recordSize]); err != nil || !more {
				return err
			}
		}
		off += int64(len(part))
	}
}

const recordSize = 32

func (v *volume) record(id int64) ([]byte, error) {
	rec := make([]byte, recordSize)
	if id%recordSize != 0 || id < v.table {
		return nil, fmt.Errorf("%s: %d is no place of an entry", v.layer, id)
	}
	return rec, fsread.ReadFull(v.img, v.layer, rec, id)
}
