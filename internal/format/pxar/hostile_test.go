package pxar_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

var le = binary.LittleEndian

func u64(v ...uint64) []byte {
	var b []byte
	for _, n := range v {
		b = le.AppendUint64(b, n)
	}
	return b
}

// raw makes archives that no Writer makes.
type raw struct{ b []byte }

func (r *raw) item(t pxar.Type, content ...[]byte) *raw {
	r.b = pxar.AppendItem(r.b, t, content...)
	return r
}

func (r *raw) header(t pxar.Type, size uint64) *raw {
	r.b = append(r.b, u64(uint64(t), size)...)
	return r
}

func (r *raw) name(s string) *raw { return r.item(pxar.TypeFilename, []byte(s+"\x00")) }

func (r *raw) meta(mode uint32) *raw {
	r.b = (&pxar.Metadata{Mode: mode}).Append(r.b)
	return r
}

// table ends a directory whose ENTRY is at entry; lines are hash, start, size.
func (r *raw) table(entry int, lines ...[3]uint64) *raw {
	at := uint64(len(r.b))
	var b []byte
	for _, l := range lines {
		b = append(b, u64(l[0], at-l[1], l[2])...)
	}
	b = append(b, u64(0xef5eed5b753e1555, at-uint64(entry), uint64(len(b)+24+16))...)
	return r.item(pxar.TypeGoodbye, b)
}

// one wraps the items of an entry named "x" into a root with a right table.
func one(f func(r *raw)) []byte {
	r := new(raw).meta(pxar.ModeDirectory)
	start := len(r.b)
	r.name("x")
	f(r)
	return r.table(0, [3]uint64{pxar.NameHash("x"), uint64(start), uint64(len(r.b) - start)}).b
}

func attr(mode uint32, t pxar.Type, contents ...[]byte) []byte {
	return one(func(r *raw) {
		r.meta(mode)
		for _, c := range contents {
			r.item(t, c)
		}
		if mode == pxar.ModeFile {
			r.item(pxar.TypePayload)
		}
	})
}

