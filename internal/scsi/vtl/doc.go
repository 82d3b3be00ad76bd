// Package vtl is a virtual tape library: drives, slots, an import and export
// station and cartridges, in a directory. It serves disks that are to be used as
// tapes, try-outs, and the tests of the tape driver.
//
// # Files
//
//	library.json           what the library is made of: [Config]
//	state.json             which cartridge is where
//	lock                   locked by the process that has the library open
//	cartridges/NAME/       a cartridge: package cartridge
//
// A cartridge that is in no place of state.json lies on a shelf, outside of the
// library. One that is too damaged to be opened lies there too. Files are replaced as a whole; a cartridge is made under a name that
// begins with a dot, and renamed.
//
// # Several processes
//
// One process has a library open; a second one gets an error wrapping
// vfs.ErrLocked. Programs that are to use it at a time use it through sockets:
// the process that has it open serves its [Library.Units].
//
// # Rooms
//
// cartridge keeps a medium, drive and changer are the units, spc is what both have in
// common, fault makes units fail.
package vtl
