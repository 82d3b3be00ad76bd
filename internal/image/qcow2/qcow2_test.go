package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
)

// tiny is a hand-made image of version 3 with clusters of 512 bytes: header,
// L1 table, L2 table and one cluster of data, of a disk of 2048 bytes whose
// clusters are data, zeros, not allocated and compressed.
func tiny() []byte {
	be := binary.BigEndian
	b := make([]byte, 4*512)
	copy(b, "QFI\xfb")
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], 9)
	be.PutUint64(b[24:], 2048)
	be.PutUint32(b[36:], 1)
	be.PutUint64(b[40:], 512)
	be.PutUint32(b[96:], 4)
	be.PutUint32(b[100:], 112)
	be.PutUint64(b[512:], 1024|1<<63)
	be.PutUint64(b[1024:], 1536|1<<63)
	be.PutUint64(b[1032:], 1)
	// raw deflate: a stored block of 512 bytes "d" follows the data cluster
	be.PutUint64(b[1048:], 1<<62|1<<61|2048)
	for i := range 512 {
		b[1536+i] = 'a'
	}
	b = append(b, 1, 0x00, 0x02, 0xff, 0xfd)
	b = append(b, bytes.Repeat([]byte{'d'}, 512)...)
	return b
}

func openBytes(t testing.TB, b []byte) (*qcow2.Image, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := qcow2.Open(path, qcow2.Options{})
	if err == nil {
		t.Cleanup(func() { _ = img.Close() })
	}
	return img, err
}

func TestHandMadeImageIsRead(t *testing.T) {
	img, err := openBytes(t, tiny())
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 2048)
	for i := range 512 {
		want[i], want[1536+i] = 'a', 'd'
	}
	got := make([]byte, 2048)
	if _, err := img.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read: %v, %q", err, got)
	}
	if e, err := img.ExtentAt(512); err != nil || e != (image.Extent{Offset: 512, Length: 1024, Kind: image.Zero}) {
		t.Errorf("extent: %v, %v", e, err)
	}
}

func TestDamageIsAnErrorAndNeverZeros(t *testing.T) {
	be := binary.BigEndian
	for _, tc := range []struct {
		name  string
		spoil func(b []byte) []byte
	}{
		{"data behind the end", func(b []byte) []byte { be.PutUint64(b[1024:], 1<<30); return b }},
		{"data not at a cluster", func(b []byte) []byte { be.PutUint64(b[1024:], 1536); be.PutUint32(b[20:], 10); return b }},
		{"L2 table behind the end", func(b []byte) []byte { be.PutUint64(b[512:], 1<<40); return b }},
		{"L1 table behind the end", func(b []byte) []byte { be.PutUint64(b[40:], 1<<40); return b }},
		{"compressed behind the end", func(b []byte) []byte { be.PutUint64(b[1048:], 1<<62|1<<40); return b }},
		{"compressed garbage", func(b []byte) []byte { b[2048] = 0xff; return b }},
		{"compressed too short", func(b []byte) []byte { b[2049], b[2051] = 0xff, 0; b[2050], b[2052] = 1, 0xfe; return b }},
		{"compressed cut off", func(b []byte) []byte { return b[:2300] }},
		{"cut in the data", func(b []byte) []byte { return b[:1700] }},
		{"cut in the L2 table", func(b []byte) []byte { return b[:1030] }},
		{"cut in the L1 table", func(b []byte) []byte { return b[:516] }},
		{"cut in the header", func(b []byte) []byte { return b[:90] }},
		{"marked as corrupt", func(b []byte) []byte { b[79] |= format.IncompatCorrupt; return b }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img, err := openBytes(t, tc.spoil(tiny()))
			if err == nil {
				_, err = img.ReadAt(make([]byte, img.Size()), 0)
			}
			if !errors.Is(err, format.ErrFormat) {
				t.Errorf("err = %v, want ErrFormat", err)
			}
		})
	}
}

func TestFileThatShrinksIsNotCalledDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	img, err := qcow2.Open(write(t, path, tiny()), qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if err := os.Truncate(path, 1600); err != nil {
		t.Fatal(err)
	}
	_, err = img.ReadAt(make([]byte, 2048), 0)
	if _, ok := errors.AsType[*image.ShrunkError](err); !ok {
		t.Errorf("err = %v, want a ShrunkError", err)
	}
}

