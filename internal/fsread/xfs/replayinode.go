package xfs

import "github.com/holdfast-backup/holdfast/internal/fsread"

// What an inode item has.
const (
	logData     = 0x002 | 0x004 // as it lies on the disk
	logDataRoot = 0x008
	logDevice   = 0x010
	logAttr     = 0x040 | 0x080
	logAttrRoot = 0x100
)

// coreFields are the numbers of an inode's core, which the log has in the order of
// the machine: offset and length. Times come apart.
var coreFields = [][2]int{
	{0, 2},
	{2, 2},
	{8, 4},
	{12, 4},
	{16, 4},
	{20, 2},
	{22, 2},
	{56, 8},
	{64, 8},
	{72, 4},
	{84, 4},
	{88, 2},
	{90, 2},
	{92, 4},
	{96, 4},
	{104, 8},
	{112, 8},
	{120, 8},
	{128, 4},
	{152, 8},
}

// inode writes an inode of a transaction.
func (p *player) inode(i *item) error {
	if i.kind() != itemInode || p.first {
		return nil
	}
	head, f := i.regions[0], p.fs
	fields := le.Uint32(head[4:])
	number, device := 16, 24
	switch len(head) {
	case 56:
	case 52: // of machines of 32 bits
		number, device = 12, 20
	default:
		return fsread.Corrupt(layer, "the log has an inode item of %d bytes", len(head))
	}
	ino := le.Uint64(head[number:])
	at, err := f.at(ino >> f.perLog)
	if err != nil {
		return err
	}
	if len(i.regions) < 2 {
		return fsread.Corrupt(layer, "the log has inode %d without its core", ino)
	}
	at += int64(ino&(1<<f.perLog-1)) * f.inode
	if p.gone(at) {
		return nil
	}
	raw := make([]byte, f.inode)
	if err := f.read(raw, at); err != nil {
		return err
	}
	if !putCore(raw, i.regions[1]) {
		return fsread.Corrupt(layer, "the log has a core of %d bytes of inode %d", len(i.regions[1]), ino)
	}
	if !p.putForks(raw, i.regions[2:], fields, le.Uint32(head[device:])) {
		return fsread.Corrupt(layer, "the log has inode %d with forks that do not fit", ino)
	}
	if raw[4] == 3 {
		be.PutUint64(raw[152:], ino)
		seal(raw)
	}
	return f.write(raw, at)
}

// putCore turns a core of the log into one of the disk.
func putCore(raw, core []byte) bool {
	if len(core) < 100 || core[4] == 3 && (len(core) < 176 || len(raw) < 176) {
		return false
	}
	length := 100
	if core[4] == 3 {
		length = 176
	}
	out := make([]byte, length)
	copy(out, core[:length])
	turn := func(at, n int) {
		for i := range n {
			out[at+i] = core[at+n-1-i]
		}
	}
	for _, f := range coreFields {
		if f[0]+f[1] <= length {
			turn(f[0], f[1])
		}
	}
	var flags2 uint64
	times := []int{32, 40, 48}
	if length == 176 {
		flags2, times = le.Uint64(core[120:]), append(times, 144)
	}
	for _, at := range times {
		if flags2&flags2Bigtime != 0 {
			turn(at, 8)
		} else {
			turn(at, 4)
			turn(at+4, 4)
		}
	}
	if flags2&flags2Nrext64 != 0 {
		turn(24, 8)
		turn(76, 4)
		turn(80, 2)
	} else {
		turn(30, 2)
		turn(76, 4)
		turn(80, 2)
	}
	copy(raw, out)
	return true
}

// putForks writes the forks behind the core of raw.
func (p *player) putForks(raw []byte, regions [][]byte, fields, device uint32) bool {
	core := 100
	if raw[4] == 3 {
		core = 176
	}
	data, attr := raw[core:], []byte(nil)
	if at := int(raw[82]) * 8; at > 0 {
		if at > len(data) {
			return false
		}
		data, attr = data[:at], data[at:]
	}
	next := func() ([]byte, bool) {
		if len(regions) == 0 {
			return nil, false
		}
		r := regions[0]
		regions = regions[1:]
		return r, true
	}
	put := func(fork []byte, as, root uint32) bool {
		switch {
		case fields&as != 0:
			r, ok := next()
			return ok && len(r) <= len(fork) && copy(fork, r) == len(r)
		case fields&root != 0:
			r, ok := next()
			return ok && p.putRoot(fork, r)
		}
		return true
	}
	if fields&logDevice != 0 && len(data) >= 4 {
		be.PutUint32(data, device)
	}
	return put(data, logData, logDataRoot) && put(attr, logAttr, logAttrRoot)
}

// putRoot writes the root of a B-tree, which the log has as a block with a header.
func (p *player) putRoot(fork, r []byte) bool {
	header := header4
	if p.fs.v5 {
		header = header5
	}
	room := (len(fork) - rootHeader) / 16
	if len(r) < header || room < 0 {
		return false
	}
	from, n := (len(r)-header)/16, int(be.Uint16(r[6:]))
	if n > from || n > room {
		return false
	}
	copy(fork, r[4:8]) // level and number
	copy(fork[rootHeader:], r[header:header+8*n])
	copy(fork[rootHeader+8*room:], r[header+8*from:header+8*from+8*n])
	return true
}
