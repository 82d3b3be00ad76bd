package qmp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Errors that callers tell apart.
var (
	ErrProtocol = errors.New("not the QEMU machine protocol")
	ErrClosed   = errors.New("the connection to QEMU's monitor has ended")
	ErrSilent   = errors.New("QEMU's monitor does not answer: is somebody else connected to it?")
)

// Error is a command that QEMU refused.
type Error struct {
	Command string `json:"-"`
	Class   string `json:"class"` // "GenericError", "CommandNotFound", "DeviceNotFound", ...
	Desc    string `json:"desc"`
}

func (e *Error) Error() string { return fmt.Sprintf("QEMU: %s: %s", e.Command, e.Desc) }

// Version is that of QEMU.
type Version struct {
	Major, Minor, Micro int
	Package             string // of the distribution; may be empty
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// Event is something that happened in QEMU.
type Event struct {
	Name string
	Data json.RawMessage // an object; nil when there is none
}

// Message is what comes from QEMU. Exactly one of the pointers is set, or
// Return.
type Message struct {
	Greeting *Version
	Event    *Event
	Return   json.RawMessage
	Error    *Error
	ID       *uint64 // of the command that Return and Error answer
}

// ParseMessage reads one JSON object. Its errors wrap ErrProtocol.
func ParseMessage(b []byte) (Message, error) {
	var raw struct {
		QMP *struct {
			Version struct {
				QEMU    struct{ Major, Minor, Micro int }
				Package string
			}
		}
		Event  *string
		Data   json.RawMessage
		Return json.RawMessage
		Error  *Error
		ID     *uint64
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	m := Message{Return: raw.Return, Error: raw.Error, ID: raw.ID}
	kinds := 0
	if raw.QMP != nil {
		v := raw.QMP.Version
		m.Greeting = &Version{Major: v.QEMU.Major, Minor: v.QEMU.Minor, Micro: v.QEMU.Micro, Package: v.Package}
		kinds++
	}
	if raw.Event != nil {
		m.Event = &Event{*raw.Event, raw.Data}
		kinds++
	}
	if raw.Return != nil {
		kinds++
	}
	if raw.Error != nil {
		kinds++
	}
	if kinds != 1 {
		return Message{}, fmt.Errorf("%w: a message that is neither greeting, event, success nor failure, or more than one: %.200q", ErrProtocol, b)
	}
	return m, nil
}

// MaxMessage is the most bytes of one message.
const MaxMessage = 16 << 20

// Decoder reads messages from a stream.
type Decoder struct {
	in  io.LimitedReader
	dec *json.Decoder
}

// NewDecoder reads from r.
func NewDecoder(r io.Reader) *Decoder {
	d := &Decoder{in: io.LimitedReader{R: r}}
	d.dec = json.NewDecoder(&d.in)
	return d
}

// Next reads a whole JSON value, on one line or on many. At the end of the
// stream it returns io.EOF.
func (d *Decoder) Next() (json.RawMessage, error) {
	d.in.N = MaxMessage
	var raw json.RawMessage
	err := d.dec.Decode(&raw)
	switch {
	case err == nil:
		return raw, nil
	case d.in.N <= 0:
		return nil, fmt.Errorf("%w: a message of more than %d bytes", ErrProtocol, MaxMessage)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, io.EOF
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil, err
}