// hostile archives are refused by Reader and Archive alike.
func hostile() map[string][]byte {
	const file, fifo = pxar.ModeFile, pxar.ModeFIFO
	text := func(s string) []byte { return []byte(s) }
	head := func() *raw { return new(raw).meta(pxar.ModeDirectory) }
	version := func(v uint64) *raw { return new(raw).item(pxar.TypeVersion, u64(v)) }
	m := map[string][]byte{
		"nothing":                        {},
		"half a header":                  text("\xef\xac\x88\xe5"),
		"an item of 15 bytes":            new(raw).header(pxar.TypeEntry, 15).b,
		"an item of 2^64-1 bytes":        new(raw).header(pxar.TypeEntry, 1<<64-1).b,
		"an unknown start":               new(raw).item(0x1234, make([]byte, 40)).b,
		"a name at the start":            new(raw).name("x").b,
		"a root that is a file":          new(raw).meta(file).item(pxar.TypePayload).b,
		"a root that is a hard link":     new(raw).item(pxar.TypeHardlink, u64(1), text("x\x00")).b,
		"a short stat":                   new(raw).item(pxar.TypeEntry, make([]byte, 39)).b,
		"a long stat":                    new(raw).item(pxar.TypeEntry, make([]byte, 41)).b,
		"version 3":                      version(3).meta(pxar.ModeDirectory).table(24).b,
		"two versions":                   version(2).item(pxar.TypeVersion, u64(2)).meta(pxar.ModeDirectory).table(48).b,
		"two preludes":                   version(2).item(pxar.TypePrelude).item(pxar.TypePrelude).meta(pxar.ModeDirectory).table(56).b,
		"a prelude without a version":    new(raw).item(pxar.TypePrelude).meta(pxar.ModeDirectory).table(16).b,
		"a huge prelude":                 version(2).header(pxar.TypePrelude, 1<<40).b,
		"a prelude that is not there":    version(2).header(pxar.TypePrelude, 10<<20).b,
		"a root that does not end":       head().b,
		"a mode of no type":              one(func(r *raw) { r.meta(0o644) }),
		"a mode of 33 bits":              one(func(r *raw) { r.item(pxar.TypeEntry, u64(1<<32|fifo, 0, 0, 0, 0)) }),
		"10^9 nanoseconds":               one(func(r *raw) { r.item(pxar.TypeEntry, u64(fifo, 0, 0, 0, 1e9)) }),
		"a name without an entry":        one(func(*raw) {}),
		"two names":                      one(func(r *raw) { r.name("y").meta(fifo) }),
		"a file without content":         one(func(r *raw) { r.meta(file) }),
		"a device without a number":      one(func(r *raw) { r.meta(pxar.ModeCharDevice) }),
		"a FIFO with content":            one(func(r *raw) { r.meta(fifo).item(pxar.TypePayload) }),
		"a file with a target":           one(func(r *raw) { r.meta(file).item(pxar.TypeSymlink, text("x\x00")) }),
		"a reference in version 1":       one(func(r *raw) { r.meta(file).item(pxar.TypePayloadRef, u64(16, 0)) }),
		"a version inside":               one(func(r *raw) { r.item(pxar.TypeVersion, u64(2)).meta(fifo) }),
		"a hard link behind an entry":    one(func(r *raw) { r.meta(file).item(pxar.TypeHardlink, u64(1), text("x\x00")) }),
		"a hard link by 0 bytes":         one(func(r *raw) { r.item(pxar.TypeHardlink, u64(0), text("x\x00")) }),
		"a hard link before the start":   one(func(r *raw) { r.item(pxar.TypeHardlink, u64(57), text("x\x00")) }),
		"a hard link without a path":     one(func(r *raw) { r.item(pxar.TypeHardlink, u64(1)) }),
		"a hard link with an empty path": one(func(r *raw) { r.item(pxar.TypeHardlink, u64(1), text("\x00")) }),
		"a symlink without a NUL":        one(func(r *raw) { r.meta(pxar.ModeSymlink).item(pxar.TypeSymlink, text("ab")) }),
		"a symlink to nothing":           one(func(r *raw) { r.meta(pxar.ModeSymlink).item(pxar.TypeSymlink, text("\x00")) }),
		"a symlink with a NUL":           one(func(r *raw) { r.meta(pxar.ModeSymlink).item(pxar.TypeSymlink, text("a\x00b\x00")) }),
		"a long symlink": one(func(r *raw) {
			r.meta(pxar.ModeSymlink).item(pxar.TypeSymlink, text(strings.Repeat("x", 4097)+"\x00"))
		}),
		"a short device":                 one(func(r *raw) { r.meta(pxar.ModeCharDevice).item(pxar.TypeDevice, u64(1)) }),
		"an xattr without a NUL":         attr(fifo, pxar.TypeXattr, text("user.x")),
		"an xattr without a name":        attr(fifo, pxar.TypeXattr, text("\x00v")),
		"an xattr with a long name":      attr(fifo, pxar.TypeXattr, text(strings.Repeat("x", 256)+"\x00")),
		"a long xattr":                   attr(fifo, pxar.TypeXattr, text("user.x\x00"+strings.Repeat("x", 65791-6))),
		"a short ACL entry":              attr(fifo, pxar.TypeACLUser, u64(1)),
		"a long ACL entry":               attr(fifo, pxar.TypeACLDefaultGroup, u64(1, 2, 3)),
		"a short group entry":            attr(fifo, pxar.TypeACLGroupObj, nil),
		"two group entries":              attr(fifo, pxar.TypeACLGroupObj, u64(1), u64(1)),
		"two default ACLs":               attr(file, pxar.TypeACLDefault, u64(1, 2, 3, 4), u64(1, 2, 3, 4)),
		"two file capabilities":          attr(file, pxar.TypeFCaps, nil, nil),
		"two quota projects":             attr(file, pxar.TypeQuotaProjectID, u64(1), u64(1)),
		"a name of 10 GiB":               head().header(pxar.TypeFilename, 10<<30).b,
		"an xattr of 10 GiB":             one(func(r *raw) { r.meta(fifo).header(pxar.TypeXattr, 10<<30) }),
		"content of 2^63 bytes":          one(func(r *raw) { r.meta(file).header(pxar.TypePayload, 1<<63) }),
		"content behind the end":         one(func(r *raw) { r.meta(file).header(pxar.TypePayload, 10<<30) }),
		"a table of an odd size":         head().item(pxar.TypeGoodbye, make([]byte, 25)).b,
		"an empty table":                 head().item(pxar.TypeGoodbye).b,
		"a table without the last line":  head().item(pxar.TypeGoodbye, u64(1, 56, 40)).b,
		"a last line with another size":  head().item(pxar.TypeGoodbye, u64(0xef5eed5b753e1555, 56, 64)).b,
		"a last line that leads too far": head().item(pxar.TypeGoodbye, u64(0xef5eed5b753e1555, 57, 40)).b,
		"a last line that leads nowhere": head().item(pxar.TypeGoodbye, u64(0xef5eed5b753e1555, 0, 40)).b,
		"a byte behind the root":         append(head().table(0).b, 0),
		"a root behind the root":         append(head().table(0).b, head().table(0).b...),
		"a table of 2^40 entries":        head().header(pxar.TypeGoodbye, 24<<40).item(pxar.TypeGoodbye, u64(0xef5eed5b753e1555, 56, 24<<40)).b,
	}
	for _, bad := range []string{"", ".", "..", "a/b", "/", "../x", "a\x00b", strings.Repeat("n", 4097)} {
		r := head().name(bad)
		m[fmt.Sprintf("the name %.10q", bad)] = r.meta(fifo).table(0, [3]uint64{pxar.NameHash(bad), 56, uint64(len(r.b) - 56)}).b
	}
	// Tables that say other than what is there.
	x := head().name("x").meta(pxar.ModeDirectory).table(74) // 56 to 170
	end := uint64(len(x.b))
	lie := func(lines ...[3]uint64) []byte {
		return (&raw{bytes.Clone(x.b)}).table(0, lines...).b
	}
	h := pxar.NameHash("x")
	m["a table that leaves out"] = lie()
	m["a table with another hash"] = lie([3]uint64{h + 1, 56, end - 56})
	m["a child that is its own directory"] = lie([3]uint64{h, 0, end})
	m["a child that lies ahead"] = lie([3]uint64{h, end + 100, 100})
	m["a child that is the table"] = lie([3]uint64{h, end, end - 56})
	m["a child that reaches into the table"] = lie([3]uint64{h, 56, end - 56 + 40})
	m["a child of 2^64-1 bytes"] = lie([3]uint64{h, 56, 1<<64 - 1})
	m["a child that ends too early"] = lie([3]uint64{h, 56, end - 56 - 24})
	m["a child of no bytes"] = lie([3]uint64{h, 56, 0})
	return m
}

