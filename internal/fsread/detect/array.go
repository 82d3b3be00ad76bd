package detect

const (
	raidMember = "linux_raid_member"
	raidMagic  = "\xfc\x4e\x2b\xa9"
)

// arrayAtStart knows the member of an array of Linux by its superblock: 1.1 at
// the start, 1.2 at 4096. It names its own place.
func arrayAtStart(p *probe) bool { return array1(p, 0) || array1(p, 4096) }

func array1(p *probe, off int64) bool {
	b := p.at(off, 256)
	return b != nil && string(b[:4]) == raidMagic && le.Uint32(b[4:]) == 1 && le.Uint64(b[144:]) == uint64(off/512)
}

// arrayAtEnd knows the superblocks at the end: 1.0 at least 8 KiB before it, 0.90
// in the last whole 64 KiB, in the byte order of who made it.
func arrayAtEnd(p *probe) (at int64, ok bool) {
	if at = (p.img.Size() - 8<<10) &^ 4095; array1(p, at) {
		return at, true
	}
	at = p.img.Size()&^(64<<10-1) - 64<<10
	b := p.at(at, 8)
	return at, b != nil && (string(b[:4]) == raidMagic && le.Uint32(b[4:]) == 0 || be.Uint32(b) == 0xa92b4efc && be.Uint32(b[4:]) == 0)
}
