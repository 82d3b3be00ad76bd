// Package tcmu makes real device nodes of emulated units: /dev/sgN, and
// /dev/stN or /dev/schN where those drivers are loaded. Programs that know
// nothing of this one then use a virtual tape library as if it were hardware.
//
// # How
//
// Linux has a SCSI target in the kernel. Its backend target_core_user (TCMU)
// hands commands to a process through a ring in shared memory, announced by a
// UIO device; its fabric tcm_loop is a host adapter of this same machine. Both
// are set up in configfs:
//
//	target/core/user_N/NAME.I       a backend for unit I
//	target/loopback/naa.HASH/tpgt_1 the host adapter's target; LUN I is unit I
//
// N is the first free number, HASH comes from the name. Modules must be loaded
// and configfs be mounted ([Prepare]), all of which takes root. The kernel answers REPORT LUNS and reservations itself;
// everything else, INQUIRY too, reaches the unit.
//
// # The ring
//
// All integers are the machine's. A mailbox:
//
//	offset  size  field
//	0       2     version, 2
//	2       2     flags: 2 answers may say how much was read
//	4       4     offset of the ring in the memory
//	8       4     size of the ring
//	12      4     head: where the kernel writes next
//	64      4     tail: up to where commands are answered
//
// An entry of the ring, which never wraps around its end:
//
//	0   4   length, a multiple of 8, and in the lowest 3 bits: 0 padding,
//	        1 command, 2 task management
//	4   2   number
//	7   1   flags of the answer: 1 operation not known, 2 length of what was read given
//	8   4   request: number of pieces       answer: 1 status
//	12  4   ...                             length of what was read
//	16  96  ...                             sense
//	24  8   request: offset of the CDB in the memory
//	48  16  request: for each piece 8 offset in the memory, 8 length
//
// The answer overwrites the request. Then the tail goes on and 4 bytes are
// written to the UIO device; 4 bytes read from it say that there may be more.
// Nothing in an entry tells the direction of the data: the opcode does.
//
// # Limits
//
// An answer without a byte of data cannot say that it has none: for the host,
// all bytes then count as read. A unit that plays a device that does not
// answer gets the status TASK ABORTED. A command that takes an hour is given
// up by the kernel.
//
// If this process dies without [Attached.Close], the nodes stay, and who uses
// them waits; [Remove] takes them away.
//
// Source: Documentation/target/tcmu-design.rst and
// include/uapi/linux/target_core_user.h of Linux 6.1.
package tcmu
