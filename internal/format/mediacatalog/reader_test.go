package mediacatalog_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
)

func TestLogThatEndsAnywhereIsGoodUpToItsLastWholeRecord(t *testing.T) {
	w := golden(t)
	w.archive(5, "store2", digest.Digest{1}, digest.Digest{2})
	w.snapshot(7, "store2", "ns/a/ct/7/2024-01-01T00:00:00Z")
	good := append([]int{0, 8}, w.ends...)
	for n := range len(w.log) + 1 {
		r := mediacatalog.NewReader(bytes.NewReader(w.log[:n]))
		_, err := readAll(r)
		want := 0
		for _, g := range good {
			if g <= n {
				want = g
			}
		}
		wantErr := mediacatalog.ErrTorn
		if want == n {
			wantErr = io.EOF
		}
		if !errors.Is(err, wantErr) || r.Good() != int64(want) {
			t.Fatalf("%d bytes: good up to %d, %v; want %d, %v", n, r.Good(), err, want, wantErr)
		}
	}
}

func TestWriterGoesOnWhereTheGoodPartEnds(t *testing.T) {
	whole := golden(t)
	for n := range whole.log {
		r := mediacatalog.NewReader(bytes.NewReader(whole.log[:n]))
		_, _ = readAll(r)
		w := &writer{t: t, log: bytes.Clone(whole.log[:r.Good()]), state: r.State()}
		calls := slices.Index(append([]int{0}, whole.ends...), int(r.Good()))
		if r.Good() == 8 {
			calls = 0
		}
		for _, call := range []func(){
			func() { w.label(0, medium, 0) },
			func() { w.label(1, mediaSet, 0) },
			func() { w.archive(2, "store1", hello) },
			func() { w.snapshot(3, "store1", "vm/100/2023-11-14T22:13:20Z") },
		}[calls:] {
			call()
		}
		if !bytes.Equal(w.log, whole.log) {
			t.Fatalf("cut at %d and continued at %d, the log is another one", n, r.Good())
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	archive := func(t *testing.T) *writer {
		w := &writer{t: t}
		w.label(0, medium, 0)
		w.archive(4, "store1", hello)
		return w
	}
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T) []byte
		good  int64
	}{
		{"a foreign file", func(t *testing.T) []byte { return append([]byte{1}, golden(t).log...) }, 0},
		{"an unknown tag", func(t *testing.T) []byte { return append(golden(t).log, 'X') }, 238},
		{"zeros", func(t *testing.T) []byte { return append(golden(t).log, make([]byte, 100)...) }, 238},
		{"a third label", func(t *testing.T) []byte {
			w := golden(t)
			return append(w.log, w.log[8:41]...)
		}, 238},
		{"a set's label without the medium's", func(t *testing.T) []byte {
			b := golden(t).log
			return append(b[:8], b[41:]...)
		}, 8},
		{"an archive in a label's place", func(t *testing.T) []byte {
			b := archive(t).log
			b[42] = 1
			return b
		}, 41},
		{"a file number that does not grow", func(t *testing.T) []byte {
			w := archive(t)
			return append(w.log, w.log[41:]...)
		}, int64(41 + 33 + 6 + 33 + 25)},
		{"a chunk outside archives", func(t *testing.T) []byte {
			w := archive(t)
			return append(w.log, w.log[80:113]...)
		}, int64(41 + 33 + 6 + 33 + 25)},
		{"an archive inside another", func(t *testing.T) []byte {
			b := archive(t).log
			return append(b[:80:80], b[41:]...)
		}, 41},
		{"the end of another archive", func(t *testing.T) []byte {
			b := archive(t).log
			b[len(b)-1] ^= 1
			return b
		}, 41},
		{"an end without an archive", func(t *testing.T) []byte {
			b := archive(t).log
			return append(b[:41:41], b[len(b)-25:]...)
		}, 41},
		{"a store that leaves its directory", func(t *testing.T) []byte {
			b := archive(t).log
			copy(b[74:], "../../")
			return b
		}, 41},
		{"a snapshot that is none", func(t *testing.T) []byte {
			b := golden(t).log
			b[len(b)-1] = 'X'
			return b
		}, 171},
		{"a snapshot without a separator", func(t *testing.T) []byte {
			b := golden(t).log
			b[171+33+6] = '.'
			return b
		}, 171},
		{"a snapshot inside an archive", func(t *testing.T) []byte {
			b := golden(t).log
			return append(b[:146:146], b[171:]...)
		}, 74},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := mediacatalog.NewReader(bytes.NewReader(tc.spoil(t)))
			_, err := readAll(r)
			if !errors.Is(err, mediacatalog.ErrCorrupt) || errors.Is(err, mediacatalog.ErrTorn) {
				t.Errorf("err = %v, want ErrCorrupt", err)
			}
			if r.Good() != tc.good {
				t.Errorf("good up to %d, want %d", r.Good(), tc.good)
			}
			if _, again := r.Next(); again != err {
				t.Errorf("then %v", again)
			}
		})
	}
}

