package md

import (
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Features of version 1 that count here. The others that are known do not: bitmaps, and
// what a RAID 5 keeps for its parity.
const (
	featureRecovering     = 0x2
	featureReshape        = 0x4
	featureBadBlocks      = 0x8
	featureReplacement    = 0x10
	featureReshapeBack    = 0x20
	featureNewOffset      = 0x40
	featureRecoveryBitmap = 0x80
	featureJournal        = 0x200
	featureLayout0        = 0x1000
	featuresKnown         = 0x1fff
)

// role is what a member is in an array: its place, or one of these.
type role int

const (
	spare  role = -1
	failed role = -2
)

// Member is a member of an array, by its superblock.
type Member struct {
	UUID string // of the array, 32 hexadecimal digits
	Name string // of the array, without the machine that made it; may be empty

	img      image.Image
	array    geometry
	number   int
	events   uint64
	inSync   bool
	features uint32
	start    int64 // of the data, bytes
	size     int64 // of the data, bytes
	roles    []role
}

// geometry is what all members of an array must say alike.
type geometry struct {
	level, members int
	layout         uint32
	chunk          int64 // bytes
	used           int64 // bytes of each member; 0 where it is their own
	layout0        bool  // the layout of RAID 0 is one that the superblock says
}

// Read reads the superblock of a member, and gives fsread.ErrOther for an image that
// has none.
func Read(img image.Image) (*Member, error) {
	for _, at := range []int64{0, 4096, (img.Size() - 8<<10) &^ 4095} {
		b, err := readAt(img, at, 4096)
		if err != nil {
			return nil, err
		}
		if b != nil && le.Uint32(b) == magic && le.Uint32(b[4:]) == 1 && le.Uint64(b[144:]) == uint64(at/sector) {
			return version1(img, b)
		}
	}
	b, err := readAt(img, img.Size()&^(64<<10-1)-64<<10, 4096)
	if err != nil || b == nil {
		return nil, orOther(err)
	}
	return version0(img, b)
}

func orOther(err error) error {
	if err == nil {
		return fsread.ErrOther
	}
	return err
}

// readAt is nil where the image does not have the bytes.
func readAt(img image.Image, at int64, n int) ([]byte, error) {
	if at < 0 || at > img.Size()-int64(n) {
		return nil, nil
	}
	b := make([]byte, n)
	return b, fsread.ReadFull(img, layer, b, at)
}

func version1(img image.Image, b []byte) (*Member, error) {
	count := int64(le.Uint32(b[220:]))
	if count > maxRoles {
		return nil, fsread.Corrupt(layer, "the superblock has %d roles", count)
	}
	b = b[:256+2*count]
	if sum := sum1(b); sum != le.Uint32(b[216:]) {
		return nil, fsread.Corrupt(layer, "the checksum of the superblock is wrong")
	}
	m := &Member{
		UUID: fmt.Sprintf("%x", b[16:32]), Name: strings.TrimRight(string(b[32:64]), "\x00"), img: img,
		number: int(min(le.Uint32(b[160:]), maxRoles)), events: le.Uint64(b[200:]), inSync: le.Uint64(b[208:]) == 1<<64-1, features: le.Uint32(b[8:]),
	}
	if _, after, ok := strings.Cut(m.Name, ":"); ok {
		m.Name = after
	}
	m.array = geometry{
		level: int(int32(le.Uint32(b[72:]))), layout: le.Uint32(b[76:]), members: int(min(le.Uint32(b[92:]), 1<<30)),
		chunk: int64(le.Uint32(b[88:])) * sector, layout0: m.features&featureLayout0 != 0,
	}
	start, size, used := le.Uint64(b[128:]), le.Uint64(b[136:]), le.Uint64(b[80:])
	have := uint64(img.Size() / sector)
	if start > have || size > have-start || used > size && m.array.level > 0 || used > 1<<52 {
		return nil, fsread.Corrupt(layer, "a member has %d sectors of data from sector %d, of which %d are used; there are %d", size, start, used, have)
	}
	m.start, m.size = int64(start)*sector, int64(size)*sector
	if m.array.level > 0 {
		m.array.used = int64(used) * sector
	}
	for i := range int(count) {
		r := role(le.Uint16(b[256+2*i:]))
		switch r {
		case 0xffff, 0xfffd:
			r = spare
		case 0xfffe:
			r = failed
		}
		m.roles = append(m.roles, r)
	}
	return m, m.check()
}

// sum1 is the checksum of a superblock: a sum of its numbers, the last of which may
// be half a one.
func sum1(b []byte) uint32 {
	var sum uint64
	for i := 0; i+4 <= len(b); i += 4 {
		if i != 216 {
			sum += uint64(le.Uint32(b[i:]))
		}
	}
	if len(b)%4 == 2 {
		sum += uint64(le.Uint16(b[len(b)-2:]))
	}
	return uint32(sum) + uint32(sum>>32)
}

// check refuses what is not understood.
func (m *Member) check() error {
	g := m.array
	name := m.Name
	if name == "" {
		name = m.UUID
	}
	refuse := func(format string, args ...any) error {
		return fsread.Unsupported(layer, "array %s, "+format, append([]any{name}, args...)...)
	}
	switch {
	case m.features&^featuresKnown != 0:
		return refuse("with the features %#x,", m.features&^featuresKnown)
	case m.features&(featureReshape|featureReshapeBack|featureNewOffset) != 0:
		return refuse("which is being reshaped,")
	case m.features&featureJournal != 0:
		return refuse("which has a journal,")
	case m.features&featureBadBlocks != 0:
		return refuse("a member of which has a list of bad blocks,")
	}
	if err := g.check(name); err != nil {
		return err
	}
	for _, r := range m.roles {
		if int(r) >= g.members {
			return fsread.Corrupt(layer, "array %s of %d members has the place %d", name, g.members, r)
		}
	}
	return nil
}

// check holds what a superblock says to what an array can be.
func (g geometry) check(name string) error {
	switch {
	case g.members < 1 || g.members > maxMembers:
		return fsread.Corrupt(layer, "array %s has %d members", name, g.members)
	case g.chunk < 0 || g.chunk > 1<<30 || g.chunk%sector != 0 || g.chunk == 0 && (g.level == 0 || g.level >= 4):
		return fsread.Corrupt(layer, "array %s has chunks of %d bytes", name, g.chunk)
	case g.used < 0:
		return fsread.Corrupt(layer, "array %s has %d bytes on each member", name, g.used)
	}
	return nil
}