func TestHostileArchivesAreRefused(t *testing.T) {
	for name, b := range hostile() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, _, err := walk(b, nil); !errors.Is(err, pxar.ErrFormat) {
				t.Errorf("Reader: err = %v", err)
			}
			a, err := open(b, nil)
			if err == nil {
				if _, _, err = roam(a, true, 10); err == nil {
					_, err = a.Lookup("x", "y")
				}
			}
			if !errors.Is(err, pxar.ErrFormat) {
				t.Errorf("Archive: err = %v", err)
			}
			if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 4<<20 {
				t.Errorf("%d bytes were allocated", after.TotalAlloc-before.TotalAlloc)
			}
		})
	}
}

// Some programs list what they skipped, or count wrong.
func TestWrongTablesAreNotNeededToReadInARow(t *testing.T) {
	all := hostile()
	for _, name := range []string{
		"a table that leaves out", "a table with another hash", "a child that is its own directory",
		"a child that lies ahead", "a child that is the table", "a child that reaches into the table", "a child of 2^64-1 bytes",
		"a child that ends too early", "a child of no bytes",
	} {
		t.Run(name, func(t *testing.T) {
			got, n, err := inARow(all[name])
			if !slices.Equal(got, []string{"/", "/x"}) || n != 1 || err != nil {
				t.Errorf("%q, %d flaws, %v", got, n, err)
			}
		})
	}
	for _, name := range []string{
		"a table of an odd size", "an empty table", "a table without the last line", "a last line with another size", "a last line that leads too far",
		"a byte behind the root", "a root behind the root",
	} {
		t.Run(name, func(t *testing.T) {
			got, n, err := inARow(all[name])
			if !slices.Equal(got, []string{"/"}) || n != 1 || err != nil {
				t.Errorf("%q, %d flaws, %v", got, n, err)
			}
		})
	}
	t.Run("a child that was skipped, and all tables of it", func(t *testing.T) {
		r := new(raw).meta(pxar.ModeDirectory)
		d := len(r.b)
		r.name("d").meta(pxar.ModeDirectory).table(d+18, [3]uint64{pxar.NameHash("dangling"), uint64(d + 18 + 56), 0})
		f := len(r.b)
		r.name("f").meta(pxar.ModeFile).item(pxar.TypePayload, []byte("content"))
		lines := [][3]uint64{{pxar.NameHash("d"), uint64(d), uint64(f - d)}, {1, uint64(f), 0}, {pxar.NameHash("f"), uint64(f), 81}}
		if lines[0][0] > lines[2][0] { // the middle one is slot 0
			lines[0], lines[2] = lines[2], lines[0]
		}
		r.table(0, lines...)
		got, n, err := inARow(r.b)
		if !slices.Equal(got, []string{"/", "/d", "/f content"}) || n != 2 || err != nil {
			t.Errorf("%q, %d flaws, %v", got, n, err)
		}
		// Nor to read by the tables, as long as they have what is there.
		a, err := open(r.b, nil)
		must(t, err)
		all, _, err := roam(a, true, 10)
		if len(all) != 3 || err != nil {
			t.Errorf("%v, %v", all, err)
		}
	})
}

