package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

var errVarint = fmt.Errorf("%w: a number is too long", ErrFormat)

// AppendSigned appends v as a signed varint; unsigned ones are those of
// [binary.AppendUvarint].
func AppendSigned(dst []byte, v int64) []byte {
	if v >= 0 {
		return binary.AppendUvarint(dst, uint64(v))
	}
	dst = binary.AppendUvarint(dst, -uint64(v))
	dst[len(dst)-1] |= 0x80
	return append(dst, 0)
}

// ReadUnsigned reads an unsigned varint. An end of the input within it is
// [io.ErrUnexpectedEOF].
func ReadUnsigned(r io.ByteReader) (uint64, error) {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		b, err := readByte(r, shift)
		if err != nil {
			return 0, err
		}
		if v, err = add(v, b, shift); err != nil || b < 0x80 {
			return v, err
		}
	}
}

// ReadSigned reads a signed varint, see [ReadUnsigned].
func ReadSigned(r io.ByteReader) (int64, error) {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		b, err := readByte(r, shift)
		if err != nil {
			return 0, err
		}
		if b == 0 { // the end of a negative number
			if v > -math.MinInt64 {
				return 0, errVarint
			}
			return -int64(v), nil
		}
		if v, err = add(v, b, shift); err != nil {
			return 0, err
		}
		if b < 0x80 {
			if v > math.MaxInt64 {
				return 0, errVarint
			}
			return int64(v), nil
		}
	}
}

// add puts 7 more bits into v, which has shift of them.
func add(v uint64, b byte, shift uint) (uint64, error) {
	low := uint64(b & 0x7f)
	if shift > 63 || shift == 63 && low > 1 {
		return 0, errVarint
	}
	return v | low<<shift, nil
}

func readByte(r io.ByteReader, shift uint) (byte, error) {
	b, err := r.ReadByte()
	if shift > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// varintSize returns the length of an unsigned varint in bytes.
func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