func TestErrorsOfTheDiskAreNotDamage(t *testing.T) {
	broken := errors.New("disk gone")
	log := golden(t).log
	for _, n := range []int{0, 4, 8, 100, 113, 120} {
		_, err := readAll(mediacatalog.NewReader(io.MultiReader(bytes.NewReader(log[:n]), iotest.ErrReader(broken))))
		if !errors.Is(err, broken) || errors.Is(err, mediacatalog.ErrTorn) || errors.Is(err, mediacatalog.ErrCorrupt) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestRefusedRecordsLeaveTheWriterAsItWas(t *testing.T) {
	w := golden(t)
	before := w.state
	_, label := w.state.AppendLabel(nil, 1, mediaSet, 0)
	_, old := w.state.AppendArchive(nil, 3, content(3), "store1", slices.Values([]digest.Digest{hello}))
	_, store := w.state.AppendArchive(nil, 4, content(3), "a/b", slices.Values([]digest.Digest{hello}))
	_, first := w.state.AppendSnapshot(nil, 3, content(3), "store1", snapshot(t, "vm/1/2023-11-14T22:13:20Z"))
	for name, err := range map[string]error{"label": label, "old file": old, "store": store, "old snapshot": first} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if w.state != before {
		t.Fatal("the state changed")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(golden(f).log)
	w := &writer{t: f}
	w.label(0, medium, 0)
	w.archive(9, "store1")
	w.snapshot(10, "store1", "ns/a/ns/b/host/x/2023-11-14T22:13:20Z")
	f.Add(w.log)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := mediacatalog.NewReader(bytes.NewReader(b))
		all, _ := readAll(r)
		if r.Good() > int64(len(b)) {
			t.Fatalf("good up to %d of %d bytes", r.Good(), len(b))
		}
		if r.Good() <= 8 {
			return
		}
		// What is good says the same when it is written again.
		w := &writer{t: t}
		var chunks []digest.Digest
		for _, rec := range all {
			if rec.Offset >= r.Good() {
				break
			}
			switch rec.Kind {
			case mediacatalog.Label:
				w.done(w.state.AppendLabel(w.log, rec.File, rec.UUID, rec.Seq))
			case mediacatalog.ArchiveStart:
				chunks = nil
			case mediacatalog.Chunk:
				chunks = append(chunks, rec.Digest)
			case mediacatalog.ArchiveEnd:
				w.done(w.state.AppendArchive(w.log, rec.File, rec.UUID, rec.Store, slices.Values(chunks)))
			case mediacatalog.Snapshot:
				w.done(w.state.AppendSnapshot(w.log, rec.File, rec.UUID, rec.Store, snapshot(t, rec.Path)))
			}
		}
		again := mediacatalog.NewReader(bytes.NewReader(w.log))
		back, err := readAll(again)
		if err != io.EOF || !slices.Equal(back, all[:len(back)]) || again.State() != r.State() || again.Good() != r.Good() {
			t.Fatalf("%+v comes back as %+v, %v", all, back, err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	w := &writer{t: b}
	w.label(0, medium, 0)
	chunks := make([]digest.Digest, 100_000)
	for i := range chunks {
		chunks[i] = digest.Digest{byte(i), byte(i >> 8), byte(i >> 16)}
	}
	w.archive(2, "store1", chunks...)
	b.SetBytes(int64(len(w.log)))
	b.ReportAllocs()
	for b.Loop() {
		r := mediacatalog.NewReader(bytes.NewReader(w.log))
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	}
}
