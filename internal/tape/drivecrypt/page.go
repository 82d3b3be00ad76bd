package drivecrypt

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/tape"
)

// AES256GCM is the code of the algorithm that LTO drives have.
const AES256GCM = 0x00010014

const keySize = 32

// Modes of encryption and decryption.
const (
	off     = 0
	encrypt = 2
	raw     = 1 // decryption: blocks come as they are on the medium
	decrypt = 2
	mixed   = 3 // decryption: plain blocks are read as well
)

// hardware is the ability to do it without the host.
const hardware = 2

// Algorithm is what a drive can do.
type Algorithm struct {
	Index            uint8
	Code             uint32
	KeySize          int
	Encrypt, Decrypt uint8 // 2: by hardware
}

// usable reports whether it is the one that tapes are encrypted with.
func (a Algorithm) usable() bool {
	return a.Code == AES256GCM && a.KeySize == keySize && a.Encrypt == hardware && a.Decrypt == hardware
}

// ParseCapabilities decodes page 0010h.
func ParseCapabilities(b []byte) ([]Algorithm, error) {
	b, err := page(b, 0x0010, 20)
	if err != nil {
		return nil, err
	}
	var all []Algorithm
	for b = b[20:]; len(b) >= 4; {
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n < 24 || n > len(b) {
			return nil, fmt.Errorf("the description of an algorithm has %d bytes, of %d", n, len(b))
		}
		all = append(all, Algorithm{
			Index: b[0], Code: binary.BigEndian.Uint32(b[20:]), KeySize: int(binary.BigEndian.Uint16(b[10:])),
			Encrypt: b[4] & 3, Decrypt: b[4] >> 2 & 3,
		})
		b = b[n:]
	}
	return all, nil
}

// State is what a drive does.
type State struct {
	Encryption, Decryption uint8
	Index                  uint8  // of the algorithm
	Instances              uint32 // counts how often a key was set
}

// On reports whether the drive encrypts and reads both kinds of blocks.
func (s State) On() bool { return s.Encryption == encrypt && s.Decryption == mixed }

// Off reports whether the drive has nothing to do with encryption.
func (s State) Off() bool { return s.Encryption == off && s.Decryption == off }

func (s State) String() string {
	e := map[uint8]string{off: "writes plain", 1: "writes what is encrypted already", encrypt: "encrypts"}[s.Encryption]
	d := map[uint8]string{off: "reads plain", raw: "reads without decrypting", decrypt: "decrypts", mixed: "decrypts and reads plain"}[s.Decryption]
	if e == "" || d == "" {
		return fmt.Sprintf("is in the unknown mode %d/%d", s.Encryption, s.Decryption)
	}
	return e + " and " + d
}

// ParseState decodes page 0020h.
func ParseState(b []byte) (State, error) {
	b, err := page(b, 0x0020, 12)
	if err != nil {
		return State{}, err
	}
	return State{b[5], b[6], b[7], binary.BigEndian.Uint32(b[8:])}, nil
}

// Next is what stands at the position of the drive.
type Next uint8

const (
	NextUnknown  Next = 0
	NextPlain    Next = 3
	NextReadable Next = 5 // encrypted with the present key
	NextForeign  Next = 6 // encrypted with another key, or no key is loaded
)

// ParseNext decodes page 0021h. What the drive does not tell is NextUnknown.
func ParseNext(b []byte) (Next, error) {
	b, err := page(b, 0x0021, 13)
	if err != nil {
		return 0, err
	}
	switch n := Next(b[12] & 0x0f); n {
	case NextPlain, NextReadable, NextForeign:
		return n, nil
	}
	return NextUnknown, nil
}

// page checks the head of an answer and cuts it to its length. Some drives count
// more than they send; what is needed must be there.
func page(b []byte, code uint16, least int) ([]byte, error) {
	if len(b) < 4 {
		return nil, errors.New("the answer has no head")
	}
	if got := binary.BigEndian.Uint16(b); got != code {
		return nil, fmt.Errorf("page %04x came for page %04x", got, code)
	}
	b = b[:min(len(b), 4+int(binary.BigEndian.Uint16(b[2:])))]
	if len(b) < least {
		return nil, fmt.Errorf("page %04x has %d bytes, and %d are needed", code, len(b), least)
	}
	return b, nil
}

// appendSet adds the parameters that switch encryption on, or off without a
// key.
func appendSet(b []byte, index uint8, k *tape.DataKey) []byte {
	head := [20]byte{1: 0x10, 4: 0x40, 8: index}
	var key []byte
	if k != nil {
		bytes := k.Bytes()
		key = bytes[:]
		head[6], head[7] = encrypt, mixed
	}
	binary.BigEndian.PutUint16(head[2:], uint16(len(head)-4+len(key)))
	binary.BigEndian.PutUint16(head[18:], uint16(len(key)))
	return append(append(b, head[:]...), key...)
}
