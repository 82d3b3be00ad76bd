package extract

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

// Rewriter is a stream of which what was written can be changed.
type Rewriter interface {
	io.Writer
	Offset() int64 // bytes written so far
	Rewrite(p []byte, off int64) error
}

// Of sparse files in a tar. A header comes before the content, and only the
// content tells where its holes are: so room is left in the header, and filled
// afterwards.
const (
	sparseMin   = 1 << 20  // bytes of the smallest file that may have holes
	sparseGrain = 64 << 10 // bytes of the smallest hole
	sparseRoom  = 4 << 10  // bytes for the map; what does not fit in it is stored with its zeros
	tarBlock    = 512
	commentLen  = len("0000 comment=\n") // of a record of four digits without text
)

// sparse writes large files without their runs of zeros, in GNU's format 0.1 for
// extended headers, which GNU tar reads since 1.15.90, and libarchive and Go too.
type sparse struct {
	s   *stream
	out *tar.Writer
	w   Rewriter
	buf []byte
}

// segment is a run of stored bytes.
type segment struct{ off, n int64 }

// file writes a file with its header h.
func (t *sparse) file(h *tar.Header, size int64) error {
	if err := t.out.Flush(); err != nil {
		return err
	}
	h.PAXRecords["comment"] = string(bytes.Repeat([]byte{' '}, sparseRoom-commentLen))
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(h); err != nil {
		return err
	}
	start := t.w.Offset()
	if _, err := t.w.Write(head.Bytes()); err != nil {
		return err
	}
	segments, err := t.content(size)
	if err != nil {
		return err
	}
	stored := int64(0)
	for _, g := range segments {
		stored += g.n
	}
	if _, err := t.w.Write(make([]byte, -stored&(tarBlock-1))); err != nil || stored == size {
		return err
	}
	if err := fill(head.Bytes(), segments, size, stored); err != nil {
		return err
	}
	return t.w.Rewrite(head.Bytes(), start)
}

// content copies what is no hole, and tells where that is.
func (t *sparse) content(size int64) ([]segment, error) {
	if t.buf == nil {
		t.buf = make([]byte, sparseGrain)
	}
	// Records and the longest numbers that there can be; the last segment is empty.
	most := (sparseRoom - 200) / (2 * (len(strconv.FormatInt(size, 10)) + 1))
	var all []segment
	r := counted{t.s}
	for off := int64(0); off < size; {
		p := t.buf[:min(sparseGrain, size-off)]
		if n, err := io.ReadFull(r, p); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("%w: the content has %d bytes, not %d", pxar.ErrFormat, off+int64(n), size)
			}
			return nil, err
		}
		last := len(all) - 1
		switch {
		case len(all) < most-1 && zero.Is(p):
			off += int64(len(p))
			continue
		case last >= 0 && all[last].off+all[last].n == off:
			all[last].n += int64(len(p))
		default:
			all = append(all, segment{off, int64(len(p))})
		}
		if _, err := t.w.Write(p); err != nil {
			return nil, err
		}
		off += int64(len(p))
	}
	if n, err := r.Read(t.buf[:1]); n > 0 || !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("%w: the content has more than %d bytes", pxar.ErrFormat, size), err)
	}
	return append(all, segment{off: size}), nil // so that a hole at the end is one
}

// fill puts the map into a header: a block of its own that announces the
// records, these, and the block of the file. Its length stays.
func fill(head []byte, segments []segment, size, stored int64) error {
	body, err := strconv.ParseInt(string(bytes.Trim(head[124:136], " \x00")), 8, 64)
	if err != nil || tarBlock+body > int64(len(head)-tarBlock) {
		return fmt.Errorf("extended header of a tar: %d bytes of %d", body, len(head))
	}
	records := head[tarBlock : tarBlock+body]
	kept, err := withoutRecords(records, "comment", "size")
	if err != nil {
		return err
	}
	var places bytes.Buffer
	for i, g := range segments {
		if i > 0 {
			places.WriteByte(',')
		}
		fmt.Fprintf(&places, "%d,%d", g.off, g.n)
	}
	// The number of segments comes before them: GNU tar makes room by it.
	kept = appendRecord(kept, "GNU.sparse.size", strconv.FormatInt(size, 10))
	kept = appendRecord(kept, "GNU.sparse.numblocks", strconv.Itoa(len(segments)))
	kept = appendRecord(kept, "GNU.sparse.map", places.String())
	const octal = 1<<33 - 1 // the largest size in eleven digits
	if stored > octal {
		kept = appendRecord(kept, "size", strconv.FormatInt(stored, 10))
	}
	rest := len(records) - len(kept)
	if rest < commentLen {
		return fmt.Errorf("extended header of a tar: the map of holes is %d bytes too long", commentLen-rest)
	}
	text := rest - len(strconv.Itoa(rest)) - len(" comment=\n")
	kept = fmt.Appendf(kept, "%d comment=%s\n", rest, bytes.Repeat([]byte{' '}, text))
	copy(records, kept)

	file := head[len(head)-tarBlock:]
	copy(file[124:136], fmt.Sprintf("%011o\x00", min(stored, octal)))
	copy(file[148:156], "        ")
	sum := 0
	for _, b := range file {
		sum += int(b)
	}
	copy(file[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return nil
}

// appendRecord appends a record: its length, which counts itself, key and value.
func appendRecord(b []byte, key, value string) []byte {
	n := len(key) + len(value) + len(" =\n")
	total := n + len(strconv.Itoa(n))
	if len(strconv.Itoa(total)) > len(strconv.Itoa(n)) {
		total++
	}
	return fmt.Appendf(b, "%d %s=%s\n", total, key, value)
}

// withoutRecords copies records but for those with some keys.
func withoutRecords(b []byte, drop ...string) (kept []byte, err error) {
	for len(b) > 0 {
		digits, _, ok := bytes.Cut(b, []byte{' '})
		n, err := strconv.Atoi(string(digits))
		if !ok || err != nil || n <= len(digits)+1 || n > len(b) {
			return nil, fmt.Errorf("extended header of a tar: record %.20q", b)
		}
		key, _, _ := bytes.Cut(b[len(digits)+1:n], []byte{'='})
		keep := true
		for _, d := range drop {
			keep = keep && string(key) != d
		}
		if keep {
			kept = append(kept, b[:n]...)
		}
		b = b[n:]
	}
	return kept, nil
}
