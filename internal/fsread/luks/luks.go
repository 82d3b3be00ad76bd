// Package luks unlocks LUKS volumes, versions 1 and 2: from their header and a
// passphrase it finds the key of the volume and how the volume is encrypted. [Volume.Open]
// decrypts what it holds, sector by sector as it is read.
//
// # Layout
//
// Version 1, big-endian: "LUKS\xba\xbe", version 2 bytes, names of cipher, mode and hash of
// 32 bytes each at 8, 40 and 72, at 104 the sector of the data, the bytes of the key, its
// digest (20), the digest's salt (32) and rounds; at 208 eight slots of 48 bytes: state, rounds,
// salt (32), sector of the key material, stripes.
//
// Version 2: the same magic, at 8 the size of the header, at 448 its checksum with which it is
// computed as zeros (only SHA-256 is known); at 4096 JSON with key slots, segments and digests. Its
// second copy is not looked at.
//
// A slot's material is the key, spread over stripes such that all are needed, and
// encrypted with what PBKDF2, Argon2i or Argon2id make of the passphrase.
//
// # What is believed
//
// Sizes and costs are bounded ([maxMemory], [maxWork], [maxSlots]) before anything is derived. A slot
// that is damaged or not understood is passed over while another one opens.
// Ciphers are AES in XTS, and in CBC with plain, plain64 or ESSIV; others are refused, and so
// is a volume that is being encrypted anew, or has integrity or other demands that are not known.
//
// # Errors
//
// [ErrPassphrase]; fsread.ErrOther for what is no LUKS; UnsupportedError, CorruptError.
//
// # Source
//
// LUKS1 and LUKS2 on-disk format specifications of the cryptsetup project.
package luks

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

const layer = "luks"

// Bounds.
const (
	maxHeader = 4 << 20 // bytes of version 2's
	maxKey    = 512     // bytes
	maxArea   = 8 << 20 // bytes of a slot's material
	maxMemory = 4 << 20 // KiB, as cryptsetup has it
	maxWork   = 256 << 20
	maxRounds = 200 << 20 // of PBKDF2
	maxSlots  = 32        // and digests, of version 2, as cryptsetup has it
)

// ErrPassphrase is a passphrase that opens no slot.
var ErrPassphrase = errors.New("the passphrase opens no key slot")

// Volume is how a volume is encrypted.
type Volume struct {
	Cipher     string // as dm-crypt calls it
	Key        []byte
	Offset     int64 // of the data, bytes
	Size       int64 // of the data, bytes; 0: to the end
	SectorSize int
}

// Unlock reads the header in r and tries a passphrase on all slots.
func Unlock(r io.ReaderAt, passphrase []byte) (Volume, error) {
	b, err := read(r, 0, 592)
	if err != nil {
		return Volume{}, err
	}
	if string(b[:6]) != "LUKS\xba\xbe" {
		return Volume{}, fsread.ErrOther
	}
	switch v := binary.BigEndian.Uint16(b[6:]); v {
	case 1:
		return unlock1(r, b, passphrase)
	case 2:
		return unlock2(r, b, passphrase)
	default:
		return Volume{}, fsread.Unsupported(layer, "version %d", v)
	}
}

func read(r io.ReaderAt, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	if k, err := r.ReadAt(b, off); int64(k) < n {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, fsread.Corrupt(layer, "it ends before byte %d", off+n)
		}
		return nil, err
	}
	return b, nil
}

// slot is what is common to both versions.
type slot struct {
	derive  func(passphrase []byte, size int) ([]byte, error)
	cipher  string // of the material
	keySize int    // of its cipher
	offset  int64
	stripes int
	hash    string // of the stripes
	volume  int    // bytes of the volume's key
}

// open gives the key that a passphrase finds in a slot, right or wrong.
func (s slot) open(r io.ReaderAt, passphrase []byte) ([]byte, error) {
	n := int64(s.volume) * int64(s.stripes)
	if s.volume <= 0 || s.volume > maxKey || s.keySize <= 0 || s.keySize > maxKey || s.stripes <= 0 || n > maxArea {
		return nil, fsread.Corrupt(layer, "a slot with a key of %d bytes in %d stripes", s.volume, s.stripes)
	}
	material, err := read(r, s.offset, (n+511)&^511)
	if err != nil {
		return nil, err
	}
	key, err := s.derive(passphrase, s.keySize)
	if err != nil {
		return nil, err
	}
	if err := decrypt(s.cipher, key, material); err != nil {
		return nil, err
	}
	return merge(material[:n], s.volume, s.hash)
}

// firstThatOpens gives the key of the first of n slots that the passphrase opens. One that is
// damaged or not understood is not in the way of the others; if none opens, it is the reason.
func firstThatOpens(n int, open func(i int) ([]byte, error)) (key []byte, err error) {
	why := ErrPassphrase
	for i := range n {
		key, err := open(i)
		if err == nil {
			return key, nil
		}
		if errors.Is(why, ErrPassphrase) {
			why = err
		}
	}
	return nil, why
}
