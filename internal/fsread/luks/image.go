package luks

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/crypto/xts"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Open gives what the volume holds: img is what was unlocked.
func (v Volume) Open(img image.Image) (image.Image, error) {
	size := img.Size() - v.Offset
	if v.Size > 0 {
		size = min(size, v.Size)
	}
	sector := int64(v.SectorSize)
	if size -= size % sector; size <= 0 || v.Size > size {
		return nil, fsread.Corrupt(layer, "it has %d bytes and its data begins at %d", img.Size(), v.Offset)
	}
	below, err := image.NewSection(img, v.Offset, size)
	if err != nil {
		return nil, err
	}
	decrypt, err := newSectors(v.Cipher, v.Key)
	if err != nil {
		return nil, err
	}
	return &opened{below: below, size: size, sector: sector, decrypt: decrypt}, nil
}

// opened is what an encrypted volume holds. It has no extents: what is zeros below is
// not zeros here.
type opened struct {
	below   image.Image
	size    int64
	sector  int64
	decrypt sectors
}

var _ image.Adviser = (*opened)(nil)

func (c *opened) Size() int64 { return c.size }

// WillNeed passes the hint on.
func (c *opened) WillNeed(off, n int64) { image.WillNeed(c.below, off, n) }

// most is how much is decrypted in one piece.
const most = 1 << 20

func (c *opened) ReadAt(p []byte, off int64) (int, error) {
	return image.ReadWithin(p, off, c.size, func(p []byte, off int64) (n int, err error) {
		var buf []byte
		for n < len(p) {
			at := off + int64(n)
			start := at - at%c.sector
			length := min(most, (int64(len(p)-n)+at-start+c.sector-1)/c.sector*c.sector)
			part := p[n:]
			whole := start == at && int64(len(part)) >= length // no room is needed but that of the reader
			if whole {
				part = part[:length]
			} else {
				if int64(cap(buf)) < length {
					buf = make([]byte, length)
				}
				part = buf[:length]
			}
			if err := fsread.ReadFull(c.below, layer, part, start); err != nil {
				return n, err
			}
			c.decryptAll(part, start)
			if whole {
				n += len(part)
			} else {
				n += copy(p[n:], part[at-start:])
			}
		}
		return n, nil
	})
}

// alone is how much one goroutine decrypts at least: as much as pays for its start.
const alone = 64 << 10

// decryptAll decrypts whole sectors from a place on. All processors help, for XTS keeps one
// busy long before a repository does.
func (c *opened) decryptAll(p []byte, start int64) {
	workers := min(runtime.GOMAXPROCS(0), len(p)/alone)
	if workers <= 1 {
		c.decryptSome(p, start)
		return
	}
	share := (int64(len(p)/workers) + c.sector - 1) / c.sector * c.sector
	var wg sync.WaitGroup
	for off := int64(0); off < int64(len(p)); off += share {
		wg.Go(func() { c.decryptSome(p[off:min(int64(len(p)), off+share)], start+off) })
	}
	wg.Wait()
}

func (c *opened) decryptSome(p []byte, start int64) {
	for i := int64(0); i < int64(len(p)); i += c.sector {
		// Sectors are numbered in units of 512 bytes, whatever their size.
		c.decrypt(uint64(start+i)/512, p[i:i+c.sector])
	}
}

// sectors decrypts a sector in place. It is safe for concurrent use.
type sectors func(number uint64, p []byte)

// newSectors makes a decrypter for what dm-crypt calls a cipher.
func newSectors(name string, key []byte) (sectors, error) {
	kind, mode, _ := strings.Cut(name, "-")
	if kind != "aes" {
		return nil, fsread.Unsupported(layer, "cipher %q", name)
	}
	short := func(n uint64) uint64 { return n & 0xffffffff }
	if mode == "xts-plain64" || mode == "xts-plain" {
		x, err := xts.NewCipher(aes.NewCipher, key)
		if err != nil {
			return nil, fsread.Corrupt(layer, "a key of %d bytes for %s", len(key), name)
		}
		if mode == "xts-plain" {
			return func(n uint64, p []byte) { x.Decrypt(p, p, short(n)) }, nil
		}
		return func(n uint64, p []byte) { x.Decrypt(p, p, n) }, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fsread.Corrupt(layer, "a key of %d bytes for %s", len(key), name)
	}
	var vector func(n uint64) []byte
	plain := func(n uint64) []byte { return append(binary.LittleEndian.AppendUint64(nil, n), make([]byte, 8)...) }
	switch mode {
	case "cbc-plain":
		vector = func(n uint64) []byte { return plain(short(n)) }
	case "cbc-plain64":
		vector = plain
	case "cbc-essiv:sha256":
		sum := sha256.Sum256(key)
		salt, err := aes.NewCipher(sum[:])
		if err != nil {
			return nil, fmt.Errorf("luks: %w", err)
		}
		vector = func(n uint64) []byte {
			v := plain(n)
			salt.Encrypt(v, v)
			return v
		}
	default:
		return nil, fsread.Unsupported(layer, "cipher %q", name)
	}
	return func(n uint64, p []byte) { cipher.NewCBCDecrypter(block, vector(n)).CryptBlocks(p, p) }, nil
}
