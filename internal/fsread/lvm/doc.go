// Package lvm reads LVM2: which physical volumes images are, which volume groups
// they make, and their logical volumes as images.
//
// # Layout
//
// One of the first four sectors of a physical volume is its label: "LABELONE",
// its own number (8), a checksum of what follows (4), the place of the head of the
// volume in it (4), "LVM2 001". The head: a UUID (32 characters), the size (8), two
// lists of areas, each an offset and a size (8 and 8) with zeros behind the last
// one: of data, and of metadata.
//
// A metadata area begins with a sector: a checksum (4), a magic (16), version 1 (4),
// its own offset and size (8 and 8), and the place of the text: offset from the
// start of the area and size (8 and 8), checksum (4), flags (4). The text is the
// whole volume group, and goes on behind the first sector where the area ends.
// Checksums are CRC-32 with another start value. Integers are little-endian.
//
// The text has sections with braces, numbers, strings and lists; sizes are in
// sectors of 512 bytes or in extents. Of the texts of a group the one with the
// greatest number (seqno) counts, as for LVM; physical volumes may have none.
//
// # What is understood
//
// Linear and striped volumes, on physical volumes and on other logical ones;
// RAID 0; RAID 1 and mirrors, read from the first leg that is whole; RAID 4, 5, 6 and 10
// as package md reads them, also without a leg; thin volumes and their snapshots; zero
// and error segments. Thin volumes with an origin outside of the pool, caches, other
// snapshots, VDO and integrity are refused by their name, and so is an origin into which a
// snapshot is being merged.
//
// # Errors
//
// Besides those of fsread: [*MissingError], physical volumes that no image holds.
//
// # Memory
//
// The texts of the groups, at most [maxText] each, and about as much again for
// what they say.
//
// # Source
//
// lvm2: the manual pages lvm and vgcfgbackup, and volumes made with it. Linux: the
// documentation of dm-raid, dm-thin and persistent-data.
package lvm
