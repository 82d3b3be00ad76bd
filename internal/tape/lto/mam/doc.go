// Package mam decodes and makes the attributes of a cartridge's memory chip
// (medium auxiliary memory).
//
// # Layout
//
// READ ATTRIBUTE answers with the length of what follows, 4 bytes, big-endian,
// and then attributes; WRITE ATTRIBUTE takes the same:
//
//	0  2  id
//	2  1  bit 7: hosts cannot write it; 1..0: 0 binary, 1 ASCII, 2 text
//	3  2  length of the value; 0 deletes the attribute
//	5     the value
//
// The length in front counts: some drives send all there was room for.
//
// [Attributes] lists what the standard names. An id that it does not name is
// skipped, as is one of another length than it should have; that is told.
//
// # Source
//
// SPC-4, 7.4; names are those of the standard, as PBS shows them.
package mam
