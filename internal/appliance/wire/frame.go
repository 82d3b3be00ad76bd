package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes, see the package comment.
const (
	HeadSize   = 12
	MaxPayload = 64 << 10
	Window     = 256 << 10
	MaxStreams = 64
)

// ErrFormat is wrapped by errors about bytes that break the protocol.
var ErrFormat = errors.New("appliance protocol broken")

// Kind says what a frame is.
type Kind uint8

// The kinds of frames.
const (
	KindHello Kind = iota + 1
	KindOpen
	KindData
	KindEnd
	KindWindow
	KindResult
	KindCancel
)

// Channel is one of a stream's three byte streams.
type Channel uint8

// The channels: one to the guest, two from it.
const (
	In Channel = iota
	Out
	Err
	channels
)

// Frame is one message. Payload is valid until its owner reads the next one.
type Frame struct {
	Stream  uint32
	Kind    Kind
	Channel Channel
	Payload []byte
}

// Append adds the frame's bytes to b. The payload must fit [MaxPayload].
func (f Frame) Append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, uint32(len(f.Payload)))
	b = be.AppendUint32(b, f.Stream)
	b = append(b, byte(f.Kind), byte(f.Channel), 0, 0)
	return append(b, f.Payload...)
}

// Read reads one frame, its payload into buf, which must have room for
// [MaxPayload]. A session that ends between frames is [io.EOF].
func Read(r io.Reader, buf []byte) (Frame, error) {
	var h [HeadSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	f, n, err := parseHead(h)
	if err != nil {
		return Frame{}, err
	}
	f.Payload = buf[:n]
	if _, err := io.ReadFull(r, f.Payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return f, f.check()
}

func parseHead(h [HeadSize]byte) (f Frame, payload int, err error) {
	be := binary.BigEndian
	n := be.Uint32(h[0:])
	f = Frame{Stream: be.Uint32(h[4:]), Kind: Kind(h[8]), Channel: Channel(h[9])}
	switch {
	case n > MaxPayload:
		return Frame{}, 0, fmt.Errorf("%w: a frame of %d bytes, at most %d", ErrFormat, n, MaxPayload)
	case f.Kind < KindHello || f.Kind > KindCancel:
		return Frame{}, 0, fmt.Errorf("%w: frame of kind %d", ErrFormat, f.Kind)
	case f.Channel >= channels:
		return Frame{}, 0, fmt.Errorf("%w: channel %d", ErrFormat, f.Channel)
	case h[10] != 0 || h[11] != 0:
		return Frame{}, 0, fmt.Errorf("%w: reserved bytes %x", ErrFormat, h[10:])
	case (f.Stream == 0) != (f.Kind == KindHello):
		return Frame{}, 0, fmt.Errorf("%w: frame of kind %d on stream %d", ErrFormat, f.Kind, f.Stream)
	}
	return f, int(n), nil
}

// check holds the payload against the kind.
func (f Frame) check() error {
	n := len(f.Payload)
	switch f.Kind {
	case KindHello, KindOpen, KindResult:
		if n == 0 || f.Channel != 0 {
			return fmt.Errorf("%w: kind %d with %d bytes on channel %d", ErrFormat, f.Kind, n, f.Channel)
		}
	case KindData:
		if n == 0 {
			return fmt.Errorf("%w: empty data frame", ErrFormat)
		}
	case KindWindow:
		if n != 4 || binary.BigEndian.Uint32(f.Payload) == 0 || binary.BigEndian.Uint32(f.Payload) > Window {
			return fmt.Errorf("%w: window %x", ErrFormat, f.Payload)
		}
	case KindEnd, KindCancel:
		if n != 0 {
			return fmt.Errorf("%w: kind %d with %d bytes", ErrFormat, f.Kind, n)
		}
	}
	return nil
}
