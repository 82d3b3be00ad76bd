package ntfs

import (
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

const indexName = "$I30"

// Entries of an index.
const (
	entryLast = 2
	nameDOS   = 2 // a name of 8 and 3 characters beside a long one
)

// ReadDir lists a directory.
func (f *FS) ReadDir(dir fsread.ID, each func(fsread.Entry) error) error {
	r, err := f.load(dir.Number)
	if err != nil {
		return err
	}
	if !r.directory() {
		return fsread.ErrNotDir
	}
	if _, junction, err := f.reparse(r); err != nil {
		return err
	} else if junction {
		return fsread.ErrNotDir
	}
	root := r.find(typeIndexRoot, indexName)
	if len(root) == 0 || root[0].nonresident || len(root[0].value) < 32 {
		return fsread.Corrupt(layer, "directory %d has no index", r.number)
	}
	v := root[0].value
	if err := f.entries(r.number, v[16:], each); err != nil {
		return err
	}
	if v[28]&1 == 0 {
		return nil
	}
	size := int64(le.Uint32(v[8:]))
	if !blockSize(size) {
		return fsread.Corrupt(layer, "directory %d has index blocks of %d bytes", r.number, size)
	}
	return f.blocks(r, size, each)
}

// blocks lists the index blocks that are in use.
func (f *FS) blocks(r *record, size int64, each func(fsread.Entry) error) error {
	blocks, err := f.stream(r.find(typeIndex, indexName), "the index of a directory")
	if err != nil {
		return err
	}
	bitmap, err := f.stream(r.find(typeBitmap, indexName), "the bitmap of a directory")
	if err != nil {
		return err
	}
	b, bits := make([]byte, size), make([]byte, 4096)
	var have int64 // bytes of the bitmap before bits
	n := min(blocks.Size()/size, bitmap.Size()*8)
	for i := int64(0); i < n; i++ {
		if i%int64(len(bits)*8) == 0 {
			have = i / 8
			if err := fsread.ReadFull(bitmap, layer, bits[:min(int64(len(bits)), bitmap.Size()-have)], have); err != nil {
				return err
			}
		}
		if bits[i/8-have]>>(i%8)&1 == 0 {
			continue
		}
		if err := fsread.ReadFull(blocks, layer, b, i*size); err != nil {
			return err
		}
		if err := fix(b, "INDX", "index block", uint64(i)); err != nil {
			return err
		}
		if err := f.entries(r.number, b[24:], each); err != nil {
			return err
		}
	}
	return nil
}

// entries lists the names of one node, of which b is the header with all behind
// it.
func (f *FS) entries(dir uint64, b []byte, each func(fsread.Entry) error) error {
	at, end := int(le.Uint32(b)), int(le.Uint32(b[4:]))
	if end > len(b) || at < 16 {
		return fsread.Corrupt(layer, "directory %d has entries from %d to %d of %d", dir, at, end, len(b))
	}
	for {
		if at+16 > end {
			return fsread.Corrupt(layer, "directory %d has an entry at %d of %d", dir, at, end)
		}
		e := b[at:end]
		n, key, flags := int(le.Uint16(e[8:])), int(le.Uint16(e[10:])), le.Uint16(e[12:])
		if flags&entryLast != 0 {
			return nil
		}
		if n < 16+key || n > len(e) || n%8 != 0 || key < 66 || 66+2*int(e[16+64]) > key {
			return fsread.Corrupt(layer, "directory %d has an entry of %d bytes with a name of %d at %d", dir, n, key, at)
		}
		at += n
		ref, k := le.Uint64(e), e[16:16+key]
		if k[65] == nameDOS || ref&(1<<48-1) < firstUser {
			continue
		}
		name := utf16(k[66 : 66+2*int(k[64])])
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			continue
		}
		if err := each(fsread.Entry{Name: name, ID: fsread.ID{Number: ref}, Kind: kindOf(le.Uint32(k[56:]))}); err != nil {
			return err
		}
	}
}

// Lookup finds a name, written exactly or in other case.
func (f *FS) Lookup(dir fsread.ID, name string) (fsread.Entry, error) {
	return fsread.LookupFolded(f, dir, name)
}

// kindOf is what a name's copy of the attributes says for sure.
func kindOf(flags uint32) fsread.Kind {
	const reparse, directory = 0x400, 0x10000000
	switch {
	case flags&(reparse|fileSystem) != 0:
		return fsread.Unknown
	case flags&directory != 0:
		return fsread.Directory
	}
	return fsread.Regular
}
