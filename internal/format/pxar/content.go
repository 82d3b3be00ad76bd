package pxar

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// maxCopy is how much of a file is read at a time, 4 MiB as in the existing
// client.
const maxCopy = 4 << 20

// Content says how a file's content differed from the size that was announced.
type Content struct {
	Missing int64 // bytes that did not come; zeros stand in the archive
	Grew    bool  // more came; it was left out
	Err     error // why bytes are missing, nil if the file just ended
}

// AddFile adds a file of e.Size bytes with what r yields. A reader that is
// short, long or broken is not an error: the archive holds exactly e.Size
// bytes, and the Content says what happened. Growth is noticed where it costs
// nothing: when one read yields more than was announced.
func (w *Writer) AddFile(e *Entry, r io.Reader) (Content, error) {
	if err := w.beginFile(e); err != nil {
		return Content{}, err
	}
	c, err := w.copyContent(e.Size, r)
	if err != nil {
		return c, err
	}
	return c, w.endFile(e)
}

// AddBytes adds a file with the content b; it sets e.Size.
func (w *Writer) AddBytes(e *Entry, b []byte) error {
	e.Size = int64(len(b))
	if err := w.beginFile(e); err != nil {
		return err
	}
	for len(b) > 0 {
		n := min(len(b), maxCopy)
		if err := w.data(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return w.endFile(e)
}

// AddReference adds a file of e.Size bytes whose PAYLOAD item is at e.Payload
// in the payload stream: not before PayloadPosition, behind all former
// references, and brought there by [Writer.Advance] before the next file with
// content.
func (w *Writer) AddReference(e *Entry) error {
	switch {
	case w.err != nil:
		return w.err
	case w.version != 2 || e.Kind != File:
		return fmt.Errorf("%w: %s as a reference in version %d", ErrInvalid, e, w.version)
	case e.Payload < w.payload || e.Payload <= w.lastRef:
		return fmt.Errorf("%w: %s refers to offset %d of the payload stream, which has %d bytes, and the reference before is to %d",
			ErrInvalid, e, e.Payload, w.payload, w.lastRef)
	case e.Payload > math.MaxInt64/4:
		return fmt.Errorf("%w: %s refers to offset %d of the payload stream", ErrInvalid, e, e.Payload)
	}
	if err := w.entry(e); err != nil {
		return err
	}
	w.reference(e)
	return w.end(e, 0)
}

// Advance counts n bytes that were put into the payload stream by other means,
// as chunks of a former archive.
func (w *Writer) Advance(n int64) error {
	if w.version != 2 || !w.started || n < 0 || n > math.MaxInt64/4-w.payload {
		return fmt.Errorf("%w: %d bytes more in the payload stream, which has %d", ErrInvalid, n, w.payload)
	}
	w.payload += n
	return nil
}

// injected makes sure that what was referred to has come.
func (w *Writer) injected() error {
	if w.err == nil && w.refEnd > w.payload {
		w.err = fmt.Errorf("payload stream: references promise %d bytes, it has %d", w.refEnd, w.payload)
	}
	return w.err
}

func (w *Writer) beginFile(e *Entry) error {
	if e.Kind != File {
		return fmt.Errorf("%w: %s with content", ErrInvalid, e)
	}
	if w.version == 2 {
		if err := w.injected(); err != nil {
			return err
		}
		if w.payload > math.MaxInt64/4 {
			return fmt.Errorf("%w: the payload stream has %d bytes", ErrInvalid, w.payload)
		}
	}
	if err := w.entry(e); err != nil {
		return err
	}
	if w.version == 1 {
		w.out = AppendHeader(w.out, TypePayload, uint64(e.Size))
		e.Body = w.Position()
		return nil
	}
	e.Payload = w.payload
	w.reference(e)
	return w.payloadItem(TypePayload, e.Size)
}

// reference writes a PAYLOAD_REF.
func (w *Writer) reference(e *Entry) {
	w.out = appendNumbers(w.out, TypePayloadRef, uint64(e.Payload), uint64(e.Size))
	w.lastRef, w.refEnd = e.Payload, e.Payload+HeaderSize+e.Size
	e.Body = w.Position()
}

func (w *Writer) endFile(e *Entry) error {
	if w.version == 1 {
		return w.end(e, 0)
	}
	return w.end(e, e.Size) // the quirk: content counts, though it lies elsewhere
}

// payloadItem writes the header of an item to the payload stream.
func (w *Writer) payloadItem(t Type, n int64) error {
	if w.err == nil {
		w.head = AppendHeader(w.head[:0], t, uint64(n))
		w.err = writeAll(w.o.Payload, w.head, "write payload")
		if t != TypePayloadStart { // counted from the beginning
			w.payload += HeaderSize
		}
	}
	return w.err
}

// data writes a piece of content to where contents go.
func (w *Writer) data(b []byte) error {
	switch {
	case w.err != nil:
	case w.version == 1:
		w.write(b)
	default:
		w.err = writeAll(w.o.Payload, b, "write payload")
		w.payload += int64(len(b))
	}
	return w.err
}

func (w *Writer) copyContent(left int64, r io.Reader) (c Content, err error) {
	for left > 0 {
		buf := w.copyBuffer(left)
		want := int(min(left, maxCopy))
		n := want
		if c.Err == nil && c.Missing == 0 {
			n, c.Err = io.ReadAtLeast(r, buf, want)
			c.Grew = n > want
			n = min(n, want)
			if errors.Is(c.Err, io.EOF) || errors.Is(c.Err, io.ErrUnexpectedEOF) {
				c.Err = nil
			}
		} else {
			clear(buf[:want])
		}
		if n > 0 {
			if err := w.data(buf[:n]); err != nil {
				return c, err
			}
		}
		left -= int64(n)
		if n < want {
			c.Missing = left
		}
	}
	return c, nil
}

// copyBuffer has room for left bytes and one more, that growth shows, but for
// no more than maxCopy.
func (w *Writer) copyBuffer(left int64) []byte {
	n := int(min(left+1, maxCopy))
	if n > len(w.copy) {
		size := 64 << 10
		for size < n {
			size *= 2
		}
		w.copy = make([]byte, size)
	}
	return w.copy[:n]
}