// inARow lists the paths of an archive, with contents.
func inARow(b []byte) (all []string, flaws int64, err error) {
	r, err := pxar.NewReader(bytes.NewReader(b), nil)
	if err != nil {
		return nil, 0, err
	}
	for {
		e, err := r.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			flaws, _ := r.Flaws()
			return all, flaws, err
		}
		if e.Kind == pxar.End {
			continue
		}
		path := pxar.Join(r.Path())
		if e.Kind == pxar.File {
			content, err := io.ReadAll(r)
			if err != nil {
				return all, 0, err
			}
			path += " " + string(content)
		}
		all = append(all, path)
	}
}

func TestArchiveCutShortAnywhereIsRefused(t *testing.T) {
	for name, step := range map[string]int{"tiny.pxar": 1, "tiny-prelude.mpxar": 1, "full.pxar": 7, "full.mpxar": 7} {
		b := file(t, name)
		for n := 0; n < len(b); n += step {
			if _, _, err := walk(b[:n], nil); !errors.Is(err, pxar.ErrFormat) {
				t.Fatalf("%s, %d bytes: Reader: err = %v", name, n, err)
			}
			if a, err := open(b[:n], nil); err == nil {
				if _, _, err := roam(a, false, 100); !errors.Is(err, pxar.ErrFormat) {
					t.Fatalf("%s, %d bytes: Archive: err = %v", name, n, err)
				}
			}
		}
	}
}

