// Package changer moves media with SCSI medium changers.
//
// # Elements
//
// READ ELEMENT STATUS is asked one kind of element at a time, 1000 at once:
// storage, import and export, drives with the labels of their media, drives with
// who they are, transports. The answer, big-endian: a head of 8 bytes, of which
// 5 to 7 count what follows; pages of one kind of element, with a head of 8
// bytes
//
//	0  1  kind: 1 transport, 2 storage, 3 import and export, 4 drive
//	1  1  bit 7: primary volume tags, 6: alternate ones
//	2  2  length of an element
//	5  3  length of what follows
//
// and elements:
//
//	0   2  address
//	2   1  bits: 0 full, 1 put in by a person, 2 something is wrong
//	4   2  what is wrong, as a sense says it
//	9   1  bit 7: the source is known
//	10  2  address of the slot from which the medium came
//	12     36 bytes for each kind of volume tag: 32 of text; then, for drives
//	       that were asked who they are: code set, kind, reserved, length, and
//	       the identification: a serial number alone, or vendor (8), product (16)
//	       and serial number
//
// # Changers differ
//
// Some send no tags where they say so, or more or less than they count, or know
// no transport, or cannot tell tags and identities in one answer, or refuse the
// latter altogether. What is missing is left empty; an answer in which the
// elements cannot be told apart is an error. Some look at two of the three bytes
// of the length that is allowed, so it is never more than they hold.
//
// # Waiting
//
// A changer that takes stock of its elements after being switched on says
// "becoming ready": this is waited for, 5 minutes. Moves may take long (45
// minutes), as robots try several times.
//
// What is in the elements may have changed after a unit attention: a move is
// then refused with tape.ErrChanged, until Status looked again.
//
// # Source
//
// SMC-3; proxmox-backup: pbs-tape/src/sg_pt_changer.rs for the habits of
// changers.
package changer
