package detect

import (
	"bytes"
	"math/bits"
)

// members are what must not be taken for what it holds.
var members = []signature{
	{kind: "crypto_LUKS", magic: "LUKS\xba\xbe"},
	{kind: "BitLocker", off: 3, magic: "-FVE-FS-"},
	{kind: "LVM2_member", check: lvm},
	{kind: raidMember, check: arrayAtStart},
	{kind: "bcache", off: 4096 + 24, magic: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
	{kind: "VMFS_volume_member", off: 1 << 20, magic: "\x0d\xd0\x01\xc0"},
	{kind: "stratis", off: 512 + 4, magic: "!Stra0tis\x86\xff\x02^\x41rh"},
}

// fileSystems, and what lies in their place. The order matters for those that
// leave bytes of others alone.
var fileSystems = []signature{
	{kind: "ext4", off: 0x438, magic: "\x53\xef", check: extNumbers},
	{kind: "xfs", magic: "XFSB"},
	{kind: "btrfs", off: 0x10040, magic: "_BHRfS_M"},
	{kind: "ntfs", off: 3, magic: "NTFS    "},
	{kind: "exfat", off: 3, magic: "EXFAT   "},
	{kind: "ReFS", off: 3, magic: "ReFS\x00\x00\x00\x00"},
	{kind: "squashfs", magic: "hsqs"},
	{kind: "erofs", off: 0x400, magic: "\xe2\xe1\xf5\xe0"},
	{kind: "udf", check: udf},
	{kind: "iso9660", off: 0x8001, magic: "CD001"},
	{kind: "f2fs", off: 0x400, magic: "\x10\x20\xf5\xf2"},
	{kind: "bcachefs", off: 4096 + 24, magic: "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"},
	{kind: "apfs", off: 0x20, magic: "NXSB"},
	{kind: "hfsplus", off: 0x400, magic: "H+\x00\x04"},
	{kind: "hfsplus", off: 0x400, magic: "HX\x00\x05"},
	{kind: "jfs", off: 0x8000, magic: "JFS1"},
	{kind: "reiserfs", off: 0x10034, magic: "ReIsEr"},
	{kind: "reiser4", off: 0x10000, magic: "ReIsEr4"},
	{kind: "ocfs2", off: 0x2000, magic: "OCFSV2"},
	{kind: "gfs2", off: 0x10000, magic: "\x01\x16\x19\x70\x00\x00\x00\x01"},
	{kind: "ufs", off: 0x10000 + 1372, magic: "\x19\x01\x54\x19"},
	{kind: "ufs", off: 0x2000 + 1372, magic: "\x54\x19\x01\x00"},
	{kind: "cramfs", magic: "\x45\x3d\xcd\x28"},
	{kind: "swap", check: swap, class: Swap},
	{kind: "zfs_member", check: zfs, class: Member},
	{kind: "vfat", check: fatParameters}, // the weakest, just before an MBR
}

// extNumbers adds to the two bytes of a magic what every superblock has: inodes,
// blocks, a size of blocks and a revision that are possible.
func extNumbers(p *probe) bool {
	b := p.at(0x400, 0x60)
	return b != nil && le.Uint32(b) != 0 && le.Uint32(b[4:]) != 0 && le.Uint32(b[0x18:]) <= 6 && le.Uint32(b[0x4c:]) <= 255
}

// lvm knows the label of a physical volume: in one of the first four sectors,
// which it names.
func lvm(p *probe) bool {
	for sector := range int64(4) {
		b := p.at(512*sector, 32)
		if b != nil && string(b[:8]) == "LABELONE" && string(b[24:]) == "LVM2 001" && le.Uint64(b[8:]) == uint64(sector) {
			return true
		}
	}
	return false
}

// udf looks for the descriptor of a UDF volume among those that begin an ISO
// 9660, too: where both are, the other one often says no more than that.
func udf(p *probe) bool {
	for sector := int64(16); sector < 32; sector++ {
		switch b := p.at(2048*sector+1, 5); string(b) {
		case "NSR02", "NSR03":
			return true
		case "BEA01", "CD001", "BOOT2", "CDW02":
		default:
			return false
		}
	}
	return false
}

// swap knows the end of the first page, of any size.
func swap(p *probe) bool {
	for page := int64(4096); page <= 65536; page *= 2 {
		for _, magic := range []string{"SWAPSPACE2", "SWAP-SPACE", "S1SUSPEND\x00", "LINHIB0001"} {
			if p.has(page-int64(len(magic)), magic) {
				return true
			}
		}
	}
	return false
}

// zfs knows the label at the start: in a ring of uberblocks, some that are used.
func zfs(p *probe) bool {
	const ring, size = 128 << 10, 1 << 10
	if !bytes.HasPrefix(p.at(16<<10, 4), []byte{1}) { // how the configuration is packed
		return false
	}
	b := p.at(ring, ring)
	for ; len(b) >= size; b = b[size:] {
		if magic := le.Uint64(b); magic == 0xbab10c || bits.ReverseBytes64(magic) == 0xbab10c {
			return true
		}
	}
	return false
}

// fatParameters knows the parameters in a boot sector, since its names for itself are only
// advice.
func fatParameters(p *probe) bool {
	b := p.at(0, 512)
	if b == nil || b[510] != 0x55 || b[511] != 0xaa || b[0] != 0xeb && b[0] != 0xe9 {
		return false
	}
	sector, cluster, reserved, tables, media := le.Uint16(b[11:]), b[13], le.Uint16(b[14:]), b[16], b[21]
	return sector >= 512 && sector <= 4096 && sector&(sector-1) == 0 && cluster != 0 && cluster&(cluster-1) == 0 &&
		reserved > 0 && (tables == 1 || tables == 2) && (media == 0xf0 || media >= 0xf8)
}
