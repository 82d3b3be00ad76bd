// Package scsi sends commands to SCSI devices and understands what they answer.
//
// A Transport carries command descriptor blocks (CDBs) to one logical unit:
// a device node of Linux (scsi/sg), an emulated unit in this process
// (scsi/vtl), a unit behind a socket (scsi/socket). What a command means is
// the business of its caller; this package knows senses and how a device is
// found.
//
// # Errors
//
// Four things can become of a command, and they stay apart:
//
//   - It ended well: n bytes, no error.
//   - The device had something to say: a *Sense, with n still valid. A sense
//     is not always a failure: at the early warning of a tape the data was
//     written, at a filemark the position is known.
//   - The device refused without words: a *StatusError (busy, reservation
//     conflict).
//   - Nobody knows what the device did: a *TransportError (time-out, reset,
//     no connection, a failing system call). The command may have been
//     carried out in full, in part or not at all, and may still run; the
//     position of a tape is unknown.
//
// A command is never repeated by a transport: a repeated WRITE is a duplicated
// block.
package scsi
