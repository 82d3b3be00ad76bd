package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

const (
	greeting    = "holdfast scsi 1\n"
	requestMark = "SCQ1"
	answerMark  = "SCA1"
	requestSize = 32
	answerSize  = 12
)

// Outcomes of a command.
const (
	outcomeAnswered = 0
	outcomeLost     = 1
	outcomeTimeout  = 2
)

// ErrProtocol is wrapped when the other end does not keep to the protocol.
var ErrProtocol = errors.New("the other end does not speak the protocol for SCSI commands")

var wire = binary.BigEndian

// appendRequest adds the header of a request.
func appendRequest(b []byte, c scsi.Command) []byte {
	b = append(b, requestMark...)
	b = append(b, byte(len(c.CDB)), byte(c.Dir), 0, 0)
	b = wire.AppendUint32(b, uint32(len(c.Data)))
	b = wire.AppendUint32(b, uint32(min(max(c.Timeout/time.Millisecond, 1), math.MaxUint32)))
	b = append(b, c.CDB...)
	return append(b, make([]byte, scsi.MaxCDB-len(c.CDB))...)
}

// parseRequest decodes the header of a request. The data has its length and
// nothing in it.
func parseRequest(b []byte) (c scsi.Command, length int, err error) {
	if len(b) < requestSize || string(b[:4]) != requestMark {
		return c, 0, fmt.Errorf("%w: no request", ErrProtocol)
	}
	n, size := int(b[4]), wire.Uint32(b[8:])
	if n < scsi.MinCDB || n > scsi.MaxCDB || size > scsi.MaxData {
		return c, 0, fmt.Errorf("%w: a CDB of %d bytes and %d bytes of data", ErrProtocol, n, size)
	}
	c = scsi.Command{
		CDB: append([]byte(nil), b[16:16+n]...), Dir: scsi.Direction(b[5]),
		Timeout: time.Duration(wire.Uint32(b[12:])) * time.Millisecond,
	}
	if err := c.Check(); err != nil || c.Dir == scsi.None && size > 0 {
		return c, 0, fmt.Errorf("%w: a wrong command: %w", ErrProtocol, err)
	}
	return c, int(size), nil
}

// answer is what comes back besides data.
type answer struct {
	outcome byte
	status  scsi.Status
	text    []byte // the sense, or why there is no answer
	moved   int
}

// answerOf puts what a unit returned into an answer.
func answerOf(n int, err error) answer {
	a := answer{moved: n}
	if t, ok := errors.AsType[*scsi.TransportError](err); ok {
		a.outcome, a.moved = outcomeLost, 0
		if t.Timeout {
			a.outcome = outcomeTimeout
		}
		if t.Err != nil {
			a.text = []byte(t.Err.Error())
		}
		a.text = a.text[:min(len(a.text), math.MaxUint8)]
		return a
	}
	a.status, a.text = target.Encode(err)
	return a
}

// err is what the answer says, to the client.
func (a answer) err(op scsi.Opcode) error {
	switch {
	case a.outcome != outcomeAnswered:
		return &scsi.TransportError{Op: op, Timeout: a.outcome == outcomeTimeout, Err: errors.New(string(a.text))}
	case a.status == scsi.Good:
		return nil
	case a.status != scsi.CheckCondition:
		return &scsi.StatusError{Op: op, Status: a.status}
	}
	s, err := scsi.ParseSense(op, a.text)
	if err != nil {
		return &scsi.TransportError{Op: op, Err: err}
	}
	return s
}

func appendAnswer(b []byte, a answer) []byte {
	b = append(b, answerMark...)
	b = append(b, a.outcome, byte(a.status), byte(len(a.text)), 0)
	b = wire.AppendUint32(b, uint32(a.moved))
	return append(b, a.text...)
}

// readAnswer reads an answer to a command with so many bytes of data, without
// the data itself.
func readAnswer(r io.Reader, length int) (answer, error) {
	var b [answerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return answer{}, err
	}
	if string(b[:4]) != answerMark || b[4] > outcomeTimeout {
		return answer{}, fmt.Errorf("%w: no answer", ErrProtocol)
	}
	moved := wire.Uint32(b[8:])
	if uint64(moved) > uint64(length) || b[4] != outcomeAnswered && moved > 0 {
		return answer{}, fmt.Errorf("%w: %d of %d bytes were moved", ErrProtocol, moved, length)
	}
	a := answer{outcome: b[4], status: scsi.Status(b[5]), text: make([]byte, b[6]), moved: int(moved)}
	_, err := io.ReadFull(r, a.text)
	return a, err
}
