package mount

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Positions in a listing: of "." and "..", and else where the entry before ends,
// which is never as little as these.
const (
	atStart  = 0
	atParent = 1
	atFirst  = 2
)

var errLongName = fmt.Errorf("a name has more than %d bytes; it is left out", MaxName)

// listing is a directory that is being listed. It belongs to one request at a
// time.
type listing struct {
	dir  node
	pos  uint64 // of the next entry
	c    *pxar.Cursor
	next *pxar.Entry // read, and not listed yet
}

// parked keeps listings between the requests for their parts, the last 32. One
// that is not here any more is opened anew where it was.
type parked struct {
	mu   sync.Mutex
	list [32]*listing
	turn int
}

// take returns a listing that goes on at pos, nil if there is none.
func (p *parked) take(dir node, pos uint64) *listing {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range p.list {
		if l != nil && l.dir == dir && l.pos == pos {
			p.list[i] = nil
			return l
		}
	}
	return nil
}

func (p *parked) put(l *listing) {
	if l.next != nil && heavy(&l.next.Metadata) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list[p.turn] = l
	p.turn = (p.turn + 1) % len(p.list)
}

// listing goes on with one that is parked, or opens one.
func (s *server) listing(dir node, pos uint64) (*listing, error) {
	if l := s.parked.take(dir, pos); l != nil {
		return l, nil
	}
	d, err := s.dir(dir)
	if err != nil {
		return nil, err
	}
	from := int64(0)
	if pos > atFirst {
		from = int64(pos)
	}
	c, err := d.Cursor(from)
	if err != nil {
		return nil, err
	}
	return &listing{dir: dir, pos: pos, c: c}, nil
}

// peek returns the next entry, io.EOF behind the last one.
func (l *listing) peek() (*pxar.Entry, error) {
	if l.next == nil {
		e, err := l.c.Next()
		if err != nil {
			return nil, err
		}
		l.next = e
	}
	return l.next, nil
}

// step goes on behind the entry that peek returned.
func (l *listing) step() {
	l.pos, l.next = uint64(l.next.EndPos), nil
}

// ReadDirPlus lists with attributes.
func (s *server) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return s.list(in, out, func(l *listing, d fuse.DirEntry, e *pxar.Entry) bool {
		o := out.AddDirLookupEntry(d)
		if o == nil || e == nil {
			return o != nil
		}
		// If it cannot be found, the name is listed without attributes: who asks
		// for them gets the error.
		_ = s.found(e, l.dir, o)
		return true
	})
}

// ReadDir lists names and numbers.
func (s *server) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return s.list(in, out, func(_ *listing, d fuse.DirEntry, _ *pxar.Entry) bool { return out.AddDirEntry(d) })
}

// list adds entries until one does not fit. "." and ".." have no entry.
func (s *server) list(in *fuse.ReadIn, out *fuse.DirEntryList, add func(*listing, fuse.DirEntry, *pxar.Entry) bool) fuse.Status {
	dir := node(in.NodeId)
	l, err := s.listing(dir, in.Offset)
	if err != nil {
		return s.failed("list", dir, err)
	}
	for l.pos < atFirst {
		d := fuse.DirEntry{Name: ".", Mode: fuse.S_IFDIR, Ino: uint64(dir), Off: atParent}
		if l.pos == atParent {
			d = fuse.DirEntry{Name: "..", Mode: fuse.S_IFDIR, Ino: uint64(s.parent(dir)), Off: atFirst}
		}
		if !add(l, d, nil) {
			s.parked.put(l)
			return fuse.OK
		}
		l.pos = d.Off
	}
	for {
		e, err := l.peek()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if len(out.Bytes()) > 0 {
				return fuse.OK // the next request meets the error again
			}
			return s.failed("list", dir, err)
		}
		if len(e.Name) > MaxName {
			s.complaints.add("list", otherNode(e.Offset), errLongName)
			l.step()
			continue
		}
		mode, n := e.Mode, nodeOf(e)
		if e.Kind == pxar.Hardlink {
			mode, n = pxar.ModeFile, otherNode(e.Link)
		}
		if !add(l, fuse.DirEntry{Name: e.Name, Mode: mode, Ino: uint64(n), Off: uint64(e.EndPos)}, e) {
			break
		}
		l.step()
	}
	s.parked.put(l)
	return fuse.OK
}

// parent is the number of the directory above, if that was seen not too long
// ago.
func (s *server) parent(dir node) node {
	if dir == root {
		return root
	}
	if p, ok := s.parents.get(dir); ok {
		return p
	}
	return fuse.FUSE_UNKNOWN_INO
}
