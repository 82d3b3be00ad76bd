// Package provider is what a virtualisation platform calls to have its guests
// backed up and restored: the backup-provider interface of Proxmox VE as calls
// of one [Service] over a [Storage]. The platform freezes the guest, keeps the
// point in time readable, and calls; the service moves the data.
//
// # Calls and their order
//
// Names and arguments are those of Proxmox VE. A job:
//
//	job_init
//	for each guest:
//	    backup_init                      gives the archive's name
//	    VM         backup_get_mechanism, backup_vm_query_incremental, backup_vm
//	    container  backup_get_mechanism, backup_container_prepare, backup_container
//	    storage_update_attribute         notes, protected
//	    storage_prune
//	    backup_cleanup success=1         gives the archive's size
//	    backup_handle_log_file
//	  after any failure:
//	    backup_cleanup success=0, backup_handle_log_file
//	job_cleanup
//
// A restore:
//
//	restore_get_mechanism, archive_get_guest_config, archive_get_firewall_config
//	VM         restore_vm_init, for each disk restore_vm_volume_init and
//	           restore_vm_volume_cleanup, restore_vm_cleanup
//	container  restore_container_init, restore_container_cleanup
//
// The storage_ calls and archive_get_ calls need no job and may come at any time.
//
// # What survives what
//
//   - An archive is complete when backup_vm or backup_container returns, and not
//     before. The platform advances a dirty bitmap as soon as backup_vm returned,
//     whatever happens afterwards, so nothing that comes later can take an archive
//     back: backup_cleanup with success=0 after that says in the log that
//     the archive stays.
//   - backup_cleanup may come without backup_init, without a kind of guest, twice,
//     with success=1 and then success=0: each is answered, and does what is left
//     to do. It ends calls of that guest that still run, and waits for them.
//   - When the caller goes away (its end of the connection closes), everything
//     that runs is aborted and everything open is released.
//   - backup_handle_log_file never fails: what goes wrong is in the log.
//   - restore_vm_cleanup releases what restore_vm_volume_init opened and nobody
//     closed; both cleanups may be repeated.
//   - A killed service leaves no archive, only what [Storage.Prepare] removes, and
//     mounts, which [SweepScratch] removes.
//
// # When a bitmap may be used
//
// The platform has one dirty bitmap for each storage and disk, without a name of
// ours, which lives as long as the process of the machine. It says what changed
// since some backup_vm of that process returned. That it was the one that made
// the newest archive is known from a note, kept in a directory that does not
// survive a reboot either ([Notebook]): the process (its number and the time it
// started), the archive, and whether another was being completed. backup_vm
// writes both names before it completes an archive, and one afterwards. So a
// crash in between, a machine that was away on another host, and an archive that
// was removed all lead to a full read, never to a backup that lacks changes.
//
// "use" is answered for a disk only if the note names the running process and the
// newest archive of the guest, and [Storage.Reusable] agrees. In backup_vm only the
// mode "reuse" is incremental; it fails if the note does not agree any more.
//
// # Mechanisms
//
//	nbd           an export on a unix socket for each disk: read over several
//	              connections; with a bitmap its dirty regions, otherwise all of it;
//	              what is stored is trimmed, in whole granules of 4 MiB
//	file-handle   a file for each disk, by its path or descriptor, and its dirty
//	              regions; what is stored is punched out. "block-device" is the same
//	              over a device, trimmed only where the caller says so
//	directory     a container's tree, walked by a process with the container's rights
//	              that this one talks to ([RunWalker], [Walkers])
//	qemu-img      restore: one read-only file for each disk, through FUSE
//	tar, directory restore of a container
//
// The bandwidth limit of a call is one bucket for all disks of it.
//
// # Wire form (face 1)
//
// Version 1. Both sides send objects of JSON, one a line of at most 64 MiB, over
// standard input and output or a unix socket. The service begins:
//
//	{"holdfast-provider":1,"version":"…","calls":["job_init",…]}
//
// Then the caller, with an id of any kind, and answers in any order:
//
//	→ {"id":1,"call":"backup_init","args":{"vmid":100,"vmtype":"qemu","start-time":1700000000}}
//	← {"log":{"level":"info","message":"…"},"id":1}
//	← {"id":1,"result":{"archive-name":"vm/100/2023-11-14T22:13:20Z"}}
//	← {"id":1,"error":{"kind":"not-found","message":"…"}}
//
// Levels are info, warn and err. Kinds of errors: usage (unknown call, wrong
// argument), not-found, protected, needed, corrupt, cancelled, failed. Unknown
// arguments are refused, unknown keys of answers are to be ignored: later
// versions add some. {"id":2,"call":"cancel","args":{"id":1}} ends a call.
//
// # Errors
//
// [ErrUsage], [ErrBase], [ErrAborted], those of a [Storage], and what the system
// says. A walker shows the service's errors as [RemoteError].
//
// # Memory
//
// That of one backup in the storage; the longest line of a caller; of dirty regions
// 16 bytes each, and 2 MiB for granules that are consumed in part. A walk holds a
// frame of at most 8 MiB.
//
// # Source
//
// pve-storage: src/PVE/BackupProvider/Plugin/Base.pm; pve-manager: PVE/VZDump.pm;
// qemu-server: src/PVE/VZDump/QemuServer.pm; pve-container: src/PVE/VZDump/LXC.pm.
package provider
