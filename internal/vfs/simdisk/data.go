package simdisk

import (
	"io"
	"slices"
)

const (
	pageSize   = 4096
	sectorSize = 512
	midKept    = 16 // intermediate page contents remembered per file
)

// page returns the content of page i, which may be shorter than pageSize.
func (n *node) page(i int) []byte {
	if i < len(n.pages) {
		return n.pages[i]
	}
	return nil
}

func (n *node) readAt(p []byte, off int64) (int, error) {
	if off >= n.size {
		return 0, io.EOF
	}
	var err error
	if int64(len(p)) > n.size-off {
		p, err = p[:n.size-off], io.EOF
	}
	for done := 0; done < len(p); {
		i, rel := int((off+int64(done))/pageSize), int((off+int64(done))%pageSize)
		part := p[done:min(len(p), done+pageSize-rel)]
		k := 0
		if data := n.page(i); rel < len(data) {
			k = copy(part, data[rel:])
		}
		clear(part[k:])
		done += len(part)
	}
	return len(p), err
}

// writeAt needs an owned node.
func (n *node) writeAt(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	end := off + int64(len(p))
	n.ownPages(int((end + pageSize - 1) / pageSize))
	whole := slices.Clone(p) // one allocation for all pages that p fills
	for done := 0; done < len(p); {
		i, rel := int((off+int64(done))/pageSize), int((off+int64(done))%pageSize)
		part := whole[done:min(len(p), done+pageSize-rel)]
		old := n.pages[i]
		if rel > 0 || len(part) < len(old) {
			merged := make([]byte, max(len(old), rel+len(part)))
			copy(merged, old)
			copy(merged[rel:], part)
			n.setPage(i, merged)
		} else {
			n.setPage(i, part[:len(part):len(part)])
		}
		done += len(part)
	}
	n.size = max(n.size, end)
}

func (n *node) truncate(size int64) {
	keep := int((size + pageSize - 1) / pageSize)
	if size < n.size && len(n.pages) > 0 {
		n.ownPages(0)
		if rel := int(size % pageSize); rel > 0 && len(n.page(keep-1)) > rel {
			n.setPage(keep-1, n.pages[keep-1][:rel:rel])
		}
		for i := keep; i < len(n.pages); i++ {
			n.setPage(i, nil)
		}
		n.pages = n.pages[:min(keep, len(n.pages))]
	}
	n.size = size
}

// ownPages makes the slice of pages private and at least count long.
func (n *node) ownPages(count int) {
	if n.shared {
		n.pages = append(make([][]byte, 0, max(count, len(n.pages))), n.pages...)
		n.mid = slices.Clone(n.mid)
		n.shared = false
	}
	for len(n.pages) < count {
		n.pages = append(n.pages, nil)
	}
}

func (n *node) setPage(i int, data []byte) {
	if old := n.pages[i]; old != nil {
		if len(n.mid) == midKept {
			n.mid = slices.Delete(n.mid, 0, 1)
		}
		n.mid = append(n.mid, version{i, old})
	}
	n.pages[i] = data
}

// take makes n's content that of src, which stays usable.
func (n *node) take(src *node) {
	src.mid = nil
	src.shared = true
	n.size, n.pages, n.mid, n.shared = src.size, src.pages, nil, true
}

// allocated is the space that the content occupies in bytes.
func (n *node) allocated() int64 {
	var sum int64
	for _, p := range n.pages {
		if p != nil {
			sum += pageSize
		}
	}
	return sum
}

func samePage(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
