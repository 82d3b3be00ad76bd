package scsi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Key is the sense key: the kind of what a device says.
type Key uint8

const (
	NoSense        Key = 0x0
	Recovered      Key = 0x1
	NotReady       Key = 0x2
	MediumError    Key = 0x3
	HardwareError  Key = 0x4
	IllegalRequest Key = 0x5
	UnitAttention  Key = 0x6
	DataProtect    Key = 0x7
	BlankCheck     Key = 0x8
	VendorSpecific Key = 0x9
	CopyAborted    Key = 0xa
	AbortedCommand Key = 0xb
	VolumeOverflow Key = 0xd
	Miscompare     Key = 0xe
)

// Sense is what a device has to say of a command (SPC, 4.5). It is an error;
// whether it is a failure is for the caller to decide.
type Sense struct {
	Op       Opcode // the command that it was the answer to
	Key      Key
	ASC      uint8 // additional sense code
	ASCQ     uint8 // and its qualifier
	Deferred bool  // it belongs to an earlier command, whose data was taken and then lost

	Filemark bool // FILEMARK: a filemark was met
	EOM      bool // EOM: the end of the medium is near, or its beginning was met
	ILI      bool // the block has another length than was asked for

	// Info is the INFORMATION field, where Valid: for READ and SPACE what was
	// asked for minus what was done.
	Info  int64
	Valid bool
}

// Code is the additional sense code with its qualifier, as 0x3a00.
func (s *Sense) Code() uint16 { return uint16(s.ASC)<<8 | uint16(s.ASCQ) }

// Says reports whether the sense has this key and code.
func (s *Sense) Says(k Key, code uint16) bool { return s.Key == k && s.Code() == code }

// AsSense is the sense in err, if there is one.
func AsSense(err error) (*Sense, bool) { return errors.AsType[*Sense](err) }

// Lengths of senses.
const (
	FixedSenseSize = 18  // of a sense in fixed format that Append makes
	MaxSenseSize   = 252 // the longest that a device gives
)

// ParseSense decodes the sense data that came with an answer to op, in fixed
// or descriptor format. Data too short for its format gives what is there; an
// unknown format, or none, is an error.
func ParseSense(op Opcode, b []byte) (*Sense, error) {
	if len(b) == 0 {
		return nil, errors.New("the device gave no sense data")
	}
	s := &Sense{Op: op}
	switch code := b[0] & 0x7f; code {
	case 0x70, 0x71:
		s.Deferred = code == 0x71
		s.parseFixed(b)
	case 0x72, 0x73:
		s.Deferred = code == 0x73
		s.parseDescriptors(b)
	default:
		return nil, fmt.Errorf("sense data of unknown format %#02x", b[0])
	}
	return s, nil
}

func (s *Sense) parseFixed(b []byte) {
	if len(b) > 2 {
		s.Key = Key(b[2] & 0x0f)
		s.Filemark = b[2]&0x80 != 0
		s.EOM = b[2]&0x40 != 0
		s.ILI = b[2]&0x20 != 0
	}
	if len(b) >= 7 && b[0]&0x80 != 0 {
		s.Valid = true
		s.Info = int64(int32(binary.BigEndian.Uint32(b[3:])))
	}
	if len(b) > 7 {
		b = b[:min(len(b), 8+int(b[7]))]
	}
	if len(b) > 12 {
		s.ASC = b[12]
	}
	if len(b) > 13 {
		s.ASCQ = b[13]
	}
}

func (s *Sense) parseDescriptors(b []byte) {
	if len(b) > 1 {
		s.Key = Key(b[1] & 0x0f)
	}
	if len(b) > 2 {
		s.ASC = b[2]
	}
	if len(b) > 3 {
		s.ASCQ = b[3]
	}
	if len(b) < 8 {
		return
	}
	for list := b[8:min(len(b), 8+int(b[7]))]; len(list) >= 2; {
		kind, n := list[0], 2+int(list[1])
		if n > len(list) {
			return
		}
		switch {
		case kind == 0x00 && n >= 12 && list[2]&0x80 != 0:
			s.Valid = true
			s.Info = int64(binary.BigEndian.Uint64(list[4:]))
		case kind == 0x04 && n >= 4:
			s.Filemark = list[3]&0x80 != 0
			s.EOM = list[3]&0x40 != 0
			s.ILI = list[3]&0x20 != 0
		}
		list = list[n:]
	}
}

// Append adds the sense in fixed format, as devices send it. An Info that
// does not fit into 32 bits is left out.
func (s *Sense) Append(b []byte) []byte {
	f := make([]byte, FixedSenseSize)
	f[0] = 0x70
	if s.Deferred {
		f[0] = 0x71
	}
	f[2] = byte(s.Key) & 0x0f
	for _, flag := range []struct {
		set bool
		bit byte
	}{{s.Filemark, 0x80}, {s.EOM, 0x40}, {s.ILI, 0x20}} {
		if flag.set {
			f[2] |= flag.bit
		}
	}
	if s.Valid && s.Info == int64(int32(s.Info)) {
		f[0] |= 0x80
		binary.BigEndian.PutUint32(f[3:], uint32(s.Info))
	}
	f[7] = FixedSenseSize - 8
	f[12], f[13] = s.ASC, s.ASCQ
	return append(b, f...)
}
