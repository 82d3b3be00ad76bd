package catalog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/format/catalog"
)

func tiny(t testing.TB) []byte {
	b, err := os.ReadFile("testdata/tiny.pcat1")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMagicIsDerivedFromItsName(t *testing.T) {
	s := sha256.Sum256([]byte("Proxmox Backup Catalog file v1.0"))
	if !bytes.Equal(s[:8], tiny(t)[:8]) {
		t.Fatalf("magic %x", tiny(t)[:8])
	}
}

func TestVarintsAreThoseOfTheVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/catalog-varint.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ U64, I64 []struct{ Value, Hex string } }
	if err := json.Unmarshal(b, &v); err != nil || len(v.U64) < 10 || len(v.I64) < 10 {
		t.Fatalf("%d and %d vectors, %v", len(v.U64), len(v.I64), err)
	}
	for _, tc := range v.U64 {
		want, err := strconv.ParseUint(tc.Value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := hex.DecodeString(tc.Hex)
		if got, err := catalog.ReadUnsigned(bytes.NewReader(raw)); got != want || err != nil {
			t.Errorf("%s: read %d, %v", tc.Hex, got, err)
		}
		if got := binary.AppendUvarint(nil, want); !bytes.Equal(got, raw) {
			t.Errorf("%s: written as %x", tc.Value, got)
		}
	}
	for _, tc := range v.I64 {
		want, err := strconv.ParseInt(tc.Value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := hex.DecodeString(tc.Hex)
		if got, err := catalog.ReadSigned(bytes.NewReader(raw)); got != want || err != nil {
			t.Errorf("%s: read %d, %v", tc.Hex, got, err)
		}
		if got := catalog.AppendSigned(nil, want); !bytes.Equal(got, raw) {
			t.Errorf("%s: written as %x", tc.Value, got)
		}
	}
}

func TestVarintsOutOfRangeAreRefused(t *testing.T) {
	for _, tc := range []struct {
		hex    string
		signed bool
		want   error
	}{
		{"ffffffffffffffffff02", false, catalog.ErrFormat},
		{"8080808080808080808001", false, catalog.ErrFormat},
		{"ffff", false, io.ErrUnexpectedEOF},
		{"", false, io.EOF},
		{"80808080808080808001", true, catalog.ErrFormat},   // 2^63
		{"8180808080808080808100", true, catalog.ErrFormat}, // -(2^63+1)
		{"808080808080808080808000", true, catalog.ErrFormat},
		{"80", true, io.ErrUnexpectedEOF},
		{"", true, io.EOF},
	} {
		raw, err := hex.DecodeString(tc.hex)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if tc.signed {
			got, err = catalog.ReadSigned(bytes.NewReader(raw))
		} else {
			got, err = catalog.ReadUnsigned(bytes.NewReader(raw))
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s, signed %t: %v, %v, want %v", tc.hex, tc.signed, got, err, tc.want)
		}
	}
	if got, err := catalog.ReadSigned(bytes.NewReader([]byte{0})); got != 0 || err != nil {
		t.Errorf("00: %d, %v", got, err)
	}
	if got, err := catalog.ReadSigned(bytes.NewReader([]byte{0x80, 0})); got != 0 || err != nil {
		t.Errorf("8000: %d, %v", got, err)
	}
}

func FuzzSignedVarint(f *testing.F) {
	f.Add(int64(math.MinInt64), []byte{0x80, 0})
	f.Fuzz(func(t *testing.T, v int64, raw []byte) {
		b := catalog.AppendSigned(nil, v)
		if got, err := catalog.ReadSigned(bytes.NewReader(b)); got != v || err != nil || len(b) > 11 {
			t.Fatalf("%d: %x is read as %d, %v", v, b, got, err)
		}
		got, err := catalog.ReadSigned(bytes.NewReader(raw))
		if err != nil {
			return
		}
		if again, err := catalog.ReadSigned(bytes.NewReader(catalog.AppendSigned(nil, got))); again != got || err != nil {
			t.Fatalf("%x: %d, then %d, %v", raw, got, again, err)
		}
	})
}

// row is what a walk sees of an entry.
type row struct {
	Path  string
	Kind  catalog.Kind
	Size  uint64
	Mtime int64
}

func rows(b []byte) (all []row, err error) {
	c, err := catalog.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	err = c.Walk(c.Root(), func(path []byte, e catalog.Entry) error {
		if !strings.HasSuffix(string(path), "/"+e.Name) {
			return fmt.Errorf("%q is at %q", e.Name, path)
		}
		all = append(all, row{string(path), e.Kind, e.Size, e.Mtime})
		return nil
	})
	return all, err
}

// write makes a catalog of rows in the order of a walk.
func write(t errorer, all []row) []byte {
	var out bytes.Buffer
	w := catalog.NewWriter(&out)
	depth := 0
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range all {
		parts := strings.Split(r.Path[1:], "/")
		for ; depth >= len(parts); depth-- {
			check(w.EndDir())
		}
		name := parts[len(parts)-1]
		switch r.Kind {
		case catalog.Dir:
			check(w.StartDir(name))
			depth++
		case catalog.File:
			check(w.File(name, r.Size, r.Mtime))
		default:
			check(w.Add(r.Kind, name))
		}
	}
	for ; depth > 0; depth-- {
		check(w.EndDir())
	}
	check(w.Close())
	return out.Bytes()
}

type errorer interface{ Fatal(...any) }

func TestGoldenCatalogIsWrittenAndRead(t *testing.T) {
	want := []row{
		{Path: "/tiny.pxar.didx", Kind: catalog.Dir},
		{Path: "/tiny.pxar.didx/d", Kind: catalog.Dir},
		{Path: "/tiny.pxar.didx/d/f", Kind: catalog.File, Size: 3, Mtime: 1700000002},
		{Path: "/tiny.pxar.didx/l", Kind: catalog.Symlink},
	}
	if got := write(t, want); !bytes.Equal(got, tiny(t)) {
		t.Errorf("written:\n%s\nwant:\n%s", hex.Dump(got), hex.Dump(tiny(t)))
	}
	got, err := rows(tiny(t))
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %s", err, cmp.Diff(want, got))
	}
}

