package upgrade

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2/hpack"
)

// slashes reads what a client sends and puts a slash before paths that have none,
// as "fixed_index?…". HTTP/2 wants one and net/http insists. The existing server
// takes them if it was built with a release of its HTTP library before 1.5, so
// that there are clients without. The first request of a connection decides: if it
// has a slash, or is in any way unusual, nothing is looked at any more.
type slashes struct {
	r     io.Reader
	out   []byte // to be given out before anything else
	left  int    // bytes that go through after that
	begun bool   // the preface is through
	raw   bool   // all goes through
	dec   *hpack.Decoder
	enc   *hpack.Encoder
	block bytes.Buffer // what enc writes
}

// Frames of HTTP/2.
const (
	preface         = 24
	frameHeader     = 9
	frameHeaders    = 1 // types
	frameContinue   = 9
	flagEndStream   = 0x01
	flagEndHeaders  = 0x04
	flagPadded      = 0x08
	flagPriority    = 0x20
	maxHeaders      = 64 << 10
	headerTableSize = 4096 // as net/http announces it
)

// Read implements [io.Reader].
func (s *slashes) Read(p []byte) (int, error) {
	for len(s.out) == 0 && s.left == 0 && !s.raw {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	switch {
	case len(s.out) > 0:
		n := copy(p, s.out)
		s.out = s.out[n:]
		return n, nil
	case s.raw:
		return s.r.Read(p)
	}
	n, err := s.r.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// through reports that everything goes through from now on.
func (s *slashes) through() bool { return s.raw && len(s.out) == 0 }

// next looks at the next frame.
func (s *slashes) next() error {
	if !s.begun {
		s.begun, s.left = true, preface
		return nil
	}
	head := make([]byte, frameHeader)
	if _, err := io.ReadFull(s.r, head); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return err
	}
	size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	typ, flags := head[3], head[4]
	if typ != frameHeaders && typ != frameContinue {
		s.out, s.left = head, size
		return nil
	}
	if typ == frameContinue || flags&flagEndHeaders == 0 || size > maxHeaders {
		if s.dec != nil {
			return errors.New("a header in several frames, by a client whose paths have no slash")
		}
		s.out, s.raw = head, true
		return nil
	}
	frame := append(head, make([]byte, size)...)
	if _, err := io.ReadFull(s.r, frame[frameHeader:]); err != nil {
		return fmt.Errorf("a header that is cut short: %w", err)
	}
	return s.headers(frame)
}

// headers gives out a HEADERS frame, with a slash if it is to get one.
func (s *slashes) headers(frame []byte) error {
	first := s.dec == nil
	if first {
		s.dec = hpack.NewDecoder(headerTableSize, nil)
		s.enc = hpack.NewEncoder(&s.block)
		s.enc.SetMaxDynamicTableSize(0)
	}
	fields, err := s.decode(frame)
	if first && (err != nil || !lacksSlash(fields)) {
		s.out, s.raw = frame, true
		return nil
	}
	if err != nil {
		return err
	}
	s.block.Reset()
	for _, f := range fields {
		if f.Name == ":path" && lacksSlash([]hpack.HeaderField{f}) {
			f.Value = "/" + f.Value
		}
		if err := s.enc.WriteField(f); err != nil {
			return err
		}
	}
	n := s.block.Len()
	s.out = append([]byte{byte(n >> 16), byte(n >> 8), byte(n), frameHeaders, frame[4] & (flagEndStream | flagEndHeaders)}, frame[5:frameHeader]...)
	s.out = append(s.out, s.block.Bytes()...)
	return nil
}

// decode returns the fields of a HEADERS frame.
func (s *slashes) decode(frame []byte) ([]hpack.HeaderField, error) {
	flags, b := frame[4], frame[frameHeader:]
	pad, skip := 0, 0
	if flags&flagPadded != 0 && len(b) > 0 {
		pad, skip = int(b[0]), 1
	}
	if flags&flagPriority != 0 {
		skip += 5
	}
	if skip+pad > len(b) {
		return nil, errors.New("a header with more padding than bytes")
	}
	fields, err := s.dec.DecodeFull(b[skip : len(b)-pad])
	if err != nil {
		return nil, fmt.Errorf("a header that cannot be decoded: %w", err)
	}
	return fields, nil
}

func lacksSlash(fields []hpack.HeaderField) bool {
	for _, f := range fields {
		if f.Name == ":path" {
			return f.Value != "" && f.Value[0] != '/' && f.Value != "*"
		}
	}
	return false
}
