// Package guest backs up running guests: what QEMU, libvirt and the backup
// provider have in common, once the way to the guest is left out.
//
// # A consistent point
//
// A [Backend] knows one guest. Its Begin makes all disks of the guest stand
// still at one moment, for the reader; the guest itself runs on. What comes back
// is a [Point]: disks as images, small files with the configuration, and a
// Release that takes everything down again. Intact says whether the point still
// held when the last byte had been read. A backend never lets the guest wait
// for the reader or fail for want of scratch space: the point breaks instead,
// and the backup with it.
//
// # What is stored
//
// Every disk becomes the archive NAME.img.fidx, with NAME as the backend has
// it ("drive-scsi0"), every small file NAME.blob. What a disk's image calls
// [image.Zero] is stored as zeros without being read: that is how a range
// becomes zero that the guest discarded after the last backup. What it calls
// [image.Unchanged] takes its digests from the previous snapshot; a chunk that
// is dirty in part is read in whole. So a backend that cannot read the clean
// rest of such a chunk needs a bitmap whose granularity is the chunk size or a
// multiple.
//
// # Bitmaps
//
// A dirty bitmap tells what may have changed since it was begun. It helps only
// if the snapshot that it was begun with is the one that digests are taken from.
// That is sure by name: every point begins bitmaps with a new name,
//
//	holdfast-<owner>-<time>-<token>
//
// where owner is 16 hex digits that stand for repository, namespace and group,
// time is that of the snapshot in seconds, and token 8 random hex digits.
// The name goes into the manifest of the snapshot (see [Mark]), and the next
// backup asks for exactly that bitmap. Bitmaps of other repositories and of
// others who use the guest are never touched; those of the same owner that
// are neither the base nor begun by this point are leftovers.
//
// The bitmap of the previous snapshot stays until the new one is finished, also
// when all is read this time.
//
//	outcome                    the base's bitmap   the new bitmap
//	snapshot is finished       removed             stays
//	failed or interrupted      stays as it was     removed
//	died after the snapshot    leftover            is the base of the next
//	died before the snapshot   is the base         leftover
//
// For each disk the report says what happened, in the words of Proxmox VE:
//
//	none                no bitmap was used and none was begun
//	new                 all was read; a bitmap was begun
//	reuse               only what is dirty was read
//	missing-recreated   as new, but a bitmap had been expected: it was gone,
//	                    inconsistent, or of another size
//
// # Which snapshot is the base
//
// The newest finished one of the group whose last verification did not fail,
// as the session says, so nobody can finish another in between. Its mark must
// name a bitmap of this owner whose time is that of the snapshot: the mark
// itself is not signed, the time is. And the archive must be usable
// ([backup.Reusable]): the same size, chunk size and key.
//
// # The mark
//
// A value in the unprotected part of the manifest, under the key
// "holdfast-guest":
//
//	{"version": 1, "disks": {"drive-scsi0.img.fidx": {"bitmap": "holdfast-…"}}}
//
// Marks of other versions, and anything that is not what it should be, count as
// no mark: then everything is read.
//
// # Order, and what a crash leaves
//
// The session begins; the base is chosen; the point is taken; all is stored;
// Intact; the snapshot is finished; Release. A crash of this program leaves what
// the backend has in the guest, and its next Begin removes that. A snapshot that
// was finished although the answer got lost is released as not finished: its
// bitmap is removed then, and the next backup reads everything.
//
// # Memory
//
// That of one writer of package backup; disks are stored one after the other.
package guest
