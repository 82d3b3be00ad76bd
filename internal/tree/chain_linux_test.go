package tree_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/chunker"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// store keeps chunks, and cuts payload streams into them.
type store map[digest.Digest][]byte

// stream is a payload stream that is being cut: a second writing of what the
// pipeline does, for the smallest chunks that there are.
type stream struct {
	store   store
	cut     *chunker.Payload
	pieces  *chunker.Pieces
	chunk   []byte
	index   []didx.Entry
	at      int64
	reused  [][]tree.Chunk
	written int64
}

const average = 64 << 10

func newStream(t testing.TB, s store) *stream {
	c, err := chunker.NewPayload(average)
	if err != nil {
		t.Fatal(err)
	}
	st := &stream{store: s, cut: c}
	st.pieces = chunker.NewPieces(st.piece)
	return st
}

func (s *stream) Write(b []byte) (int, error) {
	s.written += int64(len(b))
	return s.pieces.Write(b)
}

func (s *stream) Hint(off int64) { s.cut.Hint(off) }

func (s *stream) Reuse(at int64, chunks []tree.Chunk) error {
	var size int64
	for _, c := range chunks {
		if len(s.store[c.Digest]) != c.Length {
			return fmt.Errorf("a chunk of %d bytes is taken over, and there is one of %d", c.Length, len(s.store[c.Digest]))
		}
		size += int64(c.Length)
	}
	s.reused = append(s.reused, chunks)
	return s.cut.Inject(chunker.Injection{At: at, Size: size})
}

func (s *stream) add(d digest.Digest, n int) {
	s.at += int64(n)
	s.index = append(s.index, didx.Entry{End: uint64(s.at), Digest: d})
}

func (s *stream) end() {
	if len(s.chunk) > 0 {
		d := digest.Of(s.chunk)
		s.store[d] = bytes.Clone(s.chunk)
		s.add(d, len(s.chunk))
		s.chunk = s.chunk[:0]
	}
}

func (s *stream) piece(b []byte) error {
	for {
		n, what := s.cut.Scan(b)
		s.chunk = append(s.chunk, b[:n]...)
		b = b[n:]
		switch what {
		case chunker.More:
			return nil
		case chunker.Inject:
			s.end()
			for _, c := range s.reused[0] {
				s.add(c.Digest, c.Length)
			}
			s.reused = s.reused[1:]
		default:
			s.end()
		}
	}
}

// file is the index as it would be stored, and the stream that it stands for.
func (s *stream) file(t testing.TB) (idx *didx.Index, content []byte) {
	if err := errors.Join(s.pieces.Flush(), s.piece(nil), s.cut.Close()); err != nil {
		t.Fatal(err)
	}
	s.end()
	raw := didx.Header{}.Append(nil)
	for _, e := range s.index {
		raw = e.Append(raw)
		content = append(content, s.store[e.Digest]...)
	}
	idx, err := didx.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return idx, content
}

// made is an archive of version 2.
type made struct {
	meta    []byte
	index   *didx.Index
	content []byte
	report  tree.Report
	written int64 // to the payload stream, not taken over
}

func archive(t testing.TB, s store, dir string, before *made, o tree.Options) *made {
	t.Helper()
	if before != nil {
		r, err := pxar.NewReader(bytes.NewReader(before.meta), nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Base = &tree.Base{Meta: r, Payload: before.index}
	}
	if o.Problem == nil {
		o.Problem = func(p tree.Problem) { t.Errorf("problem: %s", p) }
	}
	var meta bytes.Buffer
	st := newStream(t, s)
	rep, err := tree.Archive(t.Context(), dir, tree.Output{Meta: &meta, Payload: st}, o)
	if err != nil {
		t.Fatal(err)
	}
	if rep.BaseError != nil {
		t.Errorf("base: %v", rep.BaseError)
	}
	m := &made{meta: meta.Bytes(), report: rep, written: st.written}
	m.index, m.content = st.file(t)
	return m
}

// lines describes the archive, a line an entry, in order.
func (m *made) lines(t testing.TB) (all []string) {
	t.Helper()
	r, err := pxar.NewReader(bytes.NewReader(m.meta), bytes.NewReader(m.content))
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == pxar.End || len(r.Path()) == 0 {
			continue
		}
		line := fmt.Sprintf("%q %s %o %d %d.%09d", pxar.Join(r.Path()), e.Kind, e.Mode, e.UID, e.Mtime.Sec, e.Mtime.Nsec)
		switch e.Kind {
		case pxar.File:
			h := sha256.New()
			if n, err := io.Copy(h, r); err != nil || n != e.Size {
				t.Fatalf("%s: %d bytes of %d: %v", pxar.Join(r.Path()), n, e.Size, err)
			}
			line += fmt.Sprintf(" %d %x", e.Size, h.Sum(nil)[:8])
		case pxar.Symlink:
			line += " " + e.Target
		case pxar.Hardlink:
			line = fmt.Sprintf("%q hardlink %q", pxar.Join(r.Path()), "/"+e.Target)
		}
		all = append(all, line)
	}
}

