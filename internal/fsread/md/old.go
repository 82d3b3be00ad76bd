package md

import (
	"encoding/binary"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// States of a member in the superblock of version 0.90.
const (
	stateFailed = 1 << 0
	stateInSync = 1 << 2

	oldMembers = 27
)

// version0 reads a superblock of version 0.90.
func version0(img image.Image, b []byte) (*Member, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(b) != magic {
		order = binary.BigEndian
	}
	word := func(i int) uint32 { return order.Uint32(b[4*i:]) }
	if word(0) != magic || word(1) != 0 {
		return nil, fsread.ErrOther
	}
	var sum uint64
	for i := range 1024 {
		if i != 38 {
			sum += uint64(word(i))
		}
	}
	if uint32(sum)+uint32(sum>>32) != word(38) {
		return nil, fsread.Corrupt(layer, "the checksum of the superblock is wrong")
	}
	m := &Member{
		UUID: fmt.Sprintf("%08x%08x%08x%08x", word(5), word(13), word(14), word(15)), Name: fmt.Sprintf("md%d", word(11)), img: img,
		number: int(min(word(992), oldMembers)), inSync: word(33)&1 != 0,
		size: img.Size()&^(64<<10-1) - 64<<10,
	}
	m.events = uint64(word(40))<<32 | uint64(word(39))
	if order == binary.BigEndian {
		m.events = uint64(word(39))<<32 | uint64(word(40))
	}
	m.array = geometry{
		level: int(int32(word(7))), members: int(min(word(10), 1<<30)), layout: word(64), chunk: int64(word(65)),
	}
	if m.array.level > 0 {
		if m.array.used = int64(word(8)) * 1024; m.array.used > m.size {
			return nil, fsread.Corrupt(layer, "a member has %d bytes, of which %d are used", m.size, m.array.used)
		}
	}
	if word(2) >= 91 && order.Uint64(b[4*44:]) != 1<<64-1 {
		return nil, fsread.Unsupported(layer, "array %s, which is being reshaped,", m.Name)
	}
	for i := range oldMembers {
		place, state := word(128+32*i+3), word(128+32*i+4)
		r := spare
		switch {
		case state&stateFailed != 0:
			r = failed
		case state&stateInSync != 0:
			r = role(min(place, 1<<30))
		}
		m.roles = append(m.roles, r)
	}
	return m, m.check()
}
