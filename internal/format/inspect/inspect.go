// Package inspect explains any file of the formats byte by byte: what lies at
// which offset, and whether it is what it should be. It serves people who look
// at a damaged repository, and the examples in the documentation.
//
// # What it knows
//
//	blob          42ab3807be8370a1 and three more magics; also what is inside:
//	              a manifest, a key, other JSON
//	fixed index   2f7f41ed91fd0fcd
//	dynamic index 1c914ea519bab3cd
//	qcow2         "QFI\xfb", header and its extensions
//	overlay       cdee1babe1813045, header and map
//	volume        263dbe52ba576702, the header in sector 0
//	pxar archive  efac88e5746495d5 and others: version 1, or the metadata stream
//	              of version 2, its first entries
//	pxar contents d24e4a19c2684c83, up to where padding may come
//	catalog       91fd60f9c46758d5, directories and their entries
//	tape file     dcbdafcaeba0a528, its blocks and how its content begins
//	media catalog 4c8ee8c120a88971, its records
//	key file      JSON with "kdf" and "data"; the key itself is never shown
//	other JSON    .gc-status and the like
//
// # Trust
//
// The input is hostile: memory is bounded by the largest blob (128 MiB plain,
// bounded twice, encoded and decoded) and not by any length field, time by the
// file's size, and every text from the file is quoted before it is shown.
//
// # Errors
//
// Damage is not an error but a [Field] with a Problem: the dump goes on as far
// as it makes sense. Errors are those of the reader and of emit.
package inspect

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// Field is one line of the dump.
type Field struct {
	Offset  int64  // in the file
	Length  int64  // bytes that the field covers; 0 for what is derived
	Raw     []byte // the first bytes of it, for the hex column; nil where they are secret or derived
	Name    string
	Value   string // for people; may have several lines
	Problem string // why it is not what it should be, "" when it is
}

// Options say how much is shown.
type Options struct {
	Entries int // entries of an index or a directory; 0: the first 8 and the last; negative: all
}

// Report is what was found out about the whole file.
type Report struct {
	Kind     string // "fixed index"
	Problems int
}

// maxRaw is the most bytes that a field carries for the hex column.
const maxRaw = 32

// headRoom is what is read to tell the kind: every header without the zeros.
const headRoom = 4096

// File explains the size bytes of r and hands every field to emit, in the
// order of their offsets.
func File(r io.ReaderAt, size int64, o Options, emit func(Field) error) (Report, error) {
	d := &dump{r: r, size: size, o: o, emit: emit}
	head, err := d.read(0, min(size, headRoom))
	if err != nil {
		return Report{}, err
	}
	kind, explain := d.kind(head)
	if err := explain(head); err != nil {
		return Report{}, err
	}
	return Report{Kind: kind, Problems: d.problems}, d.err
}

// dump carries the first error of emit, so that explaining reads straight.
type dump struct {
	r        io.ReaderAt
	size     int64
	o        Options
	emit     func(Field) error
	problems int
	err      error
}

func (d *dump) kind(head []byte) (string, func([]byte) error) {
	switch {
	case len(head) >= 8 && blobMagic(head) != "":
		return "blob, " + blobMagic(head), d.blob
	case bytes.HasPrefix(head, fidxMagic):
		return "fixed index", d.fixed
	case bytes.HasPrefix(head, didxMagic):
		return "dynamic index", d.dynamic
	case bytes.HasPrefix(head, qcow2Magic):
		return "qcow2 image", d.qcow2
	case bytes.HasPrefix(head, overlayMagic):
		return "overlay", d.overlay
	case bytes.HasPrefix(head, volumeMagic):
		return "volume", d.volume
	case bytes.HasPrefix(head, catalogMagic):
		return "catalog", d.catalog
	case bytes.HasPrefix(head, tapeMagic):
		return "tape file", d.tapeFile
	case bytes.HasPrefix(head, mediaCatalogMagic):
		return "media catalog", d.mediaCatalog
	case pxarKind(head) != "":
		return pxarKind(head), d.pxar
	case bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")):
		return "JSON", d.plainJSON
	}
	return "unknown", func([]byte) error {
		d.put(Field{
			Length: min(d.size, 8), Raw: head[:min(len(head), 8)], Name: "magic",
			Problem: "no format that this program knows starts like this",
		})
		return nil
	}
}

// put hands a field on, unless emit has failed before.
func (d *dump) put(f Field) {
	if f.Problem != "" {
		d.problems++
	}
	if d.err == nil {
		d.err = d.emit(f)
	}
}

// field puts a field whose bytes are in head, if head has them.
func (d *dump) field(head []byte, off, n int, name, value, problem string) {
	if len(head) < off+n {
		return
	}
	d.put(Field{
		Offset: int64(off), Length: int64(n), Raw: bytes.Clone(head[off : off+min(n, maxRaw)]),
		Name: name, Value: value, Problem: problem,
	})
}

// short reports whether the file ends before n bytes, and says so.
func (d *dump) short(head []byte, n int, what string) bool {
	if len(head) >= n {
		return false
	}
	d.put(Field{
		Offset: d.size, Name: "end of file",
		Problem: fmt.Sprintf("the file ends after %d bytes, %s has %d", d.size, what, n),
	})
	return true
}

// read returns n bytes at off; the caller has bounded n by the size.
func (d *dump) read(off, n int64) ([]byte, error) {
	b := make([]byte, n)
	k, err := d.r.ReadAt(b, off)
	if int64(k) == n {
		return b, nil
	}
	if err == nil || err == io.EOF { //nolint:errorlint // ReaderAt returns it bare
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read %d bytes at offset %d: %w", n, off, err)
}

// zeros puts a field for reserved bytes.
func (d *dump) zeros(head []byte, off, n int) {
	if len(head) < off+n {
		return
	}
	value, problem := "zero", ""
	if i := bytes.IndexFunc(head[off:off+n], func(r rune) bool { return r != 0 }); i >= 0 {
		value, problem = "", fmt.Sprintf("not zero at offset %d (readers ignore it)", off+i)
	}
	d.field(head, off, n, "reserved", value, problem)
}

// Line formats a field the way the text dump shows it: offset, hex, meaning.
// Further lines of the value follow, indented.
func (f Field) Line() string {
	var b bytes.Buffer
	hexed := hex.EncodeToString(f.Raw[:min(len(f.Raw), 16)])
	more := ""
	if int64(len(f.Raw)) < f.Length && len(f.Raw) > 0 || len(f.Raw) > 16 {
		more = ".."
	}
	fmt.Fprintf(&b, "%08x  %-34s  %s", f.Offset, hexed+more, f.Name)
	for i, line := range strings.Split(f.Value, "\n") {
		switch {
		case i > 0:
			fmt.Fprintf(&b, "\n%46s    %s", "", line)
		case f.Value != "":
			b.WriteString(":" + strings.TrimRight(" "+line, " "))
		}
	}
	if f.Problem != "" {
		fmt.Fprintf(&b, "  <-- %s", f.Problem)
	}
	return b.String()
}
