// Package socket carries commands to a unit in another process, through a
// stream such as a Unix socket: a drive of a virtual tape library can then be
// used by several programs.
//
// # Protocol
//
// Integers are big-endian. The server says "holdfast scsi 1\n" to whoever
// connects. Then the client sends requests, one at a time:
//
//	offset  size  field
//	0       4     "SCQ1"
//	4       1     length of the CDB, 6 to 16
//	5       1     direction of the data: 0 none, 1 from the device, 2 to it
//	6       2     zero
//	8       4     length of the data, or of the room for it
//	12      4     timeout in milliseconds
//	16      16    CDB, filled up with zeros
//	32      ...   data to the device
//
// and gets an answer to each:
//
//	0       4     "SCA1"
//	4       1     outcome: 0 answered, 1 no answer, 2 no answer in its time
//	5       1     status
//	6       1     length of the sense
//	7       1     zero
//	8       4     bytes that were moved
//	12      ...   sense, then for direction 1 the bytes that were moved
//
// With an outcome other than 0 the sense is a text that says why. A request
// that breaks these rules ends the connection.
//
// # Errors
//
// Those of package scsi. Whatever happens to the connection, or a timeout, is a
// TransportError, and the transport has to be opened again: the answer to one
// command must not be taken for that to the next.
//
// # Memory
//
// The data of one command at each end, which can be scsi.MaxData; 64
// connections at a time.
package socket
