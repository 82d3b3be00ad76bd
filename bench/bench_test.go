//go:build linux

package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// sparseFilePair writes two files with the same random data and holes, and
// returns their names.
func sparseFilePair(t *testing.T, seed uint64) (a, b string) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	a, b = filepath.Join(dir, "a"), filepath.Join(dir, "b")
	size := 4*mib + r.Int64N(mib)
	for _, name := range []string{a, b} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
	}
	for range r.IntN(6) {
		data := make([]byte, 1+r.IntN(300<<10))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		at := r.Int64N(size - int64(len(data)))
		poke(t, a, at, data)
		poke(t, b, at, data)
	}
	return a, b
}

func poke(t *testing.T, name string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
}

func TestComparisonFindsEveryChangedByte(t *testing.T) {
	for seed := range uint64(30) {
		a, b := sparseFilePair(t, seed)
		if err := same(a, b); err != nil {
			t.Fatalf("seed %d: equal files: %v", seed, err)
		}
		r := rand.New(rand.NewPCG(seed, 1))
		info, err := os.Stat(a)
		if err != nil {
			t.Fatal(err)
		}
		at := r.Int64N(info.Size())
		old := make([]byte, 1)
		f, err := os.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(old, at); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		poke(t, b, at, []byte{old[0] ^ 0x40})
		if same(a, b) == nil {
			t.Fatalf("seed %d: a changed byte at %d of %d went unnoticed", seed, at, info.Size())
		}
		p, err := openPair(a, b)
		if err != nil {
			t.Fatal(err)
		}
		var found []extent
		err = p.differing(64<<10, func(off, n int64) error { found = append(found, extent{off, n}); return nil })
		_ = p.Close()
		if err != nil || len(found) != 1 || found[0].Offset != at>>16<<16 {
			t.Fatalf("seed %d: pieces %v, %v; the byte is at %d", seed, found, err, at)
		}
	}
}

func TestComparisonRefusesAnotherSize(t *testing.T) {
	a, b := sparseFilePair(t, 1)
	if err := os.Truncate(b, 100); err != nil {
		t.Fatal(err)
	}
	if err := same(a, b); err == nil {
		t.Fatal("files of different sizes are the same")
	}
}

func TestZerosEqualAHole(t *testing.T) {
	a, b := sparseFilePair(t, 2)
	for _, name := range []string{a, b} {
		if err := os.Truncate(name, 8*mib); err != nil {
			t.Fatal(err)
		}
	}
	poke(t, b, 6*mib, make([]byte, 100000))
	if err := same(a, b); err != nil {
		t.Fatal(err)
	}
}

func TestPageKeepsWhatPeopleWrote(t *testing.T) {
	name := filepath.Join(t.TempDir(), "docs", "benchmarks.md")
	res := &results{Tools: []toolFacts{{Name: "holdfast"}, {Name: "borg", Dedup: true}}}
	for round, s := range []float64{4, 1, 2} {
		res.Samples = append(res.Samples,
			sample{"hot", round, "holdfast", jobFirst, measure.Cost{Seconds: s, CPU: 1, RSS: 50 * mib}},
			sample{"hot", round, "borg", jobFirst, measure.Cost{Seconds: 3 * s, CPU: 1, RSS: 70 * mib}})
	}
	if err := writePage(name, res); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.00 (1.00–4.00)", "6.00 (3.00–12.00)", "| first backup | borg | ≤ 0.5 | 0.333 | met |"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	page = append([]byte("A remark.\n"), append(page, "What bounds it.\n"...)...)
	if err := os.WriteFile(name, page, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writePage(name, res); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(again, page) {
		t.Errorf("written twice, the page is\n%s\nwant\n%s", again, page)
	}
}
