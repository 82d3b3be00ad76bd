package tapefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
)

// Sizes in bytes.
const (
	HeaderSize = 48       // of a file's header without its JSON
	MaxJSON    = 64 << 10 // in it
)

const (
	offContent = 8
	offUUID    = 16
	offCtime   = 32
	offJSON    = 40 // its length
	offPart    = 44
)

// headerMagic is the same in all files.
var headerMagic = [8]byte{0x63, 0xee, 0x14, 0x9f, 0xcd, 0xf2, 0x9b, 0x0c}

// Header is what every tape file begins with.
type Header struct {
	Content Content
	UUID    uuid.UUID // of the content
	Ctime   int64     // when it was written
	Part    uint8
	JSON    []byte // what the content says of itself
}

// Append encodes the header with its JSON.
func (h Header) Append(dst []byte) ([]byte, error) {
	magic, ok := h.Content.magic()
	if !ok {
		return dst, fmt.Errorf("%w: it has no magic", ErrFormat)
	}
	if len(h.JSON) == 0 || len(h.JSON) > MaxJSON {
		return dst, fmt.Errorf("%w: %s of %d bytes, not 1 to %d", ErrFormat, h.Content, len(h.JSON), MaxJSON)
	}
	dst = append(append(append(dst, headerMagic[:]...), magic[:]...), h.UUID[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.Ctime))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h.JSON)))
	dst = append(dst, h.Part, 0, 0, 0)
	return append(dst, h.JSON...), nil
}

// ReadHeader reads the header from the start of a file's content, and no byte
// behind it.
func ReadHeader(r io.Reader) (Header, error) {
	var b [HeaderSize]byte
	if err := readFull(r, b[:]); err != nil {
		return Header{}, fmt.Errorf("header of a tape file: %w", err)
	}
	if [8]byte(b[:]) != headerMagic {
		return Header{}, fmt.Errorf("%w: a tape file begins with %x", ErrFormat, b[:8])
	}
	c, err := contentOf([8]byte(b[offContent:]))
	if err != nil {
		return Header{}, err
	}
	n := binary.LittleEndian.Uint32(b[offJSON:])
	if n == 0 || n > MaxJSON {
		return Header{}, fmt.Errorf("%w: %s with %d bytes of JSON", ErrFormat, c, n)
	}
	h := Header{
		Content: c,
		UUID:    uuid.UUID(b[offUUID:offCtime]),
		Ctime:   int64(binary.LittleEndian.Uint64(b[offCtime:])),
		Part:    b[offPart],
		JSON:    make([]byte, n),
	}
	if err := readFull(r, h.JSON); err != nil {
		return Header{}, fmt.Errorf("header of a %s: %w", c, err)
	}
	return h, nil
}

// readFull fills b. A file that ends before is damaged; everything else is the
// reader's own error.
func readFull(r io.Reader, b []byte) error {
	n, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends after %d of %d bytes", ErrFormat, n, len(b))
	}
	return err
}
