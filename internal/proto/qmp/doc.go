// Package qmp speaks the QEMU Machine Protocol with a running QEMU, over a unix
// socket ("-qmp unix:PATH,server=on,wait=off").
//
// # On the wire
//
// JSON objects one behind the other, UTF-8, usually a line each:
//
//	greeting  {"QMP": {"version": {"qemu": {"major","minor","micro"}, "package"}, "capabilities": [...]}}
//	command   {"execute": NAME, "arguments": {...}, "id": N}
//	success   {"return": VALUE, "id": N}
//	failure   {"error": {"class": WORD, "desc": TEXT}, "id": N}
//	event     {"event": NAME, "data": {...}, "timestamp": {"seconds", "microseconds"}}
//
// After the greeting only qmp_capabilities is taken, once. Events come at any
// time, also between a command and its answer. QEMU runs commands in the order
// in which they come. A socket serves one client; whoever connects besides
// waits for the greeting without a word, so that is bounded by a timeout.
//
// # Descriptors
//
// Getfd and add-fd take a file descriptor that comes as ancillary data with the
// first byte of the command.
//
// # What QEMU can do
//
// query-qmp-schema lists commands and all their arguments; [Schema] answers
// whether one is there. Versions say less: distributions port features back.
//
// # Errors
//
// A refused command is an [*Error] with QEMU's class and words. [ErrClosed] is
// wrapped when the connection ended, as it does when QEMU does; ErrProtocol when
// what came is not QMP; [ErrSilent] when there was no greeting.
//
// # Limits
//
// One message has at most 16 MiB; the largest known, the schema, has a quarter
// of one. A subscription keeps 64 events: who reads slower loses the later ones,
// and therefore asks for the state after each event rather than believe it.
//
// # Source
//
// QEMU: docs/interop/qmp-spec.rst, qapi/introspect.json.
package qmp