func TestEmptyDirectoriesHaveBlocks0100(t *testing.T) {
	b := write(t, []row{{Path: "/a", Kind: catalog.Dir}})
	if want := "91fd60f9c46758d5" + "0100" + "0501" + "64016102" + "0a00000000000000"; hex.EncodeToString(b) != want {
		t.Errorf("got %x, want %s", b, want)
	}
	if got, err := rows(write(t, nil)); len(got) != 0 || err != nil {
		t.Errorf("an empty root: %v, %v", got, err)
	}
}

// randomRows draws a tree in the order of a walk.
func randomRows(rng *rand.Rand, most int) (all []row) {
	kinds := []catalog.Kind{
		catalog.File, catalog.Symlink, catalog.Hardlink, catalog.BlockDevice, catalog.CharDevice, catalog.Fifo, catalog.Socket,
	}
	var fill func(path string, depth int)
	fill = func(path string, depth int) {
		for i := range rng.IntN(12) {
			if len(all) >= most {
				return
			}
			name := []byte{byte('a' + i)}
			for range rng.IntN(20) * rng.IntN(20) {
				if b := byte(rng.Uint32()); b != 0 && b != '/' {
					name = append(name, b)
				}
			}
			r := row{Path: path + "/" + string(name), Kind: kinds[rng.IntN(len(kinds))]}
			if depth < 8 && rng.IntN(3) == 0 {
				r.Kind = catalog.Dir
			}
			if r.Kind == catalog.File {
				r.Size, r.Mtime = rng.Uint64()>>rng.IntN(64), int64(rng.Uint64())>>rng.IntN(64)
			}
			all = append(all, r)
			if r.Kind == catalog.Dir {
				fill(r.Path, depth+1)
			}
		}
	}
	fill("", 0)
	return all
}

func TestTreesSurviveARoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		want := randomRows(rng, 5000)
		b := write(t, want)
		got, err := rows(b)
		if err != nil || !cmp.Equal(got, want) {
			t.Fatalf("%v\n%s", err, cmp.Diff(want, got))
		}
		if len(want) == 0 {
			return
		}
		c, err := catalog.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		r := want[rng.IntN(len(want))]
		e, err := c.Lookup(c.Root(), r.Path)
		if err != nil || e.Kind != r.Kind || e.Size != r.Size || e.Mtime != r.Mtime {
			t.Fatalf("lookup %q: %+v, %v", r.Path, e, err)
		}
		if _, err := c.Lookup(c.Root(), r.Path+"/\x01no"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("lookup below %q: %v", r.Path, err)
		}
	})
}

func TestListLookupFindAndSkip(t *testing.T) {
	b := write(t, []row{
		{Path: "/a.pxar.didx", Kind: catalog.Dir},
		{Path: "/a.pxar.didx/etc", Kind: catalog.Dir},
		{Path: "/a.pxar.didx/etc/hosts", Kind: catalog.File, Size: 7},
		{Path: "/a.pxar.didx/etc/passwd", Kind: catalog.File, Size: 9},
		{Path: "/a.pxar.didx/log", Kind: catalog.Fifo},
	})
	c, err := catalog.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	etc, err := c.Lookup(c.Root(), "//a.pxar.didx/etc/")
	if err != nil || !etc.IsDir() || etc.Name != "etc" {
		t.Fatalf("%+v, %v", etc, err)
	}
	var names []string
	for e, err := range c.List(etc) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != "hosts passwd" {
		t.Errorf("listed %q", got)
	}
	for _, path := range []string{"etc", "a.pxar.didx/log/x", "a.pxar.didx/etc/host"} {
		if _, err := c.Lookup(c.Root(), path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("lookup %s: %v", path, err)
		}
	}
	hosts, err := c.Lookup(etc, "hosts")
	if err != nil || hosts.Size != 7 {
		t.Fatalf("%+v, %v", hosts, err)
	}
	for _, err := range c.List(hosts) {
		if err == nil {
			t.Error("a file is listed")
		}
	}
	for found, err := range c.Find(c.Root(), func(p []byte, dir bool) bool { return !dir && bytes.Contains(p, []byte("/etc/")) }) {
		if err != nil || found.Path != "/a.pxar.didx/etc/hosts" {
			t.Errorf("found %+v, %v", found, err)
		}
		break
	}
	for _, tc := range []struct {
		at   string
		err  error
		want string
	}{
		{"/a.pxar.didx/etc", fs.SkipDir, "/a.pxar.didx /a.pxar.didx/etc /a.pxar.didx/log"},
		{"/a.pxar.didx/etc/hosts", fs.SkipDir, "/a.pxar.didx /a.pxar.didx/etc /a.pxar.didx/etc/hosts /a.pxar.didx/log"},
		{"/a.pxar.didx/etc/hosts", fs.SkipAll, "/a.pxar.didx /a.pxar.didx/etc /a.pxar.didx/etc/hosts"},
	} {
		var seen []string
		err := c.Walk(c.Root(), func(p []byte, _ catalog.Entry) error {
			seen = append(seen, string(p))
			if string(p) == tc.at {
				return tc.err
			}
			return nil
		})
		if got := strings.Join(seen, " "); err != nil || got != tc.want {
			t.Errorf("%v at %s: %q, %v", tc.err, tc.at, got, err)
		}
	}
}

