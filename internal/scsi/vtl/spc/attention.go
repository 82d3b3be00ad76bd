package spc

import (
	"slices"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Codes of unit attentions.
const (
	MediumChanged = 0x2800
	ImportExport  = 0x2801 // an import or export element was opened
	PowerOn       = 0x2900
	ModeChanged   = 0x2a01
)

// Attentions are what a unit has to tell before it does anything else. Each is
// told once.
type Attentions struct{ codes []uint16 }

// Add notes an attention; the same is told once. Power on includes what was
// before.
func (a *Attentions) Add(code uint16) {
	if code == PowerOn {
		a.codes = nil
	}
	if !slices.Contains(a.codes, code) {
		a.codes = append(a.codes, code)
	}
}

// Next is the sense of the next attention, or nil.
func (a *Attentions) Next() *scsi.Sense {
	if len(a.codes) == 0 {
		return nil
	}
	code := a.codes[0]
	a.codes = a.codes[1:]
	return Sense(scsi.UnitAttention, code)
}

// Quiet reports whether a command is carried out although an attention waits.
func Quiet(op scsi.Opcode) bool {
	return op == scsi.Inquiry || op == scsi.ReportLUNs || op == scsi.RequestSense
}

// RequestSense answers REQUEST SENSE.
func RequestSense(cdb, in []byte, s *scsi.Sense, a Answers) (int, error) {
	if cdb[1]&0x01 != 0 { // descriptor format
		return 0, BadField()
	}
	if s == nil {
		s = &scsi.Sense{}
	}
	return a.Put(in, s.Append(nil), int(cdb[4])), nil
}