func TestPayloadStreamIsChecked(t *testing.T) {
	meta, good := file(t, "tiny.mpxar"), file(t, "tiny.ppxar")
	for name, spoil := range map[string]func([]byte) []byte{
		"empty":                func([]byte) []byte { return []byte{} },
		"another start":        func(b []byte) []byte { b[0] ^= 1; return b },
		"another header":       func(b []byte) []byte { b[16] ^= 1; return b },
		"another size":         func(b []byte) []byte { b[24]++; return b },
		"cut before the file":  func(b []byte) []byte { return b[:16] },
		"cut in the header":    func(b []byte) []byte { return b[:30] },
		"cut in the content":   func(b []byte) []byte { return b[:33] },
		"reference far behind": func(b []byte) []byte { return b[16:] },
	} {
		t.Run(name, func(t *testing.T) {
			b := spoil(bytes.Clone(good))
			if _, _, err := walk(meta, b); !errors.Is(err, pxar.ErrFormat) {
				t.Errorf("Reader: err = %v", err)
			}
			if name == "another start" { // random access does not look there
				return
			}
			a, err := open(meta, b)
			must(t, err)
			if _, _, err := roam(a, true, 10); !errors.Is(err, pxar.ErrFormat) {
				t.Errorf("Archive: err = %v", err)
			}
		})
	}
	a, err := open(meta, nil)
	must(t, err)
	if _, _, err := roam(a, true, 10); !errors.Is(err, pxar.ErrNoPayload) {
		t.Errorf("err = %v", err)
	}
	if _, err := pxar.NewReader(bytes.NewReader(file(t, "tiny.pxar")), bytes.NewReader(good)); !errors.Is(err, pxar.ErrFormat) {
		t.Errorf("version 1 with a payload stream: %v", err)
	}
}

