package inspect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
)

// maxBlob is the longest blob file that is read: plain data that does not
// shrink, and the header.
const maxBlob = blob.MaxPlain + blob.EncryptedHeaderSize

var blobMagics = map[[8]byte]string{
	{0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1}: "plain",
	{0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f}: "zstd",
	{0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0}: "encrypted",
	{0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b}: "zstd, encrypted",
}

func blobMagic(head []byte) string { return blobMagics[[8]byte(head)] }

func (d *dump) blob(head []byte) error {
	kind := blobMagic(head)
	encrypted := kind == "encrypted" || kind == "zstd, encrypted"
	d.field(head, 0, 8, "magic", kind, "")
	header := blob.HeaderSize
	if encrypted {
		header = blob.EncryptedHeaderSize
	}
	if d.short(head, header, "the header of this kind of blob") {
		return nil
	}
	if d.size > maxBlob {
		d.put(Field{Offset: d.size, Name: "end of file", Problem: fmt.Sprintf("a blob has at most %d bytes", int64(maxBlob))})
		return nil
	}
	raw, err := d.read(0, d.size)
	if err != nil {
		return err
	}
	stored, sum := binary.LittleEndian.Uint32(raw[8:]), crc32.ChecksumIEEE(raw[header:])
	problem := ""
	if stored != sum {
		problem = fmt.Sprintf("the payload has %08x", sum)
	}
	d.field(raw, 8, 4, "crc", fmt.Sprintf("%08x", stored), problem)
	if encrypted {
		d.field(raw, 12, 16, "iv", "", "")
		d.field(raw, 28, 16, "tag", "", "")
	}
	d.put(Field{
		Offset: int64(header), Length: d.size - int64(header), Raw: raw[header:min(len(raw), header+maxRaw)],
		Name: "payload", Value: byteCount(uint64(len(raw) - header)),
	})
	if encrypted {
		d.put(Field{Offset: d.size, Name: "content", Value: "encrypted: without the key there is nothing to see"})
		return nil
	}
	return d.blobContent(raw)
}

func (d *dump) blobContent(raw []byte) error {
	dec, err := blob.NewDecoder(nil)
	if err != nil {
		return err
	}
	defer dec.Close()
	plain, err := dec.Append(nil, raw, blob.MaxPlain)
	if err != nil {
		if !errors.Is(err, blob.ErrFormat) {
			return err
		}
		d.put(Field{Offset: d.size, Name: "content", Problem: err.Error()})
		return nil
	}
	d.put(Field{
		Offset: d.size, Name: "content",
		Value: fmt.Sprintf("%s, SHA-256 %s", byteCount(uint64(len(plain))), digest.Of(plain)),
	})
	switch {
	case looksLikeJSON(plain):
		d.json(d.size, plain)
	case len(plain) > 0 && len(plain) <= 64<<10 && printable(plain):
		d.put(Field{Offset: d.size, Name: "text", Value: "\n" + string(plain)})
	}
	return nil
}

// printable reports whether b is text that no terminal obeys.
func printable(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError || (!unicode.IsPrint(r) && r != '\n' && r != '\t') {
			return false
		}
		b = b[n:]
	}
	return true
}