func TestEncryptedAndUnknownImagesAreRefused(t *testing.T) {
	be := binary.BigEndian
	for _, tc := range []struct {
		say   string
		spoil func(b []byte)
	}{
		{"LUKS", func(b []byte) { b[35] = 2 }},
		{"AES", func(b []byte) { b[35] = 1 }},
		{"encryption method 3", func(b []byte) { b[35] = 3 }},
		{"unnamed feature 40", func(b []byte) { b[74] = 1 }},
		{`feature 41 ("time travel")`, func(b []byte) {
			b[74] = 2
			be.PutUint32(b[112:], 0x6803f857)
			be.PutUint32(b[116:], 48)
			b[121] = 41
			copy(b[122:], "time travel")
		}},
		{"compression method 7", func(b []byte) { b[79], b[104] = 8, 7 }},
		{"version 1", func(b []byte) { b[7] = 1 }},
	} {
		b := tiny()
		tc.spoil(b)
		if _, err := openBytes(t, b); !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("err = %v, want %s", err, tc.say)
		}
	}
}

// naming is tiny with the name of another file.
func naming(backing, backingFormat, data string) []byte {
	be := binary.BigEndian
	b := tiny()
	at := 112
	ext := func(kind uint32, s string) {
		if s != "" {
			be.PutUint32(b[at:], kind)
			be.PutUint32(b[at+4:], uint32(len(s)))
			copy(b[at+8:], s)
			at += 8 + (len(s)+7)&^7
		}
	}
	ext(0xe2792aca, backingFormat)
	ext(0x44415441, data)
	if data != "" {
		b[79] |= format.IncompatDataFile
	}
	if backing != "" {
		be.PutUint64(b[8:], 320)
		be.PutUint32(b[16:], uint32(len(backing)))
		copy(b[320:512], backing)
	}
	return b
}

func TestImageCannotNameFilesElsewhere(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := write(t, filepath.Join(outside, "secret"), []byte("secret"))
	if err := os.Symlink(secret, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "dir")); err != nil {
		t.Fatal(err)
	}
	up, err := filepath.Rel(dir, secret)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "disk.qcow2")
	for _, name := range []string{
		secret, up, "./" + up, "link", "dir/secret", "nbd://localhost/x", "nbd:unix:/run/x",
		`json:{"driver":"file","filename":"` + secret[:8] + `"}`, "file:" + secret[:20], "ssh://host/x",
	} {
		for _, b := range [][]byte{naming(name, "raw", ""), naming("", "", name)} {
			write(t, path, b)
			if _, err := qcow2.Open(path, qcow2.Options{}); !errors.Is(err, qcow2.ErrNotAllowed) {
				t.Errorf("%s: err = %v, want ErrNotAllowed", name, err)
			}
		}
	}
	for name, opts := range map[string]qcow2.Options{
		"any":       {AllowAny: true},
		"directory": {AllowDirs: []string{outside}},
	} {
		write(t, path, naming("link", "raw", ""))
		img, err := qcow2.Open(path, opts)
		if err != nil {
			t.Errorf("allowed by %s: %v", name, err)
			continue
		}
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	}
	write(t, filepath.Join(dir, "base"), []byte("base"))
	write(t, path, naming("base", "raw", ""))
	if _, err := qcow2.Open(path, qcow2.Options{Alone: true}); !errors.Is(err, qcow2.ErrNotAllowed) {
		t.Errorf("alone: %v", err)
	}
	if _, err := qcow2.Open(filepath.Join(dir, "none.qcow2"), qcow2.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestBackingFileOfUnrecordedFormat(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.qcow2")
	for _, tc := range []struct {
		name    string
		content []byte
		refused bool
		want    byte // of the cluster that the overlay lacks, at offset 1024
	}{
		{"base.img", bytes.Repeat([]byte{'r'}, 2048), false, 'r'},
		{"guest.img", tiny(), true, 0},
		{"base.qcow2", tiny(), false, 0},
	} {
		write(t, filepath.Join(dir, tc.name), tc.content)
		img, err := qcow2.Open(write(t, path, naming(tc.name, "", "")), qcow2.Options{})
		if tc.refused {
			if !errors.Is(err, qcow2.ErrNotAllowed) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		p := make([]byte, 1)
		if _, err := img.ReadAt(p, 1024); err != nil || p[0] != tc.want {
			t.Errorf("%s: %q, %v", tc.name, p, err)
		}
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	}
	write(t, path, naming("base.img", "vmdk", ""))
	if _, err := qcow2.Open(path, qcow2.Options{}); !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), "vmdk") {
		t.Errorf("vmdk: %v", err)
	}
}

