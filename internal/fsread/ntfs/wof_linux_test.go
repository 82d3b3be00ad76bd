package ntfs_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/fsread/ntfs"
)

var le = binary.LittleEndian

// wofKinds are what wimlib calls the kinds of compression, in the order of their numbers.
var wofKinds = []struct{ compress, chunk string }{{"XPRESS", "4096"}, {"LZX", "32768"}, {"XPRESS", "8192"}, {"XPRESS", "16384"}}

// packed is content as wimlib packs it: the one file of a WIM, whose chunks have the form of
// those in compressed files.
func packed(t testing.TB, content []byte, kind int) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/tree", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/tree/file", content, 0o644); err != nil {
		t.Fatal(err)
	}
	k := wofKinds[kind]
	fsreadtest.Run(t, "wimlib-imagex", "capture", dir+"/tree", dir+"/wim", "--compress="+k.compress, "--chunk-size="+k.chunk)
	wim, err := os.ReadFile(dir + "/wim")
	if err != nil {
		t.Fatal(err)
	}
	// A resource: its size and flags, where it is, its size without compression.
	resource := func(b []byte) (at, size, whole uint64) {
		return le.Uint64(b[8:]), le.Uint64(b) & (1<<56 - 1), le.Uint64(b[16:])
	}
	at, size, _ := resource(wim[48:]) // the table of all
	for table := wim[at : at+size]; len(table) >= 50; table = table[50:] {
		if at, size, whole := resource(table); whole == uint64(len(content)) {
			if table[7]&4 == 0 {
				t.Fatalf("%d bytes are not compressed", len(content))
			}
			return wim[at : at+size]
		}
	}
	t.Fatal("the file is not in the WIM")
	return nil
}

// compressible is content of all sorts: text, noise, zeros, and programs, with the calls whose
// addresses LZX changes, also at the end of chunks.
func compressible(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 3))
	var b []byte
	for len(b) < n {
		switch r.IntN(5) {
		case 0:
			b = fmt.Appendf(b, "line %d of a text, and %d more; ", len(b), r.IntN(1000))
		case 1:
			for range r.IntN(9000) {
				b = append(b, byte(r.Uint32()))
			}
		case 2:
			b = append(b, make([]byte, r.IntN(70_000))...)
		case 3:
			for range r.IntN(300) {
				b = append(b, 0x48, 0x89, 0xc7, 0xe8)
				b = le.AppendUint32(b, uint32(r.Int32N(40_000)-20_000))
			}
		case 4:
			if len(b) > 5000 {
				b = append(b, b[len(b)-r.IntN(5000):]...)
			}
		}
	}
	return b[:n]
}

func TestFilesThatWindowsCompressedAreReadAsTheyWere(t *testing.T) {
	img := fsreadtest.Make(t, 64<<20, "mkntfs", "-F", "-q", "-f")
	dir, unmount := mount(t, img, "")
	want := map[string][]byte{}
	for kind := range wofKinds {
		for _, size := range []int{5000, 32 << 10, 65536, 1_000_001, 3 << 20} {
			name, content := fmt.Sprintf("%d-%d", kind, size), compressible(size)
			want[name] = content
			compress(t, filepath.Join(dir, name), content, packed(t, content, kind), kind)
		}
	}
	unmount()
	f, err := ntfs.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		e, err := f.Lookup(f.Root(), name)
		if err != nil {
			t.Fatal(err)
		}
		st, err := f.Stat(e.ID)
		if err != nil || st.Size != int64(len(content)) || st.Kind != fsread.Regular {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		img, err := f.Open(e.ID)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := io.ReadAll(io.NewSectionReader(img, 0, img.Size())); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(content), err)
		}
		part := make([]byte, 100)
		if _, err := img.ReadAt(part, int64(len(content)/2)); err != nil || !bytes.Equal(part, content[len(content)/2:][:100]) {
			t.Errorf("%s: in its middle: %v", name, err)
		}
	}
}

// compress makes a file as Windows has one that is compressed.
func compress(t *testing.T, name string, content, packed []byte, kind int) {
	t.Helper()
	write(t, name, nil)
	if err := os.Truncate(name, int64(len(content))); err != nil {
		t.Fatal(err)
	}
	write(t, name+":WofCompressedData", packed)
	point := le.AppendUint32(nil, 0x80000017)
	point = le.AppendUint32(point, 16)
	for _, n := range []uint32{1, 2, 1, uint32(kind)} {
		point = le.AppendUint32(point, n)
	}
	if err := unix.Setxattr(name, "system.ntfs_reparse_data", point, 0); err != nil {
		t.Fatal(err)
	}
}
