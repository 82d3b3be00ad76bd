package inspect_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/inspect"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

var update = flag.Bool("update", false, "rewrite the dumps in testdata")

func dump(b []byte, o inspect.Options) (string, inspect.Report, error) {
	var out strings.Builder
	rep, err := inspect.File(bytes.NewReader(b), int64(len(b)), o, func(f inspect.Field) error {
		fmt.Fprintln(&out, f.Line())
		return nil
	})
	fmt.Fprintf(&out, "%s, problems: %d\n", rep.Kind, rep.Problems)
	return out.String(), rep, err
}

func samples(t testing.TB) []string {
	all, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, p := range all {
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && filepath.Ext(p) != ".dump" {
			files = append(files, p)
		}
	}
	return files
}

func read(t testing.TB, path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDumpsOfGoodFilesAreAsRecorded(t *testing.T) {
	for _, path := range samples(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			got, rep, err := dump(read(t, path), inspect.Options{})
			if err != nil || rep.Problems != 0 {
				t.Errorf("err = %v, %d problems", err, rep.Problems)
			}
			if *update {
				if err := os.WriteFile(path+".dump", []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(read(t, path+".dump")); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestDamageIsShownWhereItIs(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		spoil      func([]byte) []byte
		want       string
	}{
		{"flipped payload", "hello-uncompressed.blob", func(b []byte) []byte { b[20] ^= 1; return b }, "crc"},
		{"short blob", "hello-uncompressed.blob", func(b []byte) []byte { return b[:10] }, "ends after 10 bytes"},
		{"foreign magic", "two-chunks.img.fidx", func(b []byte) []byte { b[0] ^= 1; return b }, "no format"},
		{"flipped digest", "two-chunks.img.fidx", func(b []byte) []byte { b[4100] ^= 1; return b }, "checksum"},
		{"missing slot", "two-chunks.img.fidx", func(b []byte) []byte { return b[:4128] }, "asks for 2 entries"},
		{"odd chunk size", "two-chunks.img.fidx", func(b []byte) []byte { b[72] = 3; return b }, "power of two"},
		{"huge image", "two-chunks.img.fidx", func(b []byte) []byte { b[71] = 0xff; return b }, "no image has this size"},
		{"half an entry", "three-chunks.pxar.didx", func(b []byte) []byte { return b[:len(b)-1] }, "behind the last whole entry"},
		{"ends go back", "three-chunks.pxar.didx", func(b []byte) []byte { clear(b[4136:4144]); return b }, "not behind"},
		{"no entries", "three-chunks.pxar.didx", func(b []byte) []byte { return b[:4096] }, "without entries"},
		{"key cut short", "key-none.json", func(b []byte) []byte { return bytes.Replace(b, []byte("AAEC"), nil, 1) }, "not 32"},
		{"qcow2 version", "v3.qcow2", func(b []byte) []byte { b[7] = 4; return b }, "only 2 and 3"},
		{"backing name outside", "v3.qcow2", func(b []byte) []byte { b[8] = 0x7f; return b }, "outside the header"},
		{"overlay's header", "three-blocks.overlay", func(b []byte) []byte { b[50] ^= 1; return b }, "checksum is wrong"},
		{"overlay's map", "three-blocks.overlay", func(b []byte) []byte { b[5000] ^= 1; b[9000] ^= 1; return b }, "both slots"},
		{"overlay cut off", "three-blocks.overlay", func(b []byte) []byte { return b[:9000] }, "before map page 0"},
		{"volume's header", "complete.volume", func(b []byte) []byte { b[9] = 9; return b }, "version 9"},
		{"volume cut off", "complete.volume", func(b []byte) []byte { return b[:100] }, "header of a volume"},
		{"overlay's end", "three-blocks.overlay", func(b []byte) []byte { return b[:len(b)-1] }, "asks for"},
		{"catalog cut off", "tiny.pcat1", func(b []byte) []byte { return b[:12] }, "too short"},
		{"table too long", "tiny.pcat1", func(b []byte) []byte { b[8] = 0x7f; return b }, "are possible"},
		{"table too short", "tiny.pcat1", func(b []byte) []byte { b[8] = 5; return b }, "behind the end of its directory"},
		{"bytes left in a table", "tiny.pcat1", func(b []byte) []byte { b[0x14] = 1; return b }, "behind the last entry"},
		{"unknown kind", "tiny.pcat1", func(b []byte) []byte { b[10] = 'x'; return b }, "unknown kind"},
		{"name with a slash", "tiny.pcat1", func(b []byte) []byte { b[12] = '/'; return b }, "not a name"},
		{"huge name", "tiny.pcat1", func(b []byte) []byte { b[11], b[12] = 0xff, 0x7f; return b }, "a name of"},
		{"child nowhere", "tiny.pcat1", func(b []byte) []byte { b[0x18] = 0; return b }, "no block can be there"},
		{"root elsewhere", "tiny.pcat1", func(b []byte) []byte { b[0x2f] = 9; return b }, "the last one starts there"},
		{"archive cut off", "tiny.pxar", func(b []byte) []byte { return b[:len(b)-1] }, "only 87 bytes more"},
		{"item's header cut off", "tiny.ppxar", func(b []byte) []byte { return b[:40] }, "in the header"},
		{"item of 15 bytes", "tiny.pxar", func(b []byte) []byte { b[8] = 15; return b }, "at least 16"},
		{"short stat", "tiny.pxar", func(b []byte) []byte { b[8] = 55; return b }, "40 bytes of content"},
		{"odd table", "tiny.pxar", func(b []byte) []byte { b[0xe7]++; return b }, "whole number"},
		{"tape file cut off", "chunks.tapefile", func(b []byte) []byte { return b[:1000] }, "within block 0"},
		{"tape file without end", "chunks.tapefile", func(b []byte) []byte { b[8] = 0; return b }, "no last block"},
		{"block of another number", "chunks.tapefile", func(b []byte) []byte { b[12] = 3; return b }, "block 3 where block 0"},
		{"block behind the last", "chunks.tapefile", func(b []byte) []byte { return append(b, b...) }, "behind the last one"},
		{"content of a tape file", "chunks.tapefile", func(b []byte) []byte { b[24] ^= 1; return b }, "a content with magic"},
		{"media catalog cut off", "tape.mediacatalog", func(b []byte) []byte { return b[:150] }, "good up to byte 74"},
		{"record of a media catalog", "tape.mediacatalog", func(b []byte) []byte { b[171] = 'X'; return b }, "tag 0x58"},
		{"empty file", "v3.qcow2", func([]byte) []byte { return nil }, "no format"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, rep, err := dump(tc.spoil(read(t, "testdata/"+tc.file)), inspect.Options{})
			if err != nil || rep.Problems == 0 || !strings.Contains(got, tc.want) || !strings.Contains(got, "<--") {
				t.Fatalf("err = %v, %d problems:\n%s\nwant %q", err, rep.Problems, got, tc.want)
			}
		})
	}
}

func TestKeyIsNeverShown(t *testing.T) {
	got, _, err := dump(read(t, "testdata/key-none.json"), inspect.Options{})
	if err != nil || strings.Contains(got, "AAECAwQF") || strings.Contains(got, "000102030405") {
		t.Fatalf("err = %v, dump:\n%s", err, got)
	}
}

func TestKeyOnATapeIsNeverShown(t *testing.T) {
	label := tapefile.SetLabel{Pool: "daily"}
	h, err := label.Header(uuid.UUID{}, 1, read(t, "testdata/key-none.json"))
	if err != nil {
		t.Fatal(err)
	}
	content, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, tapefile.BlockSize)
	tapefile.BlockHeader{Size: copy(b[tapefile.BlockHeaderSize:], content), Last: true}.Put(b)
	got, _, err := dump(b, inspect.Options{})
	if err != nil || strings.Contains(got, "AAECAwQF") || !strings.Contains(got, "not shown") {
		t.Fatalf("err = %v, dump:\n%s", err, got)
	}
}

func TestOnlySomeRecordsOfAMediaCatalogAreShown(t *testing.T) {
	got, _, err := dump(read(t, "testdata/tape.mediacatalog"), inspect.Options{Entries: 2})
	if err != nil || !strings.Contains(got, "3 entries not shown") || !strings.Contains(got, "snapshot:") || strings.Contains(got, "chunk:") {
		t.Fatalf("err = %v, dump:\n%s", err, got)
	}
}

func TestAllEntriesAreShownOnRequest(t *testing.T) {
	long := read(t, "testdata/three-chunks.pxar.didx")
	for _, tc := range []struct{ entries, lines int }{{-1, 3}, {1, 2}, {0, 3}} {
		got, _, err := dump(long, inspect.Options{Entries: tc.entries})
		if n := strings.Count(got, "  chunk "); err != nil || n != tc.lines {
			t.Errorf("entries %d: %d shown, %v", tc.entries, n, err)
		}
	}
}

func TestOnlySomeDirectoriesOfACatalogAreShown(t *testing.T) {
	var out bytes.Buffer
	w := catalog.NewWriter(&out)
	for d := range 20 {
		if err := w.StartDir(fmt.Sprint("d", d)); err != nil {
			t.Fatal(err)
		}
		for f := range 20 {
			if err := w.File(fmt.Sprint("f", f), 1, 2); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.EndDir(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ entries, files, dirs int }{{0, 8 * 9, 9}, {-1, 400, 20}, {1, 2, 2}} {
		got, rep, err := dump(out.Bytes(), inspect.Options{Entries: tc.entries})
		if err != nil || rep.Problems > 0 || rep.Kind != "catalog" {
			t.Fatalf("%+v, %v\n%s", rep, err, got)
		}
		if files, dirs := strings.Count(got, "  file: "), strings.Count(got, "before: the block at"); files != tc.files || dirs != tc.dirs {
			t.Errorf("entries %d: %d files, %d directories", tc.entries, files, dirs)
		}
	}
}

type broken struct{ io.ReaderAt }

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

var errBroken = errors.New("disk gone")

func TestFailingReaderIsAnErrorNotDamage(t *testing.T) {
	_, err := inspect.File(broken{}, 100, inspect.Options{}, func(inspect.Field) error { return nil })
	if !errors.Is(err, errBroken) {
		t.Fatalf("err = %v", err)
	}
}

func FuzzFileStaysInsideTheFile(f *testing.F) {
	for _, path := range samples(f) {
		f.Add(read(f, path))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		problems := 0
		rep, err := inspect.File(bytes.NewReader(b), int64(len(b)), inspect.Options{Entries: -1}, func(field inspect.Field) error {
			if field.Problem != "" {
				problems++
			}
			if n := field.Length; field.Raw != nil && (field.Offset < 0 || n < int64(len(field.Raw)) || field.Offset+n > int64(len(b))) {
				t.Fatalf("%+v is outside %d bytes", field, len(b))
			}
			if field.Raw != nil && !bytes.HasPrefix(b[field.Offset:], field.Raw) {
				t.Fatalf("%+v does not show the file's bytes", field)
			}
			if line := field.Line(); strings.ContainsRune(line, 0x1b) {
				t.Fatalf("%q carries a control character", line)
			}
			return nil
		})
		if err != nil || rep.Problems != problems {
			t.Fatalf("%d problems, report says %d, err = %v", problems, rep.Problems, err)
		}
	})
}
