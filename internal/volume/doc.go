// Package volume makes a raw block device remember which disk image it was filled
// from. A header in sector 0 says so (package volumeheader); the rest, the payload,
// is what a guest sees, as a device of its own made with device-mapper. So a
// persistent disk is written once and used again, and a restore writes only what
// differs.
//
// # A volume's life
//
//	Ensure   compares the header with a digest and writes one of version 1 if it differs
//	Fill     makes the payload an image of a snapshot, if it is not one already
//	Map      gives the payload a name below /dev/mapper
//	Verify   compares the payload with the snapshot
//	List, Unmap
//
// Whoever uses Ensure alone writes the payload, and answers for what a crash leaves
// there: the header says it holds the image before it does.
//
// # Fill
//
//	1  header: state filling, with the digest of what comes; synced
//	2  the payload: only blocks that differ are written
//	3  the payload is synced
//	4  header: state complete; synced
//
// Wherever it stops, the header says filling, or is that of before 1 over a payload
// that is not touched. A sector is written whole or not; one that is neither the
// old nor the new reads as no header, and the next Fill starts from there. Fill after
// a crash is Fill again: it looks at every block, so what was written already is
// not written twice.
//
// A writable Map makes the state used first, so that no Fill trusts what a guest may
// have changed. Fill leaves a used volume alone that was filled with the same image
// (it is a guest's disk), unless it is told to bring the image back.
//
// # Locks and meetings
//
// Every operation but List holds flock on the device's node, which also keeps udev
// from probing it meanwhile. Who changes anything claims the device besides (O_EXCL):
// the kernel refuses that while it is mounted, mapped or part of something.
//
//	Ensure, Ensure   one waits for the other, and then finds its header
//	Ensure, mapped   a header that matches is read; one that does not is a *BusyError
//	Fill, any        the other one waits [Options.Wait], then it is a *BusyError
//	Map, Unmap       one waits for the other
//
// The kernel caches a device and what device-mapper puts on top of it separately.
// So who claims a device drops its cache first: nothing that a guest wrote through
// the mapping is compared, or written back, as it was before.
//
// # Errors
//
// [*TooSmallError], [*BusyError], [ErrReadOnly], [ErrFilling]; [volumeheader.ErrNone] for
// a device that is no volume, [*volumeheader.VersionError] for one of a later version,
// which is never changed. Missing devices and missing rights wrap fs.ErrNotExist and
// fs.ErrPermission.
//
// # Memory
//
// That of package restore; Verify has two chunks for each worker.
//
// # Source
//
// Mirantis/virtlet: pkg/blockdev, pkg/libvirttools/persistentroot_volumesource.go. It
// looks at the version last, and overwrites headers of later ones; here it comes first.
package volume