func TestWriterRefusesWhatNoReaderTakes(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00", strings.Repeat("x", 4096)} {
		w := catalog.NewWriter(io.Discard)
		for what, err := range map[string]error{"dir": w.StartDir(name), "file": w.File(name, 1, 2), "fifo": w.Add(catalog.Fifo, name)} {
			if !errors.Is(err, catalog.ErrName) {
				t.Errorf("%s %.10q: %v", what, name, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Errorf("after the refusal of %.10q: %v", name, err)
		}
	}
	w := catalog.NewWriter(io.Discard)
	if err := w.Add(catalog.Dir, "d"); err == nil {
		t.Error("a directory is added like a symlink")
	}
	if err := w.Add(catalog.Kind('x'), "d"); err == nil {
		t.Error("an unknown kind is added")
	}
	if err := w.File(strings.Repeat("x", 4095), 0, 0); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err == nil {
		t.Error("closed twice")
	}
	if err := catalog.NewWriter(io.Discard).EndDir(); err == nil {
		t.Error("the root ends")
	}
	w = catalog.NewWriter(io.Discard)
	if err := errors.Join(w.StartDir("d")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("closed with a directory open")
	}
}

type failAt struct{ n int }

var errBroken = errors.New("disk gone")

func (f *failAt) Write(b []byte) (int, error) {
	if f.n--; f.n == 0 {
		return 0, errBroken
	}
	return len(b), nil
}

func TestWriterStopsAtTheFirstError(t *testing.T) {
	for n := 1; n < 9; n++ {
		w := catalog.NewWriter(&failAt{n})
		_ = w.StartDir("d")
		_ = w.File("f", 1, 2)
		_ = w.EndDir()
		if err := w.Close(); !errors.Is(err, errBroken) {
			t.Fatalf("write %d fails: %v", n, err)
		}
	}
}

// raw makes a file of blocks, the last one the root.
func raw(blocks ...string) []byte {
	b := bytes.Clone([]byte{0x91, 0xfd, 0x60, 0xf9, 0xc4, 0x67, 0x58, 0xd5})
	root := 0
	for _, block := range blocks {
		root = len(b)
		h, err := hex.DecodeString(strings.ReplaceAll(block, " ", ""))
		if err != nil {
			panic(err)
		}
		b = append(b, h...)
	}
	return binary.LittleEndian.AppendUint64(b, uint64(root))
}

func TestDamagedCatalogsAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"only the magic", raw()[:8]},
		{"no block", raw()},
		{"foreign magic", func() []byte { b := tiny(t); b[0] ^= 1; return b }()},
		{"root in the magic", func() []byte { b := tiny(t); b[47] = 7; return b }()},
		{"root behind the blocks", func() []byte { b := tiny(t); b[47] = 47; return b }()},
		{"root far away", func() []byte { b := tiny(t); b[54] = 0xff; return b }()},
		{"table of length 0", raw("00")},
		{"table longer than the file", raw("03 00")},
		{"table of 2^63 bytes", raw("80808080808080808001 00")},
		{"table's length without end", raw("ffffffffffffffffffff 00")},
		{"bytes left", raw("02 00 00")},
		{"more entries than bytes", raw("04 02 6c0161")},
		{"2^63 entries", raw("0b 80808080808080808001 00")},
		{"unknown kind", raw("04 01 780161")},
		{"empty name and a byte", raw("04 01 6c0000")},
		{"name beyond the table", raw("04 01 6c0261")},
		{"huge name", raw("0b 01 6cffffffffffffffff7f")},
		{"name with a slash", raw("04 01 6c012f")},
		{"name with a NUL", raw("04 01 6c0100")},
		{"dot", raw("04 01 6c012e")},
		{"dot dot", raw("05 01 6c022e2e")},
		{"file without size", raw("04 01 660161")},
		{"file without mtime", raw("05 01 66016101")},
		{"directory without distance", raw("04 01 640161")},
		{"distance 0, a loop", raw("05 01 64016100")},
		{"child in the magic", raw("05 01 64016101")},
		{"child before the file", raw("05 01 64016140")},
		{"child that reaches into its parent", raw("05 00", "05 01 64016102")},
		{"one child twice", raw("01 00", "09 02 64016102 64016202")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := rows(tc.b); !errors.Is(err, catalog.ErrFormat) {
				t.Fatalf("%v, %v", got, err)
			}
		})
	}
}

