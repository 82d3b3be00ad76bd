package ntfs

import (
	"bytes"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Flags of records and attributes.
const (
	flagInUse      = 1
	flagDirectory  = 2
	attrCompressed = 0x00ff
	attrEncrypted  = 0x4000
)

// attribute is one attribute, or one part of a long one.
type attribute struct {
	kind        uint32
	name        string
	flags       uint16
	value       []byte // if resident
	nonresident bool

	first, last uint64 // clusters of the value that runs has
	runs        []byte
	unit        uint16 // of compression, as a power of two of clusters
	size        int64
	initialized int64
}

// record is a file, with the attributes of all its records.
type record struct {
	number   uint64
	sequence uint16
	flags    uint16
	base     uint64
	attrs    []attribute
	missing  int // records that were not to be found yet
}

func (r *record) directory() bool { return r.flags&flagDirectory != 0 }

// first is the first attribute of a type, or nil.
func (r *record) first(kind uint32) *attribute {
	for i := range r.attrs {
		if r.attrs[i].kind == kind {
			return &r.attrs[i]
		}
	}
	return nil
}

// find is all parts of one attribute, in the order of their clusters.
func (r *record) find(kind uint32, name string) (parts []*attribute) {
	for i := range r.attrs {
		if a := &r.attrs[i]; a.kind == kind && a.name == name {
			parts = append(parts, a)
		}
	}
	slices.SortStableFunc(parts, func(a, b *attribute) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	return parts
}

// fix puts back what the fixups hold. b is a record or an index block.
func fix(b []byte, magic, what string, number uint64) error {
	if string(b[:4]) != magic {
		return fsread.Corrupt(layer, "%s %d begins with %q", what, number, b[:4])
	}
	at, n := int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	if n != len(b)/512+1 || at%2 != 0 || at+2*n > 510 {
		return fsread.Corrupt(layer, "%s %d has %d fixups at %d", what, number, n, at)
	}
	for i := 1; i < n; i++ {
		end := b[i*512-2 : i*512]
		if !bytes.Equal(end, b[at:at+2]) {
			return fsread.Corrupt(layer, "%s %d was not written as a whole", what, number)
		}
		copy(end, b[at+2*i:])
	}
	return nil
}

// parse takes one record apart. Its attributes are parts of b.
func (f *FS) parse(number uint64, b []byte) (*record, error) {
	if err := fix(b, "FILE", "record", number); err != nil {
		return nil, err
	}
	r := &record{number: number, sequence: le.Uint16(b[16:]), flags: le.Uint16(b[22:]), base: le.Uint64(b[32:])}
	used := int(le.Uint32(b[24:]))
	if used > len(b) {
		return nil, fsread.Corrupt(layer, "record %d uses %d bytes of %d", number, used, len(b))
	}
	for at := int(le.Uint16(b[20:])); ; {
		if at < 24 || at%8 != 0 || at+8 > used {
			if at+4 <= used && at >= 24 && le.Uint32(b[at:]) == typeEnd {
				return r, nil
			}
			return nil, fsread.Corrupt(layer, "record %d has an attribute at %d of %d", number, at, used)
		}
		kind, length := le.Uint32(b[at:]), int(le.Uint32(b[at+4:]))
		if kind == typeEnd {
			return r, nil
		}
		if length < 24 || length > used-at {
			return nil, fsread.Corrupt(layer, "record %d has an attribute of %d bytes at %d of %d", number, length, at, used)
		}
		a, ok := f.attribute(kind, b[at:at+length])
		if !ok {
			return nil, fsread.Corrupt(layer, "record %d: the attribute %#x at %d does not fit into itself", number, kind, at)
		}
		r.attrs = append(r.attrs, a)
		at += length
	}
}

// attribute takes one apart, which b is all of.
func (f *FS) attribute(kind uint32, b []byte) (a attribute, ok bool) {
	a = attribute{kind: kind, flags: le.Uint16(b[12:]), nonresident: b[8] != 0}
	name, units := int(le.Uint16(b[10:])), int(b[9])
	if name+2*units > len(b) {
		return a, false
	}
	a.name = utf16(b[name : name+2*units])
	if !a.nonresident {
		n, at := uint64(le.Uint32(b[16:])), uint64(le.Uint16(b[20:]))
		if at+n > uint64(len(b)) {
			return a, false
		}
		a.value = b[at : at+n]
		a.size, a.initialized = int64(n), int64(n)
		return a, true
	}
	if len(b) < 64 {
		return a, false
	}
	a.first, a.last = le.Uint64(b[16:]), le.Uint64(b[24:])
	a.unit = le.Uint16(b[34:])
	size, initialized := le.Uint64(b[48:]), le.Uint64(b[56:])
	at := int(le.Uint16(b[32:]))
	if at > len(b) || size > 1<<62 || a.first > 1<<50 || a.last+1 > 1<<50 {
		return a, false
	}
	a.runs, a.size, a.initialized = b[at:], int64(size), int64(min(initialized, size))
	return a, true
}

// read reads one record of the table.
func (f *FS) read(number uint64) (*record, error) {
	if number >= uint64(f.mft.Size()/f.record) {
		return nil, fsread.Corrupt(layer, "record %d, the table has %d", number, f.mft.Size()/f.record)
	}
	b := make([]byte, f.record)
	if err := fsread.ReadFull(f.mft, layer, b, int64(number)*f.record); err != nil {
		return nil, err
	}
	return f.parse(number, b)
}

// load reads a file, with all its records.
func (f *FS) load(ref uint64) (*record, error) {
	number, sequence := ref&(1<<48-1), uint16(ref>>48)
	f.mu.Lock()
	r := f.cache[number]
	f.mu.Unlock()
	if r == nil {
		var err error
		if r, err = f.read(number); err != nil {
			return nil, err
		}
		if r.first(typeList) != nil {
			if err := f.gather(r); err != nil {
				return nil, err
			}
		}
		f.remember(r)
	}
	if r.flags&flagInUse == 0 || r.base != 0 {
		return nil, fsread.Corrupt(layer, "record %d is not that of a file", number)
	}
	if sequence != 0 && sequence != r.sequence {
		return nil, fsread.Corrupt(layer, "record %d is another file: its number is %d, %d was expected", number, r.sequence, sequence)
	}
	return r, nil
}

// remember keeps the records of the last files.
func (f *FS) remember(r *record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.cache) >= 64 {
		clear(f.cache)
	}
	f.cache[r.number] = r
}

// gather adds the attributes that are in other records.
func (f *FS) gather(r *record) error {
	list := r.find(typeList, "")
	img, err := f.stream(list, "attribute list")
	if err != nil {
		return err
	}
	if img.Size() > maxList {
		return fsread.Unsupported(layer, "an attribute list of %d bytes", img.Size())
	}
	b := make([]byte, img.Size())
	if err := fsread.ReadFull(img, layer, b, 0); err != nil {
		return err
	}
	seen := map[uint64]bool{r.number: true}
	for at := 0; at+26 <= len(b); {
		n := int(le.Uint16(b[at+4:]))
		if n < 26 || n > len(b)-at {
			return fsread.Corrupt(layer, "record %d: the attribute list has an entry of %d bytes at %d of %d", r.number, n, at, len(b))
		}
		ref := le.Uint64(b[at+16:])
		number := ref & (1<<48 - 1)
		if at += n; seen[number] {
			continue
		}
		if seen[number] = true; len(seen) > maxRecords {
			return fsread.Unsupported(layer, "a file in more than %d records", maxRecords)
		}
		if r.number == recMFT && number >= uint64(f.mft.Size()/f.record) {
			r.missing++
			continue
		}
		more, err := f.read(number)
		if err != nil {
			return err
		}
		if more.flags&flagInUse == 0 || more.base&(1<<48-1) != r.number || more.sequence != uint16(ref>>48) {
			return fsread.Corrupt(layer, "record %d lists record %d, which is not a part of it", r.number, number)
		}
		r.attrs = append(r.attrs, more.attrs...)
	}
	return nil
}