func TestChainsThatDoNotEndAreRefused(t *testing.T) {
	dir := t.TempDir()
	path := func(n int) string { return filepath.Join(dir, fmt.Sprintf("%d.qcow2", n)) }
	write(t, path(0), naming("1.qcow2", "qcow2", ""))
	write(t, path(1), naming("0.qcow2", "qcow2", ""))
	if _, err := qcow2.Open(path(0), qcow2.Options{}); !errors.Is(err, format.ErrFormat) {
		t.Errorf("loop: %v", err)
	}
	write(t, path(0), naming("0.qcow2", "raw", ""))
	if _, err := qcow2.Open(path(0), qcow2.Options{}); !errors.Is(err, format.ErrFormat) {
		t.Errorf("itself: %v", err)
	}
	for n := range qcow2.MaxDepth {
		write(t, path(n), naming(fmt.Sprintf("%d.qcow2", n+1), "qcow2", ""))
	}
	write(t, path(qcow2.MaxDepth), tiny())
	if _, err := qcow2.Open(path(0), qcow2.Options{}); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("deep: %v", err)
	}
	img, err := qcow2.Open(path(1), qcow2.Options{})
	if err != nil {
		t.Fatalf("just not too deep: %v", err)
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
}

func TestMemoryStaysBoundedOnALargeDisk(t *testing.T) {
	qemu(t)
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata,cluster_size=4k", path, "4G")
	img, err := qcow2.Open(path, qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	p := make([]byte, 4096)
	questions := 0
	for off := int64(0); off < img.Size(); off += 1 << 20 { // 8 MiB of tables
		if _, err := img.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	for off := int64(0); off < img.Size(); questions++ {
		e, err := img.ExtentAt(off)
		if err != nil {
			t.Fatal(err)
		}
		off = e.End()
	}
	if n := img.CachedBytes(); n > 4<<20 {
		t.Errorf("%d bytes of tables are kept", n)
	}
	t.Logf("%d extents", questions)
}

// FuzzImage reads whatever the bytes make: errors are fine, panics and endless
// reading are not, and zeros must be what extents promise.
func FuzzImage(f *testing.F) {
	f.Add(tiny())
	f.Add(naming("disk.qcow2", "raw", ""))
	f.Add(naming("", "", "disk.qcow2"))
	ext := tiny()
	ext[79] = format.IncompatExtendedL2
	ext[23] = 14
	f.Add(ext)
	zst := tiny()
	zst[79], zst[104] = format.IncompatCompression, 1
	copy(zst[2048:], []byte{0x28, 0xb5, 0x2f, 0xfd, 0x60, 0, 1, 3 | 0x10, 0x00, 0})
	f.Add(zst)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "disk.qcow2")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		img, err := qcow2.Open(path, qcow2.Options{})
		if err != nil {
			return
		}
		defer img.Close()
		_, _ = img.Bitmaps()
		p := make([]byte, 4096)
		for off, n := int64(0), 0; off < img.Size() && n < 100; n++ {
			e, err := img.ExtentAt(off)
			if err != nil {
				_, _ = img.ReadAt(p, off)
				return
			}
			if e.Offset != off || e.Length < 1 || e.End() > img.Size() {
				t.Fatalf("extent at %d of %d: %v", off, img.Size(), e)
			}
			k, err := img.ReadAt(p[:min(e.Length, int64(len(p)))], off)
			if e.Kind == image.Zero && (err != nil || len(bytes.Trim(p[:k], "\x00")) > 0) {
				t.Fatalf("zero extent %v reads as something else (%v)", e, err)
			}
			off = e.End()
		}
	})
}
