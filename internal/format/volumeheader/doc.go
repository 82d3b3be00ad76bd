// Package volumeheader reads and writes sector 0 of a volume: a raw block device
// that remembers which disk image it was filled from. What follows the header is
// the payload, which a guest sees as its disk.
//
// # Layout
//
// One sector of 512 bytes, integers big-endian.
//
//	offset  size  field
//	0       8     magic 26 3d be 52 ba 57 67 02
//	8       2     version: 1, the payload begins at byte 512; 2, where the record says
//	10      32    hash of the image; zero while the volume is being filled
//	42      6     zero
//	48      8     magic of the record, 9c 08 32 6b ab 75 18 ef
//	56      2     version of the record, 2
//	58      1     state: 1 filling, 2 complete, 3 used
//	59      5     zero
//	64      8     size of the image in bytes
//	72      8     where the payload begins, in bytes: a multiple of 512
//	80      8     time of the last change, signed, seconds since 1970-01-01 UTC
//	88      32    digest of the image: of one in a snapshot, the checksum of its index
//	120           three texts, each 2 bytes of length and then UTF-8: repository,
//	              snapshot (its path in the repository) and archive
//	              zero
//	508     4     CRC-32C of the bytes 0 to 507
//
// # Version 1
//
// Virtlet's header is the first 42 bytes, and the rest of the sector is whatever
// was there. Its programs work with our headers of version 1: they find magic,
// hash and payload where they expect them. While a volume is being filled the hash
// is zero, which no image has, so that they take it for filled with something
// else. When they write a header themselves, the CRC does not fit any more: our
// record is void then, and what they wrote holds.
//
// A payload at another place than byte 512 gives version 2, which they refuse.
//
// # Names
//
// The texts are for people, and to find the snapshot again; the digest is what
// identifies the image. Texts that do not fit are empty: the repository first, then
// all. They are empty as well for an image that is from no snapshot.
//
// # States
//
//	filling   the payload is a mixture: it is being written, or that was interrupted
//	complete  the payload is the image
//	used      the payload was the image; a guest may have written to it since
//
// A header without a record promises less: version 1 writes it before the payload.
//
// # Errors
//
// Parse wraps [ErrNone] for bytes that are no header of a volume, and [ErrFormat]
// for a damaged one; what a later version of this format wrote is a
// [*VersionError]. Nothing may be written over the latter.
//
// # Source
//
// Mirantis/virtlet: pkg/blockdev/blockdev.go, for the first 42 bytes.
package volumeheader