// walk describes a directory in the same way, without a line of the code under
// test.
func walk(t testing.TB, dir string) (all []string) {
	t.Helper()
	first := map[uint64]string{}
	var down func(string)
	down = func(at string) {
		list, err := os.ReadDir(filepath.Join(dir, at))
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(list, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		for _, d := range list {
			path := at + "/" + d.Name()
			var st unix.Stat_t
			if err := unix.Lstat(dir+path, &st); err != nil {
				t.Fatal(err)
			}
			kind := pxar.KindOf(st.Mode)
			if kind == pxar.File && st.Nlink > 1 {
				if f, ok := first[st.Ino]; ok {
					all = append(all, fmt.Sprintf("%q hardlink %q", path, f))
					continue
				}
				first[st.Ino] = path
			}
			line := fmt.Sprintf("%q %s %o %d %d.%09d", path, kind, st.Mode, st.Uid, st.Mtim.Sec, st.Mtim.Nsec)
			switch kind {
			case pxar.File:
				b, err := os.ReadFile(dir + path)
				if err != nil {
					t.Fatal(err)
				}
				sum := sha256.Sum256(b)
				line += fmt.Sprintf(" %d %x", len(b), sum[:8])
			case pxar.Symlink:
				to, err := os.Readlink(dir + path)
				if err != nil {
					t.Fatal(err)
				}
				line += " " + to
			}
			all = append(all, line)
			if kind == pxar.Directory {
				down(path)
			}
		}
	}
	down("")
	return all
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Fatalf("entry %d:\ngot  %s\nwant %s", i, g, w)
		}
	}
}

// gardener changes a tree at random.
type gardener struct {
	t     *testing.T
	r     *rand.Rand
	dir   string
	clock int64
}

// files lists everything of a kind below the tree.
func (g *gardener) files(want func(os.DirEntry) bool) (all []string) {
	_ = filepath.WalkDir(g.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && want(d) {
			all = append(all, path)
		}
		return nil
	})
	return all
}

func (g *gardener) one(all []string) string { return all[g.r.IntN(len(all))] }

func (g *gardener) write(path string, n int) {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.r.Uint32())
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		g.t.Fatal(err)
	}
	g.clock++
	at := time.Unix(1_700_000_000+g.clock, g.clock)
	if err := os.Chtimes(path, at, at); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gardener) size() int {
	switch g.r.IntN(12) {
	case 0:
		return 0
	case 1:
		return g.r.IntN(600 << 10)
	case 2:
		return 64<<10 - 16
	}
	return g.r.IntN(9 << 10)
}

// step makes one change.
func (g *gardener) step() {
	dirs := g.files(os.DirEntry.IsDir)
	files := g.files(func(d os.DirEntry) bool { return d.Type().IsRegular() })
	name := filepath.Join(g.one(dirs), fmt.Sprintf("%c%d", 'a'+rune(g.r.IntN(26)), g.r.IntN(1000)))
	switch k := g.r.IntN(12); {
	case k < 5 || len(files) == 0:
		if _, err := os.Lstat(name); err != nil {
			g.write(name, g.size())
		}
	case k == 5:
		_ = os.Mkdir(name, 0o755)
	case k == 6:
		_ = os.Link(g.one(files), name)
	case k == 7:
		_ = os.Symlink("somewhere", name)
	case k == 8:
		_ = os.Remove(g.one(files))
	case k == 9:
		g.write(g.one(files), g.size())
	case k == 10:
		_ = os.Chmod(g.one(files), os.FileMode(0o600+g.r.IntN(64)))
	case k == 11 && len(dirs) > 1:
		if d := g.one(dirs[1:]); g.r.IntN(4) == 0 {
			_ = os.RemoveAll(d)
		} else {
			_ = os.Rename(d, name)
		}
	}
}