func TestHardLinksLeadToFilesOnly(t *testing.T) {
	for name, f := range map[string]func(r *raw) (link uint64){
		"to a FIFO":       func(r *raw) uint64 { r.name("a").meta(pxar.ModeFIFO); return 56 },
		"into the root":   func(*raw) uint64 { return 0 },
		"into the middle": func(r *raw) uint64 { r.name("a").meta(pxar.ModeFIFO); return 60 },
		"to a hard link":  func(r *raw) uint64 { r.name("a").item(pxar.TypeHardlink, u64(56), []byte("x\x00")); return 56 },
		"to a directory":  func(r *raw) uint64 { r.name("a").meta(pxar.ModeDirectory).table(74); return 56 },
		"to inside a file": func(r *raw) uint64 {
			r.name("a").meta(pxar.ModeFile).item(pxar.TypePayload, make([]byte, 99))
			return 160
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := new(raw).meta(pxar.ModeDirectory)
			link := f(r)
			var lines [][3]uint64
			if len(r.b) > 56 {
				lines = append(lines, [3]uint64{pxar.NameHash("a"), 56, uint64(len(r.b) - 56)})
			}
			at := uint64(len(r.b))
			r.name("x").item(pxar.TypeHardlink, u64(at-link), []byte("../../etc/shadow\x00"))
			x := [3]uint64{pxar.NameHash("x"), at, uint64(len(r.b)) - at}
			lines = append(lines, x)
			if len(lines) == 2 && lines[0][0] < lines[1][0] { // the larger hash is slot 0
				lines[0], lines[1] = lines[1], lines[0]
			}
			b := r.table(0, lines...).b
			if _, _, err := walk(b, nil); err != nil {
				t.Fatal(err) // links are the business of who follows them
			}
			a, err := open(b, nil)
			must(t, err)
			e, err := a.Lookup("x")
			must(t, err)
			if got, err := a.Resolve(e); !errors.Is(err, pxar.ErrFormat) {
				t.Errorf("%+v, %v", got, err)
			}
			if _, err := a.Content(e); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("err = %v", err)
			}
			if _, err := pxar.SplitTarget(e.Target); !errors.Is(err, pxar.ErrFormat) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestTargetsThatLeadElsewhereAreRefused(t *testing.T) {
	for _, path := range []string{"", "/", "/etc", "..", "a/..", "a/../b", "./a", "a//b", "a/", "a/."} {
		if names, err := pxar.SplitTarget(path); !errors.Is(err, pxar.ErrFormat) {
			t.Errorf("%q: %q, %v", path, names, err)
		}
	}
	a, err := open(file(t, "tiny.pxar"), nil)
	must(t, err)
	if _, err := a.LookupPath("d/../d"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("err = %v", err)
	}
	if e, err := a.LookupPath("//d/./f/"); err != nil || e.Name != "f" {
		t.Errorf("%v, %v", e, err)
	}
	if e, err := a.LookupPath("/"); err != nil || e.Name != "" {
		t.Errorf("%v, %v", e, err)
	}
	for _, path := range []string{"x", "d/x", "d/f/x", "l/f"} {
		if _, err := a.LookupPath(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestNamesOfOneHashAreAllFound uses tables that claim equal hashes, since
// nobody has names that have them.
func TestNamesOfOneHashAreAllFound(t *testing.T) {
	for _, n := range []int{1, 2, 5, 40, 64} {
		for right := range n {
			r := new(raw).meta(pxar.ModeDirectory)
			var lines [][3]uint64
			for i := range n {
				at := uint64(len(r.b))
				name := "other"
				if i == right {
					name = "k"
				}
				r.name(name).meta(pxar.ModeDirectory).table(int(at) + 17 + len(name))
				lines = append(lines, [3]uint64{pxar.NameHash("k"), at, uint64(len(r.b)) - at})
			}
			a, err := open(r.table(0, lines...).b, nil)
			must(t, err)
			e, err := a.Lookup("k")
			if err != nil || uint64(e.Offset) != lines[right][1] || e.EndPos != e.Offset+int64(lines[right][2]) {
				t.Fatalf("the %d. of %d names: %+v, %v", right, n, e, err)
			}
		}
	}
	// Many names, none of them the right one: the search ends early.
	r := new(raw).meta(pxar.ModeDirectory)
	var lines [][3]uint64
	for range 100_000 {
		at := uint64(len(r.b))
		r.name("other").meta(pxar.ModeFIFO)
		lines = append(lines, [3]uint64{pxar.NameHash("x"), at, uint64(len(r.b)) - at})
	}
	c := &counter{ReaderAt: bytes.NewReader(r.table(0, lines...).b)}
	a, err := pxar.OpenArchive(c, int64(len(r.b)), nil, 0)
	must(t, err)
	if _, err := a.Lookup("x"); !errors.Is(err, pxar.ErrFormat) || c.calls > 300 {
		t.Errorf("%d reads, %v", c.calls, err)
	}
}

func TestFailingReaderIsNotDamage(t *testing.T) {
	broken := errors.New("disk gone")
	b := file(t, "full.pxar")
	for n := int64(0); n < int64(len(b)); n += 97 {
		r, err := pxar.NewReader(io.MultiReader(bytes.NewReader(b[:n]), failReader{broken}), nil)
		for err == nil {
			if _, err = r.Next(); err == nil {
				_, err = io.Copy(io.Discard, r)
			}
		}
		if !errors.Is(err, broken) || errors.Is(err, pxar.ErrFormat) {
			t.Fatalf("byte %d: Reader: %v", n, err)
		}
		a, err := pxar.OpenArchive(failAt{b, n, broken}, int64(len(b)), nil, 0)
		if err == nil {
			_, _, err = roam(a, true, 100)
		}
		if !errors.Is(err, broken) || errors.Is(err, pxar.ErrFormat) {
			t.Fatalf("byte %d: Archive: %v", n, err)
		}
	}
}

type failReader struct{ err error }

func (f failReader) Read([]byte) (int, error) { return 0, f.err }

// failAt fails reads that touch one byte.
type failAt struct {
	b   []byte
	bad int64
	err error
}

func (f failAt) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.bad && f.bad < off+int64(len(p)) {
		return 0, f.err
	}
	return bytes.NewReader(f.b).ReadAt(p, off)
}
