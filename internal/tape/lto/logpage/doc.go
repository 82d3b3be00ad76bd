// Package logpage decodes the log pages of tape drives that are of use.
//
// # Layout
//
// LOG SENSE gives a page, big-endian:
//
//	0  1  bits 5..0 page, 6 with a subpage, 7 not the values asked for
//	1  1  subpage
//	2  2  length of what follows
//
// then parameters: code (2), control (1), length (1), and the value. The length
// of the page counts, not what came: some drives send all there was room for.
//
//	11h  status of the transport: parameter 0000h, 4 bytes, the third of
//	     which is the activity
//	12h  TapeAlert response: parameter 0000h, 8 bytes, flag 1 is the top bit
//	17h  volume statistics, see [ParseVolume]
//	2Eh  TapeAlert: 64 parameters of 1 byte, whose code is the number of the flag
//
// Bytes that are no such page are an error; unknown parameters are skipped.
//
// # Source
//
// SPC-4, 7.3; SSC-4, 8.3; ADC-3, 6.1 for page 11h.
package logpage
