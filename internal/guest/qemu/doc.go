// Package qemu backs up a running QEMU through its monitor (QMP): the way for
// guests that neither libvirt nor Proxmox VE looks after.
//
// # Two ways to make disks stand still
//
// Either way the guest writes on, what it overwrites is first copied into a
// scratch file, and the disk as it was at the point is read through QEMU's NBD
// server. Which way is open is asked from QEMU's schema:
//
//	Filter   copy-before-write filter under each device, read through snapshot-access
//	Job      blockdev-backup with sync=none into a scratch image
//
// With Filter a scratch file that is full or slow (45 s) breaks the point and
// never the guest's write, only what a bitmap lists is copied at all, and what is
// stored is trimmed from the scratch file at once. It needs QEMU 7.1 and devices
// whose drive can be exchanged; the guest stands still while the filters go in,
// for milliseconds: stop, filters, cont. It is the first choice.
//
// With Job everything is one transaction and the guest never stops. But before
// QEMU 10.1 a full scratch file fails the guest's write. There, all the space it
// can ever need is allocated before the point is taken; later QEMUs are told to
// break the point instead (on-cbw-error).
//
// # Sequence
//
//	sweep leftovers (below)
//	object-add              the state, see below
//	add-fd, blockdev-add    scratch files
//	nbd-server-start        on a socket that is handed over open
//	guest-fsfreeze-freeze   if there is an agent
//	Job:    transaction     bitmaps, blockdev-backup for all disks
//	Filter: stop, transaction (bitmaps), blockdev-add copy-before-write and
//	        qom-set drive for all disks, cont
//	guest-fsfreeze-thaw
//	Filter: blockdev-add snapshot-access
//	block-export-add        one export a disk
//	... reading ...
//	sweep, then the bitmaps of one side are removed
//
// # Bitmaps
//
// They have the granularity of a chunk, because with Filter nothing else can be
// read, and are persistent on qcow2 of version 3, where they survive the end of
// QEMU if it ends cleanly. A frozen copy of the base's bitmap, holdfast-inc, is
// what is read; the base's own goes on recording, so that a failed backup costs
// nothing. A bitmap that is inconsistent, disabled, busy or of another
// granularity is as good as missing.
//
// # What is left in QEMU, and by whom it is found
//
// Everything has a name that begins with holdfast-: nodes, jobs, exports, the
// bitmap copy. What has no name is written, before it is done, into the data of
// an object in QEMU itself, "holdfast-state": that the guest was stopped or
// frozen, that the NBD server is ours, which drive belongs to which device. So
// the state is where it is true: it ends with QEMU, and the next run finds it
// after this one died. Release and the start of the next run do the same sweep.
//
// Scratch files never have a name (O_TMPFILE), or lose it once QEMU has them
// open; they vanish with their last user. The NBD socket lies in a directory
// that only this user can enter and is removed as soon as the connections are
// made or the process ends in order; after a crash the next run removes it.
//
// # Errors
//
// [ErrBusy]: the NBD server of this QEMU is in use by someone else.
// [ErrScratch]: the limit for scratch files was reached. [ErrGone] is wrapped
// when QEMU went away under the backup; those of package qmp otherwise.
//
// # Source
//
// QEMU: qapi/block-core.json, qapi/block-export.json, block/copy-before-write.c,
// docs/interop/bitmaps.rst; sequences tried on 7.2.
package qemu
