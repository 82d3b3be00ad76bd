package qcow2target

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// packBytes is how much of compressed clusters is written at a time.
const packBytes = 1 << 20

var errTwice = errors.New("a compressed cluster cannot be written a second time")

// area is a part of the file that is handed out and not used yet.
type area struct{ at, end int64 }

// packer is what one writer needs to compress.
type packer struct {
	zstd *zstd.Encoder
	one  []byte  // a compressed cluster
	buf  []byte  // several, side by side
	ends []int64 // where each ends in buf
	off  int64   // of the first, on the disk
}

func (i *Image) packer() (*packer, error) {
	select {
	case p := <-i.packers:
		return p, nil
	default:
	}
	enc, err := zstd.NewEncoder()
	if err != nil {
		return nil, err
	}
	return &packer{zstd: enc, one: make([]byte, 0, zstd.Bound(int(i.h.Cluster()))), buf: make([]byte, 0, packBytes+i.h.Cluster())}, nil
}

func (i *Image) giveBack(p *packer) {
	select {
	case i.packers <- p:
	default:
		p.zstd.Close()
	}
}

func (i *Image) closePackers() {
	for {
		select {
		case p := <-i.packers:
			p.zstd.Close()
		default:
			return
		}
	}
}

// clusters writes clusters from the beginning of one on, compressed where that is
// asked for and of use.
func (i *Image) clusters(b []byte, off int64) error {
	if i.packers == nil {
		return i.whole(b, off)
	}
	p, err := i.packer()
	if err != nil {
		return err
	}
	defer i.giveBack(p)
	cluster := i.h.Cluster()
	for len(b) > 0 {
		n := min(cluster, int64(len(b)))
		small, err := i.compress(p, b[:n], off)
		if err != nil {
			return err
		}
		if !small || int64(len(p.buf)) >= packBytes {
			if err := i.flush(p); err != nil {
				return err
			}
		}
		if !small {
			if err := i.whole(b[:n], off); err != nil {
				return err
			}
		}
		b, off = b[n:], off+n
	}
	return i.flush(p)
}

// compress adds a cluster to those that wait, if it is a whole one, has no place
// in the file yet, and becomes smaller by a sector or more.
func (i *Image) compress(p *packer, b []byte, off int64) (bool, error) {
	if int64(len(b)) < i.h.Cluster() {
		return false, nil
	}
	e, err := i.entry(off / i.h.Cluster())
	if err != nil || e.Host != 0 || e.Compressed {
		return false, err
	}
	n, ok := p.zstd.Compress(p.one[:len(b)-sector], b)
	if !ok {
		return false, nil
	}
	if len(p.ends) == 0 {
		p.off = off
	}
	p.buf = append(p.buf, p.one[:n]...)
	p.ends = append(p.ends, int64(len(p.buf)))
	return true, nil
}

// flush writes the clusters that wait.
func (i *Image) flush(p *packer) error {
	if len(p.ends) == 0 {
		return nil
	}
	host, err := i.room(p.ends)
	if err != nil {
		return err
	}
	if _, err := i.f.WriteAt(p.buf, host); err != nil {
		return err
	}
	err = i.pointPacked(p, host)
	p.buf, p.ends = p.buf[:0], p.ends[:0]
	return err
}

// room finds a place for compressed clusters, behind those before if nothing
// else came behind them, and counts who refers to it.
func (i *Image) room(ends []int64) (int64, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	cluster, n := i.h.Cluster(), ends[len(ends)-1]
	missing := i.pack.at + n - i.pack.end
	if missing > 0 && i.pack.end != i.end {
		i.pack, missing = area{i.end, i.end}, n
	}
	host := i.pack.at
	if more := (missing + cluster - 1) / cluster; missing > 0 {
		i.end += more * cluster
		i.counts.add(more, 0)
		i.pack.end = i.end
	}
	i.pack.at += n
	start := host
	for _, end := range ends {
		for c := start / cluster; c <= (host+end-1)/cluster; c++ {
			i.counts.touch(c)
		}
		start = host + end
	}
	i.asked(n)
	return host, i.spillCounts()
}

// pointPacked makes clusters of the disk those that are side by side at host.
func (i *Image) pointPacked(p *packer, host int64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	start := host
	for n, end := range p.ends {
		entry := i.h.CompressedEntry(start, host+end-start)
		if err := i.tables.set(p.off/i.h.Cluster()+int64(n), entry); err != nil {
			return err
		}
		start = host + end
	}
	return nil
}
