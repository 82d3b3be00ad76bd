package iso9660

import (
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// rock is what Rock Ridge says of a record.
type rock struct {
	name       string
	hasName    bool
	mode       uint32 // with type bits; 0: nothing is said
	links      uint32
	uid, gid   uint32
	major      uint32
	minor      uint32
	target     string
	child      int64 // block of a directory that lies elsewhere; 0: none
	moved      bool  // shown elsewhere
	compressed bool
	modified   time.Time
	accessed   time.Time
	changed    time.Time
	created    time.Time

	inner bool // the target goes on within a name
}

// rockOf reads the entries in the room of a record, and where they go on.
func (f *FS) rockOf(r record) (k rock, err error) {
	room := r.room
	for n := 0; ; n++ {
		var next []int64
		for len(room) >= 4 {
			length := int(room[2])
			if length < 4 || length > len(room) {
				break // what follows is padding
			}
			if string(room[:2]) == "CE" && length >= 28 {
				next = []int64{int64(le.Uint32(room[4:])), int64(le.Uint32(room[12:])), int64(le.Uint32(room[20:]))}
			} else if string(room[:2]) == "ST" {
				break
			} else if !k.entry(room[:length]) {
				return k, fsread.Corrupt(layer, "the record at %d has a Rock Ridge entry %q that does not fit", r.at, room[:2])
			}
			room = room[length:]
		}
		if next == nil {
			return k, nil
		}
		if n > maxContinued || next[2] > sector {
			return k, fsread.Corrupt(layer, "the Rock Ridge of the record at %d has no end", r.at)
		}
		room = make([]byte, next[2])
		if err := fsread.ReadFull(f.img, layer, room, next[0]*f.block+next[1]); err != nil {
			return k, err
		}
	}
}

// entry takes one entry.
func (k *rock) entry(b []byte) bool {
	word := func(at int) uint32 { return le.Uint32(b[at:]) }
	switch string(b[:2]) {
	case "PX":
		if len(b) < 36 {
			return false
		}
		k.mode, k.links, k.uid, k.gid = word(4), word(12), word(20), word(28)
	case "PN":
		if len(b) < 20 {
			return false
		}
		high, low := word(4), word(12)
		if k.major, k.minor = high, low; high == 0 { // as Linux writes them
			k.major, k.minor = low>>8&0xfff, low&0xff|low>>12&0xfff00
		}
	case "NM":
		if len(b) < 5 {
			return false
		}
		if b[4]&6 == 0 {
			k.name, k.hasName = k.name+string(b[5:]), true
		}
	case "SL":
		return len(b) >= 5 && k.link(b[5:])
	case "TF":
		return len(b) >= 5 && k.times(b[4], b[5:])
	case "CL":
		if len(b) < 12 {
			return false
		}
		k.child = int64(word(4))
	case "RE":
		k.moved = true
	case "ZF":
		k.compressed = true
	}
	return true
}

// link takes the components of a symbolic link.
func (k *rock) link(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 2 || 2+int(b[1]) > len(b) {
			return false
		}
		flags, text := b[0], string(b[2:2+int(b[1])])
		if k.target != "" && !k.inner && k.target != "/" {
			k.target += "/"
		}
		switch {
		case flags&2 != 0:
			text = "."
		case flags&4 != 0:
			text = ".."
		case flags&8 != 0:
			k.target, text = "", "/"
		}
		k.target += text
		k.inner = flags&1 != 0
		b = b[2+int(b[1]):]
	}
	return true
}

// times takes those that flags announce, in their order.
func (k *rock) times(flags byte, b []byte) bool {
	length, parse := 7, shortDate
	if flags&0x80 != 0 {
		length, parse = 17, longDate
	}
	for i, to := range []*time.Time{&k.created, &k.modified, &k.accessed, &k.changed} {
		if flags>>i&1 == 0 {
			continue
		}
		if len(b) < length {
			return false
		}
		*to, b = parse(b), b[length:]
	}
	return true
}
