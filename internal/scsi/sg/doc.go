// Package sg carries commands to real devices through the generic SCSI nodes
// of Linux, /dev/sgN.
//
// # The node
//
// Only a node of the driver sg (major 21) will do, opened for reading and
// writing: then every command is allowed to whoever may open it, also those
// that set keys, without a capability. Nodes of the tape driver (/dev/nst0,
// major 9) want CAP_SYS_RAWIO; an sg node that is open for reading only lets
// through little more than INQUIRY. Devices of one group (Debian: tape) are
// given to users by that group.
//
// # No command is sent twice
//
// The ioctl SG_IO waits so that a signal ends the wait: the kernel then lets
// the running command go and, as Go installs its handlers with SA_RESTART,
// starts the ioctl from the beginning. The command is issued again while its
// first copy is still at work, and the caller sees one success: a duplicated
// block. Blocking all signals of the thread prevents this for handlers, but
// nothing blocks SIGSTOP (or Ctrl-Z that another thread took), a debugger or
// the freezer of a control group, which restart the ioctl all the same.
//
// So a command goes out by write(2), which does not wait, and its answer is
// taken by read(2), which may be interrupted and repeated as often as one
// likes: both of struct sg_io_hdr, version 3. The kernel refuses this pair
// (EPERM) on a descriptor that was opened by another user or before an exec;
// there, and where it has no write, it is SG_IO with all signals blocked, on a
// thread that does nothing else meanwhile.
//
// # Memory
//
// Header, CDB and sense lie in a page outside the Go heap that belongs to the
// device. Data goes to and from the caller's slice, which is pinned for the
// command; the kernel copies it to buffers of its own, 256 KiB of which are
// kept for the descriptor so that none are allocated for each block.
//
// # Errors
//
// Those of package scsi. Which answer counts when there are several: the
// system call's, then the host adapter's, then the device's.
//
// Source: include/scsi/sg.h and drivers/scsi/sg.c of Linux.
package sg