// Some programs leave entries without a name for what vanished.
func TestEntriesWithoutANameArePassedOver(t *testing.T) {
	//             5 entries: a file, a directory that lies nowhere, a symlink, "a", a file
	got, err := rows(raw("16 05 6600 00 00 6400 9f8d06 6c00 66 01 61 05 03 66 00 81 01 00"))
	if want := []row{{"/a", catalog.File, 5, 3}}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// A catalog of 60 directories that each hold the one before twice has 2^60
// paths.
func TestSharedDirectoriesDoNotTakeForEver(t *testing.T) {
	blocks := []string{"01 00"}
	for i := range 60 {
		distance := 0x0a
		if i == 0 {
			distance = 2
		}
		blocks = append(blocks, fmt.Sprintf("09 02 640161%02x 640162%02x", distance, distance))
	}
	start := time.Now()
	_, err := rows(raw(blocks...))
	if !errors.Is(err, catalog.ErrFormat) || time.Since(start) > 10*time.Second {
		t.Fatalf("%v after %v", err, time.Since(start))
	}
}

func TestDeepTreesAreWalkedUpToTheLimit(t *testing.T) {
	for _, tc := range []struct {
		levels int
		ok     bool
	}{{100_000, true}, {catalog.MaxPath/2 + 2, false}} {
		var out bytes.Buffer
		w := catalog.NewWriter(&out)
		for range tc.levels {
			if err := w.StartDir("d"); err != nil {
				t.Fatal(err)
			}
		}
		for range tc.levels {
			if err := w.EndDir(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := catalog.Open(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = c.Walk(c.Root(), func([]byte, catalog.Entry) error { n++; return nil })
		if tc.ok && (err != nil || n != tc.levels) || !tc.ok && !errors.Is(err, catalog.ErrFormat) {
			t.Errorf("%d levels: %d entries, %v", tc.levels, n, err)
		}
	}
}

type broken struct {
	io.ReaderAt
	from int64
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.from {
		return 0, errBroken
	}
	return b.ReaderAt.ReadAt(p, off)
}

func TestErrorsOfTheReaderAreNotDamage(t *testing.T) {
	b := tiny(t)
	for from := range int64(8) {
		if _, err := catalog.Open(broken{bytes.NewReader(b), from}, int64(len(b))); !errors.Is(err, errBroken) || errors.Is(err, catalog.ErrFormat) {
			t.Fatalf("open: %v", err)
		}
	}
	if _, err := catalog.Open(bytes.NewReader(b), int64(len(b))+1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short file: %v", err)
	}
	r := &broken{bytes.NewReader(b), 1 << 20}
	c, err := catalog.Open(r, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	r.from = 0
	if err := c.Walk(c.Root(), func([]byte, catalog.Entry) error { return nil }); !errors.Is(err, errBroken) || errors.Is(err, catalog.ErrFormat) {
		t.Errorf("walk: %v", err)
	}
	if _, err := c.Lookup(c.Root(), "x"); !errors.Is(err, errBroken) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lookup: %v", err)
	}
}

// What can be walked can be written again and walks alike, and what the writer
// made is the same when it is written again.
func FuzzWalk(f *testing.F) {
	f.Add(tiny(f))
	f.Add(write(f, randomRows(rand.New(rand.NewPCG(1, 1)), 100)))
	f.Add(raw("01 00", "09 02 64016102 64016202"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := rows(b)
		if err != nil {
			if !errors.Is(err, catalog.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again := write(t, got)
		if rewritten, err := rows(again); err != nil || !cmp.Equal(rewritten, got) {
			t.Fatalf("%v\n%s", err, cmp.Diff(got, rewritten))
		}
	})
}

func BenchmarkMillionEntries(b *testing.B) {
	make1M := func(out io.Writer) {
		w := catalog.NewWriter(out)
		for d := range 10_000 {
			_ = w.StartDir("dir" + strconv.Itoa(d))
			for range 99 {
				_ = w.File("some-file-name.txt", 12345, 1700000000)
			}
			_ = w.EndDir()
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	var out bytes.Buffer
	make1M(&out)
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(out.Len()))
		for b.Loop() {
			make1M(io.Discard)
		}
	})
	b.Run("walk", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(out.Len()))
		for b.Loop() {
			c, err := catalog.Open(bytes.NewReader(out.Bytes()), int64(out.Len()))
			if err == nil {
				err = c.Walk(c.Root(), func([]byte, catalog.Entry) error { return nil })
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
