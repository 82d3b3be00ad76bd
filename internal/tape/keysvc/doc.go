// Package keysvc lets a program that may not read tape keys have them put into
// drives: it hands its open drive to a service that may.
//
// # The service
//
// Sending a key to a drive takes no privilege, only reading the file of keys
// does. So the service is a small process with the rights to that file and to
// nothing else, which opens no device: it uses the descriptor of the one who
// asks, and the key never leaves it. The program holdfast-tape-key is it
// ([Main]), started by the service manager for each connection.
//
// Before the first command the service makes sure that
//
//   - the peer (SO_PEERCRED) is root or a user whom it was told to serve,
//   - exactly one descriptor came, a node of the generic SCSI driver (major 21)
//     that is open for reading and writing,
//   - behind it is a tape drive (INQUIRY).
//
// Afterwards it makes sure that the drive does what it was told.
//
// # Protocol
//
// A Unix stream socket. The client sends one line of JSON, with its first byte
// the descriptor (SCM_RIGHTS):
//
//	{"op":"set","fingerprint":"0e:ab:...","media-set":"9da37a55-..."}
//	{"op":"clear"}
//
// and gets one line, after which the connection ends:
//
//	{"Ok":null}
//	{"Err":"what went wrong","kind":"not-found"}
//
// kind is not-found (there is no such key), unsupported (the drive cannot),
// denied (the peer may not ask), or "".
//
// # The command of PBS
//
// [Main] also has the arguments and the answer of PBS's sg-tape-cmd:
//
//	encryption [--fingerprint F --uuid U] --stdin|--device PATH
//
// sets the key of a media set, or clears it, in the drive that is standard
// input or PATH, and prints {"Ok": null} or {"Err": "..."} as sg-tape-cmd does.
//
// Source: SSC-4, 8.5; proxmox-backup: src/bin/sg-tape-cmd.rs.
package keysvc
