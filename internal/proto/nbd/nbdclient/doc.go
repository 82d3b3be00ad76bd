// Package nbdclient reads and writes disks over the Network Block Device
// protocol: exports of QEMU, qemu-nbd, nbdkit and Holdfast itself as images for
// backup ([Open]) and as places to restore to ([OpenTarget]).
//
// # Handshake
//
// Fixed newstyle. STARTTLS comes first where the URI's scheme is nbds, and
// nothing else is sent if the server refuses it. Extended headers are asked
// for, then structured replies, then metadata contexts; whatever the server
// lacks is done without. GO, or EXPORT_NAME with servers that do not know GO.
// An oldstyle server is refused.
//
// # Requests
//
// A call is cut into pieces of [Options].RequestSize that are all in flight at
// the same time; every piece is aligned to the server's minimum block and not
// longer than its maximum. Reads that are not aligned read around, writes that
// are not read, change and write whole blocks. If the server promises that
// several connections see the same data (CAN_MULTI_CONN), calls are spread
// over [Options].Connections of them.
//
// # A connection that drops
//
// What changes nothing on the server (reading, status, caching, trimming) is
// repeated over a new connection, with growing pauses, until [Options].Patience
// is over. A server that then shows another size, other abilities or other
// contexts is refused with [ErrChanged]. What a [Target] does is not repeated:
// a server that went away may have lost what it had acknowledged.
//
// A connection with requests on which nothing arrives for [Options].Timeout is
// dropped. A server that breaks the protocol is not asked again: the error
// wraps [ErrProtocol].
//
// # What is believed
//
// A read succeeds only if the replies covered every byte of it exactly once.
// Of a status reply the extents must be at least a byte long and begin inside
// the request; what they say beyond the end of the disk is cut off. The server
// is otherwise believed: a range that it calls zero is not read.
//
// # Errors
//
// A request that the server refuses is an [*nbd.Error], which also is the
// system's error of that name: errors.Is(err, syscall.EIO). [ErrProtocol],
// [ErrChanged] and [ErrTimeout] are wrapped as said above. When the context
// that an image was opened with ends, its cause is returned from every call.
//
// # Memory
//
// Data goes from the socket to the caller's buffer; pieces that are not aligned
// go through a buffer of at most RequestSize each. Beside that a connection
// takes 32 KiB. Of the extents of a disk at most 4 × 16384 runs are kept for
// each context, 16 bytes each, and as many again while a reply is read.
package nbdclient
