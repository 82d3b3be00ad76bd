package luks

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"

	"golang.org/x/crypto/argon2"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// metadata is the JSON of version 2, as far as it is used. Numbers of 64 bits are texts.
type metadata struct {
	Keyslots map[string]struct {
		Type    string `json:"type"`
		KeySize int    `json:"key_size"`
		AF      struct {
			Stripes int    `json:"stripes"`
			Hash    string `json:"hash"`
		} `json:"af"`
		Area struct {
			Offset     string `json:"offset"`
			Encryption string `json:"encryption"`
			KeySize    int    `json:"key_size"`
		} `json:"area"`
		KDF kdf `json:"kdf"`
	} `json:"keyslots"`
	Segments map[string]struct {
		Type       string `json:"type"`
		Offset     string `json:"offset"`
		Size       string `json:"size"` // or "dynamic"
		Tweak      string `json:"iv_tweak"`
		Encryption string `json:"encryption"`
		SectorSize int    `json:"sector_size"`
		Integrity  any    `json:"integrity"`
	} `json:"segments"`
	Digests map[string]struct {
		Type     string   `json:"type"`
		Keyslots []string `json:"keyslots"`
		Hash     string   `json:"hash"`
		Rounds   int      `json:"iterations"`
		Salt     []byte   `json:"salt"`
		Digest   []byte   `json:"digest"`
	} `json:"digests"`
	Config struct {
		Requirements struct {
			Mandatory []string `json:"mandatory"`
		} `json:"requirements"`
	} `json:"config"`
}

type kdf struct {
	Type   string `json:"type"`
	Salt   []byte `json:"salt"`
	Hash   string `json:"hash"`
	Rounds int    `json:"iterations"`
	Time   uint32 `json:"time"`
	Memory uint32 `json:"memory"` // KiB
	CPUs   uint8  `json:"cpus"`
}

func (k kdf) derive(passphrase []byte, size int) ([]byte, error) {
	if k.Type == "pbkdf2" {
		return stretch(k.Hash, passphrase, k.Salt, k.Rounds, size)
	}
	if k.Time == 0 || k.CPUs == 0 || k.Memory > maxMemory || uint64(k.Time)*uint64(k.Memory) > maxWork {
		return nil, fsread.Corrupt(layer, "%s with %d passes over %d KiB", k.Type, k.Time, k.Memory)
	}
	switch k.Type {
	case "argon2id":
		return argon2.IDKey(passphrase, k.Salt, k.Time, k.Memory, k.CPUs, uint32(size)), nil
	case "argon2i":
		return argon2.Key(passphrase, k.Salt, k.Time, k.Memory, k.CPUs, uint32(size)), nil
	}
	return nil, fsread.Unsupported(layer, "key derivation %q", k.Type)
}

func readMetadata(r io.ReaderAt, head []byte) (m metadata, err error) {
	const json0, sum = 4096, 448
	size := binary.BigEndian.Uint64(head[8:])
	if size <= json0 || size > maxHeader {
		return m, fsread.Corrupt(layer, "a header of %d bytes", size)
	}
	b, err := read(r, 0, int64(size))
	if err != nil {
		return m, err
	}
	if alg := text(b[72:104]); alg != "sha256" {
		return m, fsread.Unsupported(layer, "checksum %q", alg)
	}
	stored := [32]byte(b[sum:])
	clear(b[sum : sum+64])
	if sha256.Sum256(b) != stored {
		return m, fsread.Corrupt(layer, "the checksum of the header is wrong")
	}
	b, _, _ = bytes.Cut(b[json0:], []byte{0})
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fsread.Corrupt(layer, "metadata: %v", err)
	}
	return m, nil
}

func unlock2(r io.ReaderAt, head, passphrase []byte) (v Volume, err error) {
	m, err := readMetadata(r, head)
	if err != nil {
		return v, err
	}
	if more := m.Config.Requirements.Mandatory; len(more) > 0 {
		return v, fsread.Unsupported(layer, "a volume that demands %q", more)
	}
	seg, ok := m.Segments["0"]
	if !ok || len(m.Segments) != 1 || seg.Type != "crypt" || seg.Tweak != "0" || seg.Integrity != nil {
		return v, fsread.Unsupported(layer, "a volume of several or other segments than one that is encrypted")
	}
	v = Volume{Cipher: seg.Encryption, SectorSize: seg.SectorSize}
	if v.Offset, err = strconv.ParseInt(seg.Offset, 10, 64); err != nil || v.Offset < 0 || v.Offset%512 != 0 {
		return v, fsread.Corrupt(layer, "data at %q", seg.Offset)
	}
	if seg.Size != "dynamic" {
		if v.Size, err = strconv.ParseInt(seg.Size, 10, 64); err != nil || v.Size <= 0 || v.Size%512 != 0 {
			return v, fsread.Corrupt(layer, "data of %q bytes", seg.Size)
		}
	}
	if s := v.SectorSize; s < 512 || s > 4096 || s&(s-1) != 0 {
		return v, fsread.Corrupt(layer, "sectors of %d bytes", s)
	}
	if len(m.Keyslots) > maxSlots || len(m.Digests) > maxSlots {
		return v, fsread.Corrupt(layer, "%d key slots with %d digests", len(m.Keyslots), len(m.Digests))
	}
	ids := slices.Sorted(maps.Keys(m.Keyslots))
	v.Key, err = firstThatOpens(len(ids), func(i int) ([]byte, error) { return m.open(ids[i], r, passphrase) })
	return v, err
}

// open gives the key of the volume if the passphrase opens this slot.
func (m metadata) open(id string, r io.ReaderAt, passphrase []byte) ([]byte, error) {
	k := m.Keyslots[id]
	if k.Type != "luks2" {
		return nil, ErrPassphrase
	}
	off, err := strconv.ParseInt(k.Area.Offset, 10, 64)
	if err != nil || off < 0 {
		return nil, fsread.Corrupt(layer, "a slot at %q", k.Area.Offset)
	}
	s := slot{
		cipher: k.Area.Encryption, keySize: k.Area.KeySize, volume: k.KeySize, hash: k.AF.Hash, offset: off, stripes: k.AF.Stripes,
		derive: k.KDF.derive,
	}
	key, err := s.open(r, passphrase)
	if err != nil {
		return nil, err
	}
	for _, d := range m.Digests {
		if d.Type != "pbkdf2" || !slices.Contains(d.Keyslots, id) {
			continue
		}
		sum, err := stretch(d.Hash, key, d.Salt, d.Rounds, len(d.Digest))
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(sum, d.Digest) == 1 {
			return key, nil
		}
	}
	return nil, ErrPassphrase
}