func TestArchivesThatTakeContentsOverHoldTheSameAsTheTree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range 4 {
		g := &gardener{t: t, r: rand.New(rand.NewPCG(seed, uint64(round))), dir: t.TempDir()}
		s := store{}
		for range 150 {
			g.step()
		}
		var before *made
		for version := range 9 {
			m := archive(t, s, g.dir, before, tree.Options{Readers: 1 + version%4})
			compare(t, m.lines(t), walk(t, g.dir))
			if before != nil && version%3 == 2 && m.report.ReusedFiles != m.report.Files {
				// nothing was changed twice in a row: all is taken over by now
				t.Errorf("round %d: %d of %d files are taken over of an unchanged tree", round, m.report.ReusedFiles, m.report.Files)
			}
			if fresh := archive(t, store{}, g.dir, nil, tree.Options{}); !slices.Equal(fresh.lines(t), m.lines(t)) {
				t.Errorf("round %d: an archive made without the one before differs", round)
			}
			before = m
			if version%3 == 2 {
				for range 1 + g.r.IntN(30) {
					g.step()
				}
			}
		}
	}
}

func TestUnchangedTreeAddsNothingButTheMarkers(t *testing.T) {
	g := &gardener{t: t, r: rand.New(rand.NewPCG(1, 2)), dir: t.TempDir()}
	for range 300 {
		g.step()
	}
	s := store{}
	first := archive(t, s, g.dir, nil, tree.Options{})
	second := archive(t, s, g.dir, first, tree.Options{})
	if second.written != 32 || second.report.ReusedFiles != second.report.Files {
		t.Errorf("%d bytes were written, %d of %d files taken over", second.written, second.report.ReusedFiles, second.report.Files)
	}
	// The old start marker is padding now.
	if grown := len(second.content) - len(first.content); grown != 32 {
		t.Errorf("the payload stream grew by %d bytes, want the two markers", grown)
	}
	third := archive(t, s, g.dir, second, tree.Options{})
	if third.written != 32 || third.report.ReusedFiles != third.report.Files {
		t.Errorf("%d bytes were written, %d of %d files taken over", third.written, third.report.ReusedFiles, third.report.Files)
	}
}

func TestArchiveIsTheSameHoweverManyReadersThereAre(t *testing.T) {
	g := &gardener{t: t, r: rand.New(rand.NewPCG(3, 4)), dir: t.TempDir()}
	for range 200 {
		g.step()
	}
	one := archive(t, store{}, g.dir, nil, tree.Options{Readers: 1})
	many := archive(t, store{}, g.dir, nil, tree.Options{Readers: tree.MaxReaders})
	if !bytes.Equal(one.meta, many.meta) || !bytes.Equal(one.content, many.content) {
		t.Error("the archives differ")
	}
}

func TestContentIsReadWhenTheChunkHoldsLittleElse(t *testing.T) {
	dir := t.TempDir()
	g := &gardener{t: t, r: rand.New(rand.NewPCG(5, 6)), dir: dir}
	for i := range 40 {
		g.write(fmt.Sprintf("%s/f%02d", dir, i), 4000)
	}
	s := store{}
	first := archive(t, s, dir, nil, tree.Options{})
	for i := range 40 {
		if i != 20 {
			if err := os.Remove(fmt.Sprintf("%s/f%02d", dir, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	second := archive(t, s, dir, first, tree.Options{})
	compare(t, second.lines(t), walk(t, dir))
	if second.report.ReusedFiles != 0 || len(second.content) > 5000 {
		t.Errorf("%d files are taken over, the payload stream has %d bytes", second.report.ReusedFiles, len(second.content))
	}
}
