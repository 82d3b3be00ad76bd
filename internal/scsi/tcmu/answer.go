package tcmu

import (
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

// server carries the commands of a ring to a unit, one after another.
type server struct {
	ring *ring
	unit target.Unit
	buf  []byte // data that lies in several pieces
}

// drain answers all requests there are. kick is called after each.
func (s *server) drain(kick func() error) error {
	for {
		req, err := s.ring.next()
		if req == nil || err != nil {
			return err
		}
		switch req.op {
		case opCommand:
			s.answer(req)
		case opPad, opManagement:
		default:
			req.entry[entryFlags] |= entryUnknown
		}
		s.ring.advance(req)
		if err := kick(); err != nil {
			return err
		}
	}
}

// answer has the unit carry out a command.
func (s *server) answer(req *request) {
	c := scsi.Command{CDB: req.cdb, Data: s.data(req)}
	switch {
	case len(c.Data) == 0:
	case takesData(scsi.OpcodeOf(req.cdb)):
		c.Dir = scsi.Out
		if len(req.pieces) > 1 {
			at := 0
			for _, p := range req.pieces {
				at += copy(c.Data[at:], p)
			}
		}
	default:
		c.Dir = scsi.In
		clear(c.Data) // what a unit leaves is not what another command had
	}
	n, err := target.Run(s.unit, c)
	if c.Dir == scsi.In && len(req.pieces) > 1 {
		rest := c.Data[:n]
		for _, p := range req.pieces {
			rest = rest[copy(p, rest):]
		}
	}
	s.reply(req.entry, c.Dir, n, err)
}

// data is room for the data of a request: its own, or of all pieces together.
func (s *server) data(req *request) []byte {
	if len(req.pieces) == 1 {
		return req.pieces[0]
	}
	if len(s.buf) < req.length {
		s.buf = make([]byte, req.length)
	}
	return s.buf[:req.length]
}

// reply writes the answer over the request.
func (s *server) reply(entry []byte, dir scsi.Direction, n int, err error) {
	clear(entry[headSize:answerSize])
	status, sense := target.Encode(err)
	entry[entryStatus] = byte(status)
	copy(entry[entrySense:answerSize], sense)
	if s.ring.readLen && dir == scsi.In {
		entry[entryFlags] |= entryHasRead
		native.PutUint32(entry[entryReadLen:], uint32(n))
	}
}

// takesData reports whether the data of a command goes to the device: SPC-5,
// SSC-5 and SMC-3, table of operation codes.
func takesData(op scsi.Opcode) bool {
	switch op {
	case scsi.Write6, scsi.ModeSelect6, scsi.ModeSelect10, scsi.LogSelect, scsi.WriteAttribute, scsi.SecurityProtocolOut,
		0x16,       // RESERVE(6)
		0x18,       // COPY
		0x1d,       // SEND DIAGNOSTIC
		0x3b,       // WRITE BUFFER
		0x5f,       // PERSISTENT RESERVE OUT
		0x83,       // EXTENDED COPY
		0x8a,       // WRITE(16)
		0x8f,       // VERIFY(16)
		0x13, 0xa4, // VERIFY(6), MAINTENANCE OUT
		0xa9, 0xb6: // SERVICE ACTION OUT(12), SEND VOLUME TAG
		return true
	case scsi.FormatMedium:
		return true
	}
	return false
}
