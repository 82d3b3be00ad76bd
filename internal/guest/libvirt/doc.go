// Package libvirt backs up and restores domains of libvirt's QEMU driver. It is
// a backend of package guest, and the way back.
//
// # A running domain
//
// A point is a backup job in pull mode: libvirt lets QEMU copy what the guest
// overwrites into scratch files first, and export the disks as they were over
// NBD, on a socket of ours. Its checkpoint is one bitmap a disk, of the same
// name, in the disk's qcow2 file:
//
//	backup job       <domainbackup mode='pull'>, one a domain at a time
//	socket           Options.RunDir/<owner>-<uuid>/nbd, one export a disk, named as its target
//	scratch          Options.ScratchDir/holdfast-<owner>-<uuid>-<target>.qcow2
//	checkpoint       the name of the bitmap that package guest chose
//	bitmap           exported as "changed"
//
// Everything that a domain can have works, also disks on the network. The file
// systems in the guest are frozen for that moment if its agent is connected.
//
// Older QEMUs end, with the guest, when a client leaves an export of a disk that
// an I/O thread serves; such disks are refused then ([ErrThread]). In any case
// the job is ended first, and the connections are closed afterwards.
//
// # A domain that is shut down
//
// Its files are read directly, and QEMU's locks keep it from being started
// meanwhile. Bitmaps in qcow2 files are read from there, made and removed by
// qemu-img; libvirt hears of a bitmap that was made so in the next point of the
// running domain. Other sources than files and block devices are refused.
//
// # Drift
//
// A bitmap is used only if libvirt vouches for it (REDEFINE_VALIDATE): it is in
// the top image of the disk's chain, has no gap below, records, and was closed
// properly. Otherwise its disk is read in whole, which stores what changed all
// the same, and the others are not. Checkpoints that libvirt has lost, as with
// a transient domain, are redefined from the name that the snapshot remembers.
// Checkpoints of others are left alone, and do no harm.
//
// # Space
//
// QEMU fails the guest's write when the scratch file cannot take what was there
// before. So the space is watched, five times a second: when less than
// Options.Reserve is left, the job is aborted, and the point is broken
// ([ErrScratch]).
//
// # What a run leaves that dies
//
// The job, which libvirt keeps, with its scratch files; the socket's directory;
// a checkpoint. A lock on a file beside the directory tells whether the run
// lives. The next Begin for the same group takes all that away. A job of
// somebody else is aborted only with Options.AbortJob.
//
// # What is stored beside the disks
//
//	guest.json       see [Description]
//	domain.xml       the definition, as for the next start, with its secrets
//	nvram.fd         variables of UEFI
//	loader.fd        the firmware itself, so that another host can start the domain
//	kernel, initrd   if the domain starts a kernel directly
//	tpm.tar          the state of an emulated TPM
//
// A file above 16 MiB, the limit of small files, is stored as a disk image.
//
// # Restoring
//
// [Conn.Restore] writes the disks, then the small files, and defines the domain
// last, so it does not exist before it is complete. [Conn.RestoreLive] starts it
// at once: each disk is a new qcow2 file with an export of the snapshot behind it,
// and QEMU copies from there whatever the guest has not written itself. Until
// that is done the domain is transient, so that nobody starts it without the
// export, and a file with the state lies in LiveOptions.StateDir:
// [Conn.ResumeLive] goes on after a crash of whatever side.
//
//	crash of             what happens                                  to go on
//	this program         guest's reads wait, for Patience; then it is   resume
//	                     stopped, and goes on when the export is back
//	QEMU, the host       the files hold all that the guest flushed      resume: the
//	                                                                    guest starts again
//
// A guest that is shut down meanwhile gets the rest of its disks nevertheless.
//
// # Errors
//
// See [ErrNoDomain] and those beside it. Calls to libvirt are not interrupted
// when a context ends: they are short, and libvirt gives up a domain that is
// busy after 30 s.
//
// # Source
//
// libvirt: docs/formatbackup.rst, docs/formatcheckpoint.rst,
// src/qemu/qemu_backup.c, qemu_checkpoint.c; QEMU: docs/interop/bitmaps.rst.
package libvirt
