package detect

import (
	"bytes"
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// headSize is what is read in one piece: nearly all signatures lie in it.
const headSize = 68 << 10

// probe reads an image and keeps its start, and the first error.
type probe struct {
	img  image.Image
	head []byte
	err  error
}

// at gives n bytes at an offset, or nil if the image does not have them.
func (p *probe) at(off int64, n int) []byte {
	size := p.img.Size()
	if off < 0 || off > size-int64(n) || p.err != nil {
		return nil
	}
	if p.head == nil {
		p.head = make([]byte, min(headSize, size))
		if p.err = fsread.ReadFull(p.img, "image", p.head, 0); p.err != nil {
			return nil
		}
	}
	if off+int64(n) <= int64(len(p.head)) {
		return p.head[off:][:n]
	}
	b := make([]byte, n)
	if p.err = fsread.ReadFull(p.img, "image", b, off); p.err != nil {
		return nil
	}
	return b
}

// has reports bytes at an offset.
func (p *probe) has(off int64, magic string) bool {
	return bytes.Equal(p.at(off, len(magic)), []byte(magic))
}

// signature is how a format is known: by bytes at an offset, or by what check
// says.
type signature struct {
	kind  string
	off   int64
	magic string
	check func(*probe) bool
	class Class // of those among the file systems; 0: FileSystem
}

func (s signature) found(p *probe) bool {
	return (s.magic == "" || p.has(s.off, s.magic)) && (s.check == nil || s.check(p))
}
