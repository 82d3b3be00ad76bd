package treewire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Writer makes a stream. Its user keeps to the order that the package comment
// gives; the errors are those of the writer below.
type Writer struct {
	w      io.Writer
	number int64
}

// NewWriter writes to w, a frame at a time: w is best a buffer.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Entry begins an entry and returns its number.
func (w *Writer) Entry(e *pxar.Entry) (int64, error) {
	w.number++
	out := Entry{
		Name: []byte(e.Name), Kind: e.Kind, Metadata: e.Metadata, Size: e.Size,
		Target: []byte(e.Target), Device: e.Device, Number: w.number, Link: e.Link,
	}
	out.Metadata.Xattrs = nil
	for _, x := range e.Xattrs {
		out.Attrs = append(out.Attrs, Attr{[]byte(x.Name), x.Value})
	}
	return w.number, w.json(frameEntry, out)
}

// Write adds content to the current file.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), maxData)
		if err := w.frame(frameData, p[:k]); err != nil {
			return n, err
		}
		n, p = n+k, p[k:]
	}
	return n, nil
}

// Zeros adds n zeros to the current file.
func (w *Writer) Zeros(n int64) error {
	return w.frame(frameZeros, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// EndFile ends the current file's content. An error says why it is not all.
func (w *Writer) EndFile(why error) error { return w.frame(frameEndFile, text(why)) }

// Problem says that something is left out.
func (w *Writer) Problem(path string, why error) error {
	return w.json(frameProblem, Problem{[]byte(path), string(text(why))})
}

// Notice tells people something.
func (w *Writer) Notice(s string) error { return w.frame(frameNotice, []byte(s[:min(len(s), 4096)])) }

// End ends the stream.
func (w *Writer) End(why error) error { return w.frame(frameEnd, text(why)) }

func (w *Writer) json(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.frame(kind, b)
}

func (w *Writer) frame(kind byte, payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("an entry of %d bytes is too large to be sent", len(payload))
	}
	var head [frameHead]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	if _, err := w.w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.w.Write(payload)
	return err
}

// text is an error as a payload, of a length that always fits.
func text(err error) []byte {
	if err == nil {
		return nil
	}
	b := []byte(err.Error())
	return b[:min(len(b), 4096)]
}
