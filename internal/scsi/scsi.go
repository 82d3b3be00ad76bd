package scsi

import (
	"errors"
	"fmt"
)

// Transport carries commands to one logical unit, one at a time in the order
// of the calls; it may be used by several goroutines. A running command cannot
// be cancelled: only its timeout bounds it.
type Transport interface {
	// Do sends one command and waits for its end. n is the number of valid
	// bytes of c.Data that were moved; it counts with a *Sense too. The errors
	// are those of the package comment.
	Do(c Command) (n int, err error)
	// Close waits for the running command and lets go of the unit.
	Close() error
}

// Status is the status byte of the SCSI architecture model.
type Status uint8

const (
	Good                Status = 0x00
	CheckCondition      Status = 0x02
	Busy                Status = 0x08
	ReservationConflict Status = 0x18
	TaskSetFull         Status = 0x28
	ACAActive           Status = 0x30
	TaskAborted         Status = 0x40
)

// String is the name of the status in the standard.
func (s Status) String() string {
	switch s {
	case Good:
		return "good"
	case CheckCondition:
		return "check condition"
	case Busy:
		return "busy"
	case ReservationConflict:
		return "reservation conflict"
	case TaskSetFull:
		return "task set full"
	case ACAActive:
		return "ACA active"
	case TaskAborted:
		return "task aborted"
	}
	return fmt.Sprintf("status %#02x", uint8(s))
}

// StatusError is a device that refused a command without a sense.
type StatusError struct {
	Op     Opcode
	Status Status
}

func (e *StatusError) Error() string {
	switch e.Status {
	case ReservationConflict:
		return fmt.Sprintf("%s: another host has reserved the device", e.Op)
	case Busy, TaskSetFull:
		return fmt.Sprintf("%s: the device is busy with other commands", e.Op)
	}
	return fmt.Sprintf("%s: the device answered with %s", e.Op, e.Status)
}

// TransportError is a command of which nobody knows what the device did.
type TransportError struct {
	Op      Opcode
	Timeout bool  // it did not end in its time
	Err     error // what the transport knows
}

func (e *TransportError) Error() string {
	if e.Timeout {
		return fmt.Sprintf("%s did not end in its time, what the device did is not known: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s did not reach the device or its answer got lost: %v", e.Op, e.Err)
}

func (e *TransportError) Unwrap() error { return e.Err }

// WithOp has an error of this package name the command that it came of, where
// its maker could not know. What is none of them becomes a TransportError.
func WithOp(err error, op Opcode) error {
	if err == nil {
		return nil
	}
	if s, ok := errors.AsType[*Sense](err); ok {
		named := *s
		named.Op = op
		return &named
	}
	if s, ok := errors.AsType[*StatusError](err); ok {
		return &StatusError{op, s.Status}
	}
	if t, ok := errors.AsType[*TransportError](err); ok {
		return &TransportError{op, t.Timeout, t.Err}
	}
	return &TransportError{Op: op, Err: err}
}
