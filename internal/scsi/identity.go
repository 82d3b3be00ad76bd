package scsi

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Timeouts of the commands that every device has.
const (
	quickTimeout = 30 * time.Second // commands that move nothing
	modeTimeout  = 60 * time.Second
)

// DeviceType is the kind of a logical unit.
type DeviceType uint8

const (
	TypeTape    DeviceType = 1
	TypeChanger DeviceType = 8
	TypeNone    DeviceType = 0x1f // no unit is there
)

func (t DeviceType) String() string {
	switch t {
	case 0:
		return "disk"
	case TypeTape:
		return "tape drive"
	case 5:
		return "optical drive"
	case TypeChanger:
		return "media changer"
	case 0xd:
		return "enclosure"
	case TypeNone:
		return "no device"
	}
	return fmt.Sprintf("device of type %#02x", uint8(t))
}

// Identity is what a unit says of itself (INQUIRY).
type Identity struct {
	Type                      DeviceType
	Vendor, Product, Revision string // without the blanks that fill them
}

// inquirySize is the part of the answer that every device has.
const inquirySize = 36

// Identify asks a unit what it is. No state of a device keeps it from
// answering.
func Identify(t Transport) (Identity, error) {
	var b [inquirySize]byte
	n, err := t.Do(Command{CDB: []byte{byte(Inquiry), 0, 0, 0, inquirySize, 0}, Dir: In, Data: b[:], Timeout: quickTimeout})
	if err != nil {
		return Identity{}, err
	}
	return ParseIdentity(b[:n])
}

// ParseIdentity decodes the standard answer to INQUIRY.
func ParseIdentity(b []byte) (Identity, error) {
	if len(b) < inquirySize {
		return Identity{}, fmt.Errorf("%s: the answer has %d bytes, %d are the least", Inquiry, len(b), inquirySize)
	}
	id := Identity{
		Type: DeviceType(b[0] & 0x1f), Vendor: Text(b[8:16]), Product: Text(b[16:32]), Revision: Text(b[32:36]),
	}
	if qualifier := b[0] >> 5; qualifier != 0 {
		id.Type = TypeNone // 1: nothing is connected, 3: nothing can be
	}
	return id, nil
}

// SerialNumber asks a unit for its serial number (VPD page 80h).
func SerialNumber(t Transport) (string, error) {
	var b [252]byte
	n, err := t.Do(Command{CDB: []byte{byte(Inquiry), 1, 0x80, 0, byte(len(b)), 0}, Dir: In, Data: b[:], Timeout: quickTimeout})
	if err != nil {
		return "", err
	}
	return ParseSerialNumber(b[:n])
}

// ParseSerialNumber decodes VPD page 80h.
func ParseSerialNumber(b []byte) (string, error) {
	if len(b) < 4 || b[1] != 0x80 {
		return "", errors.New("the device gave no page of its serial number")
	}
	return Text(b[4:min(len(b), 4+int(b[3]))]), nil
}

// Text is a field of ASCII, filled with blanks by the standard and with zeros
// by some; what cannot be printed becomes a question mark.
func Text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, string(b)))
}

// CheckReady asks a unit whether it would carry out commands that touch the
// medium (TEST UNIT READY).
func CheckReady(t Transport) error {
	_, err := t.Do(Command{CDB: make([]byte, 6), Timeout: quickTimeout})
	return err
}
