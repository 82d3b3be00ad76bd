// Package spc is what the emulated drive and the emulated changer have in common:
// the primary commands of SCSI (SPC) and the frames around mode pages and log pages.
//
// Everything here turns values into the bytes of an answer, or the bytes of a command
// into values. What a command may not say is an illegal request.
package spc

import "github.com/holdfast-backup/holdfast/internal/scsi"

// Sense is a sense with a key and a code such as 0x2400.
func Sense(k scsi.Key, code uint16) *scsi.Sense {
	return &scsi.Sense{Key: k, ASC: uint8(code >> 8), ASCQ: uint8(code)}
}

// The refusals that every unit gives.
func BadOpcode() error    { return Sense(scsi.IllegalRequest, 0x2000) } // it does not know the command
func BadField() error     { return Sense(scsi.IllegalRequest, 0x2400) } // a field of the CDB
func BadParameter() error { return Sense(scsi.IllegalRequest, 0x2600) } // a field of the data that came with it
func BadLength() error    { return Sense(scsi.IllegalRequest, 0x1a00) } // how much data came with it
func NoSaved() error      { return Sense(scsi.IllegalRequest, 0x3900) } // values are not saved

// CDBSize is the length of a CDB by its first byte; 0 if it has none of the
// lengths of the standard.
func CDBSize(op scsi.Opcode) int {
	switch op >> 5 {
	case 0:
		return 6
	case 1, 2:
		return 10
	case 4:
		return 16
	case 5:
		return 12
	}
	return 0
}

// Answers is how a unit hands out what it has to say.
type Answers struct {
	// Padded answers have the length that the host had room for, with zeros at
	// the end, as some drives give them.
	Padded bool
}

// Put copies an answer into in, as much as the CDB allows, and returns the
// number of bytes.
func (a Answers) Put(in, answer []byte, allowed int) int {
	room := in[:min(len(in), max(allowed, 0))]
	n := copy(room, answer)
	if a.Padded {
		clear(room[n:])
		n = len(room)
	}
	return n
}
