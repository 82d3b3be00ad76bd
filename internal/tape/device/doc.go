// Package device opens the drives and changers that are configured, and puts them
// together as jobs use them.
//
// # What a path can be
//
//	/dev/sg0, /dev/tape/by-id/…   the node of a device
//	serial:S                      the connected device with this serial number
//	a socket                      a unit that another process emulates (scsi/socket)
//	DIR/drive0, DIR/changer       a unit of the virtual library in DIR (scsi/vtl),
//	                              whether somebody serves it or not
//
// and for a drive of type virtual a directory in the form of PBS's (tape/dirdrive).
// A virtual library that nobody serves is opened with its first unit and closed
// with the [Opener]; a second process is told that it is busy.
//
// # Locks
//
// A drive is locked as long as its station is open, also while a changer moves its
// media, or as long as an [LTO] is: by the path that is configured, as PBS does it,
// and by its node, so that it has one user whatever each calls it. Emulated drives
// are locked the same way.
//
// # Errors
//
// config.ErrNotFound for what is not configured, tape.ErrBusy for what somebody
// else uses, and those of the drivers.
package device
