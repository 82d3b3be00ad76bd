package qcow2

import (
	"errors"
	"fmt"
	"io"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
)

// layer is one qcow2 file of the chain.
type layer struct {
	h     format.Header
	file  File   // the tables
	data  File   // the clusters: file, or the external data file
	cache *cache // shared by the chain
}

// readHeader reads and parses the first cluster of an open file.
func readHeader(f File) (format.Header, error) {
	b, err := head(f, format.MinHead)
	if err != nil {
		return format.Header{}, err
	}
	size, err := format.ClusterSize(b)
	if err != nil {
		return format.Header{}, fmt.Errorf("image %s: %w", f.Path(), err)
	}
	if b, err = head(f, size); err != nil {
		return format.Header{}, err
	}
	h, err := format.Parse(b)
	if err != nil {
		return format.Header{}, fmt.Errorf("image %s: %w", f.Path(), err)
	}
	return h, nil
}

// head reads the first n bytes, or fewer of a shorter file.
func head(f File, n int) ([]byte, error) {
	b := make([]byte, min(int64(n), f.Size()))
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return b, nil
}

// run finds the mapping at off, below the disk's size, and for how many bytes,
// at most most, it goes on in one piece: of the same kind, and for data without
// a jump in the file. A piece ends at the latest with a page of the table.
func (l *layer) run(off, most int64) (format.Mapping, int64, error) {
	cluster := l.h.Cluster()
	span := cluster * l.h.L2Entries() // what one L2 table maps
	table, empty, err := l.l2(off / span)
	if err != nil {
		return format.Mapping{}, 0, err
	}
	if empty > 0 {
		return format.Mapping{}, min(most, empty*span-off%span), nil
	}

	size := l.h.L2EntrySize()
	entryOff := table + off%span/cluster*size
	page, err := l.page(entryOff)
	if err != nil {
		return format.Mapping{}, 0, err
	}
	unit := l.h.Unit()
	subs := cluster / unit
	at := func(n int64) (format.Mapping, error) { // of the n-th unit from off's on
		u := off%cluster/unit + n
		rel := entryOff%l.cache.page(&l.h) + u/subs*size
		return l.h.Map(page[rel:rel+size], int(u%subs))
	}
	if entryOff%l.cache.page(&l.h)+size > int64(len(page)) {
		return format.Mapping{}, 0, fmt.Errorf("%w: L2 table at offset %d, which the file ends in", format.ErrFormat, table)
	}
	first, err := at(0)
	if err != nil {
		return format.Mapping{}, 0, err
	}
	if first.Kind == format.Compressed {
		return first, min(most, cluster-off%cluster), nil
	}
	units := (int64(len(page))-entryOff%l.cache.page(&l.h))/size*subs - off%cluster/unit
	n, length := int64(1), unit-off%unit
	for ; n < units && length < most; n, length = n+1, length+unit {
		m, err := at(n)
		if err != nil || m.Kind != first.Kind || m.Kind == format.Data && m.Host != first.Host+n*unit {
			break // an error is met again by who reads there
		}
	}
	if first.Kind == format.Data {
		first.Host += off % unit
	}
	return first, min(most, length), nil
}

// l2 returns the offset of the n-th L2 table, or how many tables from the n-th
// on do not exist, as far as the page tells.
func (l *layer) l2(n int64) (table, empty int64, err error) {
	entryOff := l.h.L1Offset + n*format.L1EntrySize
	page, err := l.page(entryOff)
	if err != nil {
		return 0, 0, err
	}
	rest := page[min(int64(len(page)), entryOff%l.cache.page(&l.h)):]
	if len(rest) < format.L1EntrySize {
		return 0, 0, fmt.Errorf("%w: L1 table at offset %d, which the file ends in", format.ErrFormat, l.h.L1Offset)
	}
	for ; len(rest) >= format.L1EntrySize && n+empty < l.h.L1Entries; rest = rest[format.L1EntrySize:] {
		table, err = l.h.L2Offset(rest)
		switch {
		case empty > 0 && (table != 0 || err != nil):
			return 0, empty, nil
		case table != 0 || err != nil:
			return table, 0, err
		}
		empty++
	}
	return 0, empty, nil
}

// page returns the page of the tables that off lies in. It is shorter where
// the file ends.
func (l *layer) page(off int64) ([]byte, error) {
	size := l.cache.page(&l.h)
	start := off &^ (size - 1)
	return l.cache.get(key{l, start}, func() ([]byte, error) {
		n := min(size, l.file.Size()-start)
		if n <= 0 {
			return nil, fmt.Errorf("%w: table at offset %d of a file of %d bytes", format.ErrFormat, off, l.file.Size())
		}
		b := make([]byte, n)
		if k, err := l.file.ReadAt(b, start); int64(k) < n {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		return b, nil
	})
}

func (l *layer) close() error {
	err := l.file.Close()
	if l.data != nil && l.data != l.file {
		if derr := l.data.Close(); err == nil {
			err = derr
		}
	}
	return err
}
