// Package vm lists and fetches files of disk images in a small virtual machine,
// which has the images of one snapshot as disks and looks at them with a kernel of
// its own: what a stranger made never meets this host's.
//
// # Processes
//
//	command        a client of the machine: [Ensure] finds it, or has it started
//	supervisor     [Serve]: repository, NBD server, QEMU as a child, and a socket
//	QEMU           as an unprivileged user where root started it, in its seccomp
//	               sandbox, without network and without a disk that it could write
//	guest          package appliance/guest, and for each question a program of package inside
//
// QEMU gets disks and control channel as sockets it inherits: nothing of them has a
// name. What the guest writes to a disk, as the work of a journal, goes to a file
// without a name ([overlay]) and is gone with the machine. QEMU dies with the supervisor,
// whatever its end.
//
// # Calls
//
// HTTP/1.1 on a unix socket of the run directory, which belongs to its user alone. Each
// call has the machine's ticket in the header Authorization; without, nothing is
// answered but 401.
//
//	GET  /api2/json/status   [Status]; with keep-timeout=1 it does not count as use, with wait=1
//	                         the answer waits for the machine's start
//	GET  /api2/json/console  the last 64 KiB of the guest's console
//	POST /api2/json/stop     the machine ends, and its supervisor
//	POST /api2/json/OP       an operation of package inside: the call as JSON, its answer
//
// An answer of the guest is passed on as it comes. Where it ends without its own end, the
// trailer Holdfast-Error says why. At most 8 trees are fetched at a time; the next is
// refused with 503.
//
// # Run directory
//
// [RunDir] holds machines.json, the state map: for each name pid and start time of the
// supervisor, ticket, socket. It is replaced as a whole, under machines.lock. A supervisor is
// entered before its machine starts, and calls wait for that; HASH.boot is locked by who has a
// supervisor started. An entry
// whose process is gone is dropped when anybody looks; one that does not answer is
// killed, if the process is still the one of the entry.
//
// Names are those of systemd's units: "qemu_REPOSITORY:NAMESPACE/SNAPSHOT", escaped.
//
// # Life
//
// A machine that nobody used for [Options.Idle] ends. The supervisor asks it for a sign
// of life every 10 seconds, and ends it when there is none for a minute: callers hear
// of it. The guest has a watchdog of its own and turns its power off when nobody asks for
// 3 minutes. Where the host has not the memory for another machine, none is started.
//
// # What is believed
//
// Nothing that comes from the guest: answers are checked as those of a stranger.
// Listings are bounded ([MaxListing]); trees are package treewire's.
//
// # Errors
//
// As of package direct: fs.ErrNotExist, *fsread.UnsupportedError, filerestore.ErrPath;
// filerestore.ErrLocked and ErrPassphrase for encrypted volumes; what the machine said last where it died.
package vm

// MaxListing bounds the bytes of a listing that a machine may give.
const MaxListing = 512 << 20
