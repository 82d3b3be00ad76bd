// Package drivecrypt tells LTO drives to encrypt: AES-256-GCM in the drive,
// with a key that is in it only while it is used.
//
// # Protocol
//
// SECURITY PROTOCOL IN (a2) and OUT (b5) with protocol 20h; SSC-4, 8.5. All
// integers are big-endian.
//
// Capabilities, IN page 0010h: a head of 20 bytes, of which 2 to 3 count what
// follows byte 4; then one descriptor an algorithm:
//
//	0   1  index of the algorithm
//	2   2  length of what follows, 20
//	4   1  bits 3..2 decryption, 1..0 encryption: 2 is by hardware
//	10  2  length of a key
//	20  4  algorithm, 00010014h is AES-256-GCM
//
// Set, OUT page 0010h:
//
//	0   2  0010h
//	2   2  length of what follows
//	4   1  scope, 40h: whoever uses the drive
//	6   1  encryption: 0 off, 2 on
//	7   1  decryption: 0 off, 3 on, and plain blocks are read as well
//	8   1  index of the algorithm
//	18  2  length of the key, 0 to switch off
//	20     the key
//
// State, IN page 0020h: bytes 5 and 6 as 6 and 7 above, 7 the index.
// Next block, IN page 0021h: byte 12, low half: 3 plain, 5 encrypted with the
// present key, 6 encrypted otherwise.
//
// # Errors
//
// ErrUnsupported of package tape is wrapped when a drive knows no such commands
// or does not do that algorithm, or when the library decides. A drive that
// afterwards says that it does something else than it was told is an error.
package drivecrypt
